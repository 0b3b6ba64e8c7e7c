"""``rnnjax tasks`` and ``rnnjax train --task NAME``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.folder import RESULT, TASK
from rnnjax.cli.settings import NAMES
from rnnjax.tasks import Recipe, Result, Setting, named
from rnnjax.tasks import run as run_recipe
from rnnjax.tasks.listing import listing

ALLOWED = ("seed", "steps")  # of the settings of other runs


def run(args: argparse.Namespace) -> int:
    """Prints the recipes: name, set, metric, floor, reached, seconds."""
    rows = listing()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    number = lambda value: "-" if value is None else f"{value:.4g}"
    lines = [("task", "floor", "reached", "seconds", "metric; set")]
    for row in rows:
        floor, reached, seconds = (number(row[name]) for name in ("floor", "reached", "seconds"))
        lines.append((row["name"], floor, reached, seconds, f"{row['metric']}; {row['set']}"))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    for name, *numbers, what in lines:
        columns = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:])]
        print(f"{name:<{widths[0]}}  {'  '.join(columns)}  {what}")
    print("\nTrain one: rnnjax train --task NAME")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax tasks``."""
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def add_train_arguments(parser: argparse._ArgumentGroup) -> None:
    """The flags of ``rnnjax train`` that are for tasks."""
    parser.add_argument("--task", metavar="NAME", help="a recipe in place of --data; `rnnjax tasks` lists them")
    parser.add_argument("--full", action="store_true", help="with --task: the long run, in place of some minutes")


def train(args: argparse.Namespace) -> int:
    """Runs a recipe, and tells what it reached beside its floors."""
    recipe = named(args.task)
    check_alone(args)
    out = _fresh(recipe.name) if args.out is None else Path(args.out)
    check_new(out, args.overwrite)
    with folders.held(out):
        folders.clear(out)
        print(f"{recipe.name}: {recipe.set}\nwriting to {out}", flush=True)
        report = None if sys.stderr.isatty() else lambda line: say(recipe, line)
        setting = Setting(args.seed or 0, args.full, steps=args.steps)
        result = run_recipe(recipe, out, setting=setting, report=report)
    print(told(result))
    return 0


def check_alone(args: argparse.Namespace) -> None:
    """Raises: BadInput on a flag that a recipe leaves no room for."""
    for name in (*NAMES, "devices", "resume"):
        if name not in ALLOWED and getattr(args, name) not in (None, False):
            raise BadInput(
                f"--{name.replace('_', '-')} does not go with --task, whose recipe says all of that; "
                "--full, --seed, --steps, --out and --overwrite do"
            )


def check_new(out: Path, overwrite: bool) -> None:
    """Raises: BadInput if ``out`` holds a run that may not be replaced, or what no run wrote."""
    if (out / TASK).exists() and not overwrite:
        raise BadInput(f"{out} exists already; replace it by --overwrite, or give another --out")
    folders.check_new(out, overwrite)


def _fresh(name: str, root: str = "rnnjax-runs") -> Path:
    """The first free ``rnnjax-runs/<task>-<n>``."""
    n = 1
    while (Path(root) / f"{name}-{n}").exists():
        n += 1
    return Path(root) / f"{name}-{n}"


def say(recipe: Recipe, line: dict[str, Any]) -> None:
    """One line for a log where there is no terminal to draw on: each validation."""
    if line.get("split") == "valid" and not line.get("kept"):
        print(
            f"step {line['step']}: {recipe.metric} {line[recipe.metric]:.4f} on valid, {line['seconds']:.0f} s",
            flush=True,
        )


def told(result: Result) -> str:
    """What a run reached, beside what needs no recurrence; the best last."""
    recipe, rows = result.recipe, {**result.floors, "this network": result.ours}
    width = max(map(len, (*rows, *result.parts)))
    best_last = sorted(rows.items(), key=lambda row: row[1], reverse=recipe.better == "lower")
    line = lambda row: f"  {row[0]:<{width}}  {row[1]:.4f}"
    parts = ["", "which is made of, or goes with:", "", *map(line, result.parts.items())] if result.parts else []
    beside = ["", f"Elsewhere: {recipe.beside}."] if recipe.beside else []
    verdict = "is beaten" if result.beaten else "is not beaten"
    lines = [
        *(["", result.shown] if result.shown else []),
        f"\n{recipe.metric} on the test split ({recipe.better} is better):\n",
        *map(line, best_last),
        *parts,
        *beside,
        f"\nThe best score without recurrence {verdict}. {result.seconds:.0f} seconds; {RESULT} has the numbers.",
    ]
    return "\n".join(lines)

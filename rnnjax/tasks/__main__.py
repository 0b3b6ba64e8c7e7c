"""``python -m rnnjax.tasks NAME ...`` runs recipes and writes what they gave into docs/results.json, .md and .png."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import jax

import rnnjax as rj
from rnnjax.tasks.listing import named, recipes
from rnnjax.tasks.picture import draw
from rnnjax.tasks.recipe import Setting
from rnnjax.tasks.run import Result, run

HEAD = """# What the recipes reach

`rnnjax train --task NAME` runs a recipe; `rnnjax tasks` lists them. The floor is the best score without recurrence on the same test
split, recomputed in every run; everything is chosen on a validation split, and a run reads the test split
once (the settings of addition, languages, sentiment and speakers were found by trials that showed a test score too). Seconds are those of
the clock on two cores, download and floors included, with other programs running beside. CPU seconds are those of all cores
together: about what the clock shows where nothing else runs.
Made by `python -m rnnjax.tasks NAME ... --seeds 0 1 2`, which measures the tasks named anew and keeps the others.

![For each task the error that is left, as a multiple of the floor's](results.png)

| task | set | metric | floor | ours | seeds | seconds | CPU seconds | beaten |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m rnnjax.tasks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(recipes())}; none only draws table and picture"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--full", action="store_true", help="the long runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="DIR")
    args = parser.parse_args()
    for name in args.names:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as out:
                result = run(named(name), out, setting=Setting(seed, args.full))
            record(args.docs / "results.json", as_run(result))
            print(result.summary(), flush=True)
    content = json.loads((args.docs / "results.json").read_text(encoding="utf-8"))
    (args.docs / "results.md").write_text(table(content), encoding="utf-8")
    draw(content, args.docs / "results.png")


def as_run(result: Result) -> dict[str, Any]:
    """One line of ``results.json``."""
    setting = {"seed": result.setting.seed, "full": result.setting.full}
    made = {"rnnjax": rj.__version__, "jax": jax.__version__, "python": platform.python_version()}
    more = {"cpu_seconds": result.cpu, "parts": result.parts, "floors": result.floors, "versions": made}
    return setting | result.summary() | more


def record(path: Path, run: dict[str, Any]) -> None:
    """Puts a run into the file, in place of the one of the same task, seed and length."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": [], "notes": {}}
    same = lambda other: all(other[name] == run[name] for name in ("task", "seed", "full"))
    content["runs"] = sorted(
        [*(other for other in content["runs"] if not same(other)), run], key=lambda r: (r["task"], r["full"], r["seed"])
    )
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(content: dict[str, Any]) -> str:
    """``results.md``: a row a task, parts and remarks below."""
    rows, below = [], []
    for name, recipe in recipes().items():
        for full in (False, True):
            runs = [r for r in content["runs"] if r["task"] == name and r["full"] == full]
            if runs:
                title = f"`{name}`{' --full' if full else ''}"
                rows.append(f"| {title} | {recipe.set} | {recipe.metric}, {recipe.better} is better {_numbers(runs)}")
                below.append(f"**{title}** " + " ".join(_remarks(recipe, runs, content["notes"].get(name, ""))))
    return HEAD + "\n".join(rows) + "\n\n" + "\n\n".join(below) + "\n"


def _numbers(runs: list[dict[str, Any]]) -> str:
    floor, ours = _spread(runs, "floor"), _spread(runs, "ours")
    seeds = ", ".join(str(run["seed"]) for run in runs)
    seconds = [f"{sum(run[name] for run in runs) / len(runs):.0f}" for name in ("seconds", "cpu_seconds")]
    beaten = sum(run["beaten"] for run in runs)
    word = "yes" if beaten == len(runs) else "no" if not beaten else f"{beaten} of {len(runs)}"
    return f"| {floor} | {ours} | {seeds} | {' | '.join(seconds)} | {word} |"


def _spread(runs: list[dict[str, Any]], name: str) -> str:
    """The mean over seeds, and from where to where they go."""
    values = [run[name] for run in runs]
    mean, low, high = sum(values) / len(values), min(values), max(values)
    return f"{mean:.4f}" if high - low < 5e-5 else f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _remarks(recipe: Any, runs: list[dict[str, Any]], note: str) -> list[str]:
    mean = lambda group, name: sum(run[group][name] for run in runs) / len(runs)
    floors = ", ".join(f"{name} {mean('floors', name):.4f}" for name in runs[0]["floors"])
    parts = ", ".join(f"{name} {mean('parts', name):.4f}" for name in runs[0]["parts"])
    said = [
        f"Floors: {floors}.",
        f"Ours: {parts}." if parts else "",
        f"Elsewhere: {recipe.beside}." if recipe.beside else "",
    ]
    return [sentence for sentence in (*said, note) if sentence]


if __name__ == "__main__":
    main()

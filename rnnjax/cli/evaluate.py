"""``rnnjax eval``: the number of the training run, measured again, or of other data."""

from __future__ import annotations

import argparse
from pathlib import Path

from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.labels import other_task
from rnnjax.cli.load import Loaded, load
from rnnjax.cli.train import check_same_data, comparison, number_at, show_confusion
from rnnjax.cli.work import make_task
from rnnjax.train import metrics


def run(args: argparse.Namespace) -> int:
    """Prints the held-out number of the best parameters, the one recorded in training, and the baselines."""
    folder = Path(args.folder)
    loaded = load(folder)
    if args.data is None:
        task = make_task(loaded.settings)
        check_same_data(task, loaded.config, folder)
    elif "classes" in loaded.memory:
        task = other_task(loaded.settings, loaded.memory, args.data)
    else:
        raise BadInput(
            f"--data is for runs with --label; {folder} is measured on what it held out: rnnjax eval {folder}"
        )
    measured = task.measure(loaded.params)[task.unit]
    print(f"{task.unit} {measured!r}")
    if args.data is None and loaded.loss is not None:
        print(f"recorded in training: {recorded(loaded, folder, task.unit)!r} at step {loaded.step}")
    print(comparison(task.baselines(), measured, "this network", task.higher))
    if task.told is not None:
        print("\n" + task.told(loaded.params, None))
    if task.confusion is not None:
        show_confusion(task, loaded.params)
    return 0


def recorded(loaded: Loaded, folder: Path, unit: str) -> float | None:
    """The number of the best validation, as ``metrics.jsonl`` has it."""
    return number_at(metrics.read(folder / folders.METRICS), loaded.step, unit)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax eval``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")
    parser.add_argument(
        "--data", metavar="FILE", help="a table with the columns of a run with --label, to be measured on whole"
    )

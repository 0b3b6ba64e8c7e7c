"""``rnnjax eval``: the number of the training run, measured again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rnnjax.cli.load import load
from rnnjax.cli.train import check_same_data, comparison
from rnnjax.cli.work import make_task


def run(args: argparse.Namespace) -> int:
    """Prints the held-out number of the best parameters, the one recorded in training, and the baselines."""
    loaded = load(Path(args.folder))
    task = make_task(loaded.settings)
    check_same_data(task, loaded.config, Path(args.folder))
    measured = task.derive(task.validate(loaded.params))[task.unit]
    print(f"{task.unit} {measured!r}")
    if loaded.loss is not None:
        print(f"recorded in training: {task.derive(loaded.loss)[task.unit]!r} at step {loaded.step}")
    print(comparison(task.baselines(), measured, "this network"))
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax eval``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run")

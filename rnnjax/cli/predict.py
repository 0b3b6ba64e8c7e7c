"""``rnnjax predict``: the class of each sequence in a file."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.cli.classifier import logits_of
from rnnjax.cli.errors import BadInput
from rnnjax.cli.labels import Seen, read
from rnnjax.cli.load import load
from rnnjax.cli.settings import Settings
from rnnjax.data.labelled import Labelled


def run(args: argparse.Namespace) -> int:
    """Prints CSV, a line for each sequence in the order of the file: the sequence, its class, and how sure the network is."""
    loaded = load(Path(args.folder))
    if "classes" not in loaded.memory:
        raise BadInput(
            f"predict says classes, and {args.folder} was trained without --label; it goes on with what it saw by rnnjax sample "
            f"{args.folder}"
        )
    seen = Seen.of(loaded.memory)
    data = read(loaded.settings, args.file, label=False, columns=seen.columns or None)
    logits = logits_of(loaded.cell, seen.encode(data.sequences), **loaded.settings.precision)(loaded.params)
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write([str(loaded.settings.text or loaded.settings.series), "predicted", "probability"])
    for name, row in zip(names_of(data, loaded.settings), softmax(logits)):
        write([name, seen.classes[int(row.argmax())], f"{row.max():.4f}"])
    return 0


def names_of(data: Labelled, settings: Settings) -> list[Any]:
    """What the first column of the output says: the text itself, or the name of the sequence."""
    return data.sequences if settings.text is not None else data.ids


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``[N, classes]``."""
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``rnnjax predict``."""
    parser.add_argument("folder", metavar="DIR", help="the folder of a run with --label")
    parser.add_argument(
        "file", metavar="FILE", help="a table with the columns of the sequences; that of the labels need not be there"
    )

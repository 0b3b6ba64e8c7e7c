"""The flags of ``rnnjax train`` that are settings, group by group. They default to None, so that what was given can be told apart."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import rnnjax as rj
from rnnjax.cli.kinds import count, decay, held_share, natural, positive, segments, share, shares
from rnnjax.cli.memory import size
from rnnjax.cli.settings import AHEAD_DEFAULTS, LABEL_DEFAULTS, TABLE_DEFAULTS, Settings, cell_names

Add = Callable[..., Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of them."""
    for title, add_group in GROUPS.items():
        add_group(parser.add_argument_group(title).add_argument)


def add_run_arguments(group: Any) -> None:
    """Of ``rnnjax train`` too: where and how this one run goes."""
    group.add_argument(
        "--devices",
        type=count,
        metavar="N",
        help="split each batch over N CPU cores (or accelerators); 1 for one, as where other programs keep the cores busy. "
        "By default all cores where that is faster, and one accelerator where there is one; a run goes on with as many "
        "as it began",
    )
    group.add_argument("--out", metavar="DIR", help="where to write (default: a fresh folder under rnnjax-runs/)")
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out; only --steps and --patience may be given anew",
    )
    group.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    group.add_argument(
        "--memory",
        type=size,
        nargs="?",
        const=0,
        metavar="SIZE",
        help="train nothing: say what a step takes by each --checkpoint, and the fastest that fits into SIZE (2GB)",
    )


def data(add: Add) -> None:
    """What is read."""
    add(
        "--data",
        metavar="FILE",
        nargs="+",
        help="a text or several, or a .csv file whose numeric columns are forecast one step ahead; .gz too; - for standard "
        "input (default: Python's own documentation, from the standard library)",
    )
    add("--encoding", metavar="NAME", help="of --data (default: UTF-8, or UTF-16 by its mark)")
    held = "share of the data that is held out to measure on: the end, or that of each class"
    _flag(add, "held_out", held_share, "X", held)


def tables(add: Add) -> None:
    """How a table is written."""
    add("--sep", metavar="X", help="what separates the cells: , ; tab space (default: found)")
    add(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row names the columns (default: if a cell of it is no number, or all are years)",
    )
    add("--thousands", metavar="X", help="what stands between groups of digits: , . ' or a blank")
    for name, what in {"percent": "12 %% reads as 12", "currency": "signs and codes are taken off, ($5) is -5"}.items():
        add(f"--{name}", action="store_true", default=None, help=what)


def ahead(add: Add) -> None:
    """What is forecast, and how."""
    add("--horizon", type=count, metavar="N", help="forecast so many rows, with quantiles; then: rnnjax forecast DIR")
    add(
        "--target", action="append", metavar="COLUMN", help="what to forecast; again for another (default: all numbers)"
    )
    add("--date", metavar="COLUMN", help="the dates of the rows, a step apart (default: the first column of dates)")
    add("--drop", action="append", metavar="COLUMN", help="do not read this column; others are read beside the target")
    add(
        "--known",
        action="append",
        metavar="COLUMN",
        help="it is known in advance: a price, a holiday; again for another",
    )
    add(
        "--static",
        action="append",
        metavar="COLUMN",
        help="one value for each series of --series COLUMN (default: those that are)",
    )
    add(
        "--gaps",
        choices=("masked", "grud"),
        help="missing values are masked, or fade as in GRU-D, which reads uneven dates too, as do the cells cfc, ctrnn and ltc "
        "(default: masked)",
    )
    add("--season", type=count, metavar="N", help="rows after which it repeats itself (default: found)")
    add(
        "--mode",
        choices=("direct", "recursive"),
        help="all rows at once, or one by one along drawn paths (default: direct)",
    )
    add(
        "--output",
        choices=rj.forecast.OUTPUTS,
        metavar="LAW",
        help=f"of a value: {', '.join(rj.forecast.OUTPUTS)} (default: quantiles)",
    )
    add("--quantiles", type=shares, metavar="Q,Q", help="the quantiles, increasing (default: 0.1,0.5,0.9)")


def labels(add: Add) -> None:
    """Which columns hold sequences and their classes."""
    add("--label", metavar="COLUMN", help="learn the classes in this column; --text or --series says of what")
    add("--text", metavar="COLUMN", help="each row holds a text, in this column")
    add(
        "--series",
        metavar="COLUMN",
        help="each row holds one step of a sequence of numbers, and this column says of which sequence; with --horizon the "
        "sequences are series to forecast",
    )


def network(add: Add) -> None:
    """The network."""
    _flag(add, "cell", str, "NAME", f"the recurrent cell: {', '.join(sorted(cell_names()))}")
    _flag(add, "hidden", count, "N", "features of each layer")
    _flag(add, "layers", count, "N", "layers")
    _flag(add, "dropout", share, "X", "dropout on the output of each layer, in [0, 1); for labels of what is read too")
    _flag(add, "members", count, "N", "networks that vote on a label, each learning on its own")
    add(
        "--init-from",
        metavar="DIR",
        help="begin with the network of the run in DIR, on other data; what it does not know of them starts fresh",
    )


def training(add: Add) -> None:
    """How it is trained."""
    _flag(add, "steps", count, "N", "optimisation steps")
    _flag(add, "batch", count, "N", "streams, or labelled sequences, read side by side")
    _flag(add, "time", count, "N", "steps of back-propagation through time; for labels, how far a sequence is read")
    _flag(add, "rate", positive, "X", "peak learning rate; a short warm-up, then a cosine down to a hundredth")
    _flag(add, "clip", positive, "X", "norm to which larger gradients are clipped")
    add(
        "--accumulate",
        type=count,
        metavar="N",
        help="the mean gradient of so many batches makes one update, as if --batch were N times as large; --steps, "
        "--validate-every and the metrics count batches (default 1)",
    )
    add(
        "--average",
        type=decay,
        metavar="X",
        help="measure and keep a moving average of the weights with this decay, such as 0.999; training goes on from the last "
        "ones (default none)",
    )
    _flag(add, "patience", count, "N", "stop after so many validations without a better one")
    _flag(add, "validate_every", count, "N", "steps between validations, each of which saves a checkpoint")
    _flag(add, "seed", natural, "N", "seed of the parameters, the order of the data and the noise")
    add(
        "--checkpoint",
        type=segments,
        metavar="N|sqrt",
        help="steps of time after which the carry is stored and the rest computed again: less memory, more time (default none)",
    )
    bf16 = "multiply in bfloat16, add in float32: faster on accelerators"
    add("--bf16", action="store_true", default=None, help=bf16)


GROUPS: dict[str, Callable[[Add], None]] = {
    "data": data,
    "tables": tables,
    "forecasts, of a table": ahead,
    "labelled sequences, in a table": labels,
    "network": network,
    "training": training,
}


def _flag(add: Add, name: str, kind: Any, metavar: str, what: str) -> None:
    """A flag with its defaults: for a text, and where others are better for tables or labels."""
    others = {
        "to forecast": TABLE_DEFAULTS.get(name),
        "with --horizon": AHEAD_DEFAULTS.get(name),
        "for labels": LABEL_DEFAULTS.get(name),
    }
    more = "".join(f", {what} {value}" for what, value in others.items() if value is not None)
    default = f" (default {getattr(Settings(), name)}{more})"
    add(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=what + default)

"""The settings of a run, as given on the command line and as kept in its ``config.json``."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax.numpy as jnp

import rnnjax as rj
from rnnjax.cli.errors import BadInput
from rnnjax.data import DataError, beginning, looks_like_table


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run; ``data`` None is Python's documentation. Defaults: a text."""

    data: str | tuple[str, ...] | None = None
    sep: str | None = None
    encoding: str | None = None
    header: bool | None = None
    thousands: str | None = None
    percent: bool = False
    currency: bool = False
    text: str | None = None
    series: str | None = None
    label: str | None = None
    horizon: int | None = None
    target: tuple[str, ...] | list[str] | None = None
    date: str | None = None
    drop: tuple[str, ...] | list[str] | None = None
    known: tuple[str, ...] | list[str] | None = None
    static: tuple[str, ...] | list[str] | None = None
    gaps: str = "masked"
    season: int | None = None
    mode: str = "direct"
    output: str = "quantiles"
    quantiles: tuple[float, ...] | list[float] = (0.1, 0.5, 0.9)
    held_out: float = 0.1
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    steps: int = 1200
    batch: int = 16
    time: int = 64
    rate: float = 8e-3
    dropout: float = 0.0
    clip: float = 1.0
    patience: int = 5
    validate_every: int = 100
    seed: int = 0
    bf16: bool = False
    init_from: str | None = None
    checkpoint: str | None = None
    accumulate: int = 1
    average: float | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Settings:
        """Those that were given; the others as suits the data."""
        given = {name: value for name, value in given.items() if value is not None}
        settings = cls(**given)
        defaults = (
            LABEL_DEFAULTS
            if settings.is_labelled
            else AHEAD_DEFAULTS
            if settings.is_ahead
            else TABLE_DEFAULTS
            if settings.is_table
            else {}
        )
        return cls(**defaults | given)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the data."""
        return () if self.data is None else (self.data,) if isinstance(self.data, str) else tuple(self.data)

    @property
    def file(self) -> str:
        """The path of a table. Raises: BadInput if there are several."""
        if len(self.files) != 1:
            raise BadInput(
                f"a table is one file, got {len(self.files)} ({', '.join(self.files)}); several are for texts"
            )
        return self.files[0]

    @property
    def precision(self) -> dict[str, Any]:
        """How products are computed and what is stored, for `rnnjax.unroll`."""
        return ({"matmul_dtype": jnp.bfloat16} if self.bf16 else {}) | (
            {"checkpoint": self.stored} if self.stored else {}
        )

    @property
    def stored(self) -> Any:
        """``checkpoint`` as `rnnjax.unroll` takes it."""
        return int(self.checkpoint) if self.checkpoint and self.checkpoint.isdigit() else self.checkpoint

    @property
    def is_labelled(self) -> bool:
        """Whether classes of sequences are learned; several series are forecast where there is a horizon and no class."""
        several = self.series is not None and self.horizon is None
        return several or self.text is not None or self.label is not None

    @property
    def is_ahead(self) -> bool:
        """Whether several rows are forecast. Raises: BadInput on flags of forecasts without the one that says how many."""
        if self.horizon is None:
            named = [
                name
                for name in ("target", "date", "drop", "known", "static", "season")
                if getattr(self, name) is not None
            ]
            if named and not self.is_labelled:
                raise BadInput(f"--{named[0]} goes with --horizon N, the number of rows to forecast; give it too")
            return False
        if not self.files or self.is_labelled:
            what = "--label, which learns classes" if self.files else "no --data; give the table to forecast"
            raise BadInput(f"--horizon forecasts the rows of a table, and there is {what}")
        return True

    @property
    def is_table(self) -> bool:
        """Whether the data are read as a table of numbers to forecast rather than as a text."""
        said = self.sep or self.header is not None or self.thousands or self.percent or self.currency
        return bool(self.files) and not self.is_labelled and bool(said or any(map(is_table, self.files)))

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


TABLE_DEFAULTS: dict[str, Any] = {"hidden": 64, "steps": 1000, "time": 48, "rate": 2e-3}
LABEL_DEFAULTS: dict[str, Any] = {"hidden": 64, "batch": 32, "time": 400, "rate": 2e-3, "dropout": 0.3}
AHEAD_DEFAULTS: dict[str, Any] = {"hidden": 64, "batch": 32, "steps": 1000, "rate": 2e-3, "validate_every": 50}
NAMES = tuple(f.name for f in fields(Settings))


def is_table(data: str) -> bool:
    """Whether a file is a table by its name, or for sure by how it begins (semicolons in a .txt)."""
    if data.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        return True
    try:
        return looks_like_table(beginning(data))
    except DataError:  # said when it is read whole
        return False


def cell_names(images: bool = False) -> dict[str, Any]:
    """The cells of the library by lower-case name; those that read images (``input_ndim``) only if asked for."""
    found = {name: getattr(rj.cells, name) for name in rj.cells.__all__}
    fits = lambda kind: hasattr(kind, "initial_carry") and (images or not hasattr(kind, "input_ndim"))
    return {name.lower(): kind for name, kind in found.items() if fits(kind)}


def cell_type(name: str) -> Any:
    """The cell called ``name``, in any case. Raises: BadInput suggesting the nearest."""
    known = cell_names(images=True)  # a reader of images says itself what it needs
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? (rnnjax train --help lists all)" if near else None
    raise BadInput(f"there is no cell {name!r}; {hint or 'the cells are ' + ', '.join(sorted(cell_names()))}")


def build(settings: Settings, outputs: int) -> Any:
    """The network of a run: layers of the cell, dropout on each if asked for, and a linear readout."""
    layer = cell_type(settings.cell)(settings.hidden)
    layer = rj.Dropout(layer, settings.dropout) if settings.dropout else layer
    return rj.Readout(layer if settings.layers == 1 else rj.Stack(*[layer] * settings.layers), outputs)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``rnnjax train`` that are settings. They default to None, so that what was given can be told apart."""
    data, tables, ahead, labels, network, training = (
        parser.add_argument_group(title).add_argument
        for title in (
            "data",
            "tables",
            "forecasts, of a table",
            "labelled sequences, in a table",
            "network",
            "training",
        )
    )
    data(
        "--data",
        metavar="FILE",
        nargs="+",
        help="a text or several, or a .csv file whose numeric columns are forecast one step ahead; .gz too; - for standard "
        "input (default: Python's own documentation, from the standard library)",
    )
    data("--encoding", metavar="NAME", help="of --data (default: UTF-8, or UTF-16 by its mark)")
    held = "share of the data that is held out to measure on: the end, or that of each class"
    _flag(data, "held_out", held_share, "X", held)
    tables("--sep", metavar="X", help="what separates the cells: , ; tab space (default: found)")
    tables(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row names the columns (default: if a cell of it is no number, or all are years)",
    )
    tables("--thousands", metavar="X", help="what stands between groups of digits: , . ' or a blank")
    for name, what in {"percent": "12 %% reads as 12", "currency": "signs and codes are taken off, ($5) is -5"}.items():
        tables(f"--{name}", action="store_true", default=None, help=what)
    ahead("--horizon", type=count, metavar="N", help="forecast so many rows, with quantiles; then: rnnjax forecast DIR")
    ahead(
        "--target", action="append", metavar="COLUMN", help="what to forecast; again for another (default: all numbers)"
    )
    ahead("--date", metavar="COLUMN", help="the dates of the rows, a step apart (default: the first column of dates)")
    ahead(
        "--drop", action="append", metavar="COLUMN", help="do not read this column; others are read beside the target"
    )
    ahead(
        "--known",
        action="append",
        metavar="COLUMN",
        help="it is known in advance: a price, a holiday; again for another",
    )
    ahead(
        "--static",
        action="append",
        metavar="COLUMN",
        help="one value for each series of --series COLUMN (default: those that are)",
    )
    ahead(
        "--gaps",
        choices=("masked", "grud"),
        help="missing values are masked, or fade as in GRU-D, which reads uneven dates too, as do the cells cfc, ctrnn and ltc "
        "(default: masked)",
    )
    ahead("--season", type=count, metavar="N", help="rows after which it repeats itself (default: found)")
    ahead(
        "--mode",
        choices=("direct", "recursive"),
        help="all rows at once, or one by one along drawn paths (default: direct)",
    )
    ahead(
        "--output",
        choices=rj.forecast.OUTPUTS,
        metavar="LAW",
        help=f"of a value: {', '.join(rj.forecast.OUTPUTS)} (default: quantiles)",
    )
    ahead("--quantiles", type=shares, metavar="Q,Q", help="the quantiles, increasing (default: 0.1,0.5,0.9)")
    labels("--label", metavar="COLUMN", help="learn the classes in this column; --text or --series says of what")
    labels("--text", metavar="COLUMN", help="each row holds a text, in this column")
    labels(
        "--series",
        metavar="COLUMN",
        help="each row holds one step of a sequence of numbers, and this column says of which sequence; with --horizon the "
        "sequences are series to forecast",
    )
    _flag(network, "cell", str, "NAME", f"the recurrent cell: {', '.join(sorted(cell_names()))}")
    _flag(network, "hidden", count, "N", "features of each layer")
    _flag(network, "layers", count, "N", "layers")
    _flag(network, "dropout", share, "X", "dropout on the output of each layer, in [0, 1)")
    network(
        "--init-from",
        metavar="DIR",
        help="begin with the network of the run in DIR, on other data; what it does not know of them starts fresh",
    )
    _flag(training, "steps", count, "N", "optimisation steps")
    _flag(training, "batch", count, "N", "streams, or labelled sequences, read side by side")
    _flag(
        training, "time", count, "N", "steps of back-propagation through time; for labels, how far a sequence is read"
    )
    _flag(training, "rate", positive, "X", "peak learning rate; a short warm-up, then a cosine down to a hundredth")
    _flag(training, "clip", positive, "X", "norm to which larger gradients are clipped")
    training(
        "--accumulate",
        type=count,
        metavar="N",
        help="the mean gradient of so many batches makes one update, as if --batch were N times as large; --steps, "
        "--validate-every and the metrics count batches (default 1)",
    )
    training(
        "--average",
        type=decay,
        metavar="X",
        help="measure and keep a moving average of the weights with this decay, such as 0.999; training goes on from the last "
        "ones (default none)",
    )
    _flag(training, "patience", count, "N", "stop after so many validations without a better one")
    _flag(training, "validate_every", count, "N", "steps between validations, each of which saves a checkpoint")
    _flag(training, "seed", natural, "N", "seed of the parameters, the order of the data and the noise")
    training(
        "--checkpoint",
        type=segments,
        metavar="N|sqrt",
        help="steps of time after which the carry is stored and the rest computed again: less memory, more time (default none)",
    )
    bf16 = "multiply in bfloat16, add in float32: faster on accelerators"
    training("--bf16", action="store_true", default=None, help=bf16)


def _flag(add: Callable[..., Any], name: str, kind: Any, metavar: str, what: str) -> None:
    """A flag with its defaults: for a text, and where others are better for tables or labels."""
    others = {
        "to forecast": TABLE_DEFAULTS.get(name),
        "with --horizon": AHEAD_DEFAULTS.get(name),
        "for labels": LABEL_DEFAULTS.get(name),
    }
    more = "".join(f", {what} {value}" for what, value in others.items() if value is not None)
    default = f" (default {getattr(Settings(), name)}{more})"
    add(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=what + default)


def count(text: str) -> int:
    """A positive whole number."""
    return _at_least(1, text)


def segments(text: str) -> str | None:
    """A positive whole number or ``sqrt``; None for ``none``."""
    return None if text == "none" else text if text == "sqrt" else str(count(text))


def natural(text: str) -> int:
    """A whole number, zero included."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if not least <= value < 2**31:
        raise argparse.ArgumentTypeError(f"must be at least {least} and below 2^31, got {value}")
    return value


def positive(text: str) -> float:
    """A finite positive number."""
    return _number(text, lambda value: 0 < value < float("inf"), "a positive number")


def decay(text: str) -> float:
    """A number in (0, 1)."""
    return _number(text, lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.999")


def share(text: str) -> float:
    """A number in [0, 1)."""
    return _number(text, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")


def shares(text: str) -> list[float]:
    """Increasing numbers between 0 and 1, with commas between."""
    found = [
        _number(part, lambda value: 0 < value < 1, "numbers between 0 and 1, as 0.1,0.5,0.9")
        for part in text.split(",")
    ]
    if any(a >= b for a, b in zip(found, found[1:])):
        raise argparse.ArgumentTypeError(f"must be increasing, got {text!r}")
    return found


def held_share(text: str) -> float:
    """A number above 0, of at most a half."""
    return _number(text, lambda value: 0 < value <= 0.5, "a number above 0, of at most 0.5")


def _number(text: str, good: Any, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not good(value):
        raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}")
    return value

"""The settings of a run, as given on the command line and as kept in its ``config.json``."""

from __future__ import annotations

import difflib
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
    members: int = 1
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
LABEL_DEFAULTS: dict[str, Any] = {
    "hidden": 32,
    "members": 8,
    "batch": 32,
    "time": 400,
    "rate": 3e-3,
    "dropout": 0.5,
}
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

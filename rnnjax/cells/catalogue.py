"""`catalogue`: every cell of the library with its family, its paper and its size, one line a cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from rnnjax.base import any_rank, check_choice
from rnnjax.protocols import input_axes, is_linear

C = TypeVar("C")


class Entry(NamedTuple):
    """name: of the class in ``rnnjax.cells``. parameters: their number. linear: whether ``method="associative"`` takes it."""

    name: str
    family: str
    paper: str
    linear: bool
    parameters: int
    year: int


FAMILIES = (
    "simple",
    "LSTM",
    "convolutional",
    "GRU",
    "additive",
    "strongly typed",
    "linear in time",
    "state space",
    "fast weights",
    "xLSTM",
    "continuous time",
    "oscillator",
    "stable",
    "orthogonal",
    "memory",
    "neuroscience",
    "reservoir",
)


class Published(NamedTuple):
    """Where a cell comes from. year: of the paper; the first, where there are several."""

    kind: Any
    family: str
    paper: str
    year: int


PUBLISHED: dict[str, Published] = {}


def published(*, family: str, paper: str, year: int) -> Callable[[type[C]], type[C]]:
    """The line above ``@cell`` that puts a cell of this library into the catalogue, and with it into the tests' zoo.

    family: one of ``FAMILIES``. paper: authors, year, where. Errors: ValueError for another family or a paper without the year.
    """
    check_choice("published", "family", family, FAMILIES)
    if str(year) not in paper:
        raise ValueError(f"published: paper must name its year, {year}, got {paper!r}")

    def enter(kind: type[C]) -> type[C]:
        PUBLISHED[kind.__name__] = Published(any_rank(kind), family, paper, year)
        return kind

    return enter


def catalogue(inputs: int = 128, features: int = 128) -> list[Entry]:
    """Every cell with default options: ``Entry(name, family, paper, linear, parameters, year)``, parameters for these sizes.

    Convolutional cells are counted for an 8 by 8 field of ``inputs`` channels. Nothing is computed, only shapes.

    >>> import rnnjax as rj
    >>> [e.parameters for e in rj.cells.catalogue(10, 20) if e.name in ("Elman", "LSTM")]
    [620, 2480]
    """
    order = sorted(PUBLISHED.values(), key=lambda p: (FAMILIES.index(p.family), p.year, p.kind.__name__))
    return [_entry(p, p.kind(features), inputs) for p in order]


def _entry(p: Published, cell: Any, inputs: int) -> Entry:
    return Entry(p.kind.__name__, p.family, p.paper, is_linear(cell), _count(cell, inputs), p.year)


def _count(cell: Any, inputs: int) -> int:
    x = jax.ShapeDtypeStruct((8,) * (input_axes(cell) - 1) + (inputs,), jnp.float32)
    params = jax.eval_shape(cell.init, jax.eval_shape(lambda: jax.random.key(0)), x)
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params))

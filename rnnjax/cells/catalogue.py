"""`catalogue`: every cell of the library with its family, its paper and its size, one line a cell."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Entry(NamedTuple):
    """name: of the class in ``rnnjax.cells``. parameters: their number. linear: whether ``method="associative"`` takes it."""

    name: str
    family: str
    paper: str
    linear: bool
    parameters: int


# name, family, paper, linear in time
LINES: tuple[tuple[str, str, str, bool], ...] = (
    ("Elman", "simple", "Elman 1990, Cognitive Science 14(2)", False),
    ("IRNN", "simple", "Le, Jaitly, Hinton 2015, arXiv:1504.00941", False),
    ("LSTM", "LSTM", "Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000", False),
    ("GRU", "GRU", "Cho et al. 2014, arXiv:1406.1078", False),
    ("MinGRU", "linear in time", "Feng et al. 2024, arXiv:2410.01201", True),
    ("MinLSTM", "linear in time", "Feng et al. 2024, arXiv:2410.01201", True),
    ("RGLRU", "linear in time", "De et al. 2024, arXiv:2402.19427", True),
    ("SRU", "linear in time", "Lei et al. 2018, arXiv:1709.02755", True),
    ("QRNN", "linear in time", "Bradbury et al. 2016, arXiv:1611.01576", True),
    # linear in time, orthogonal, continuous, oscillators, memory, rate networks, reservoirs
)


def catalogue(inputs: int = 128, features: int = 128) -> list[Entry]:
    """Every cell with default options: ``Entry(name, family, paper, linear, parameters)``, the last for these sizes.

    Convolutional cells are counted for an 8 by 8 field of ``inputs`` channels. Nothing is computed, only shapes.

    >>> import rnnjax as rj
    >>> [e.parameters for e in rj.cells.catalogue(10, 20) if e.name in ("Elman", "LSTM")]
    [620, 2480]
    """
    from rnnjax import cells

    return [
        Entry(name, family, paper, linear, _count(getattr(cells, name)(features), inputs))
        for name, family, paper, linear in LINES
    ]


def _count(cell: Any, inputs: int) -> int:
    x = jax.ShapeDtypeStruct((8,) * (getattr(cell, "input_ndim", 1) - 1) + (inputs,), jnp.float32)
    params = jax.eval_shape(cell.init, jax.eval_shape(lambda: jax.random.key(0)), x)
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params))

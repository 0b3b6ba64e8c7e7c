"""rnnjax: recurrent networks in JAX. A cell is a pure function ``cell(params, carry, x) -> (carry, y)``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rnnjax import _signals as _signals  # before anything heavy
from rnnjax import activations, base, cells, initializers, layers, losses, protocols, seq2seq, wrappers
from rnnjax.base import cell
from rnnjax.cells import families
from rnnjax.cells.families import *
from rnnjax.engine import explain, scan, tune
from rnnjax.layers import RNN, Bidirectional, BidirectionalCarry, Sequential
from rnnjax.protocols import Cell
from rnnjax.sequence import last_output, unroll
from rnnjax.wrappers import (
    Clip,
    Dropout,
    Embed,
    LayerNorm,
    LearnedCarry,
    Noise,
    Readout,
    Record,
    Recorded,
    Residual,
    Scale,
    Skip,
    Stack,
    VariationalDropout,
    WeightDrop,
    Zoneout,
)

if TYPE_CHECKING:
    from rnnjax import (
        data,
        diagnostics,
        forecast,
        interop,
        linen,
        metrics,
        nnx,
        online,
        parallel,
        sharding,
        tasks,
        testing,
        train,
    )

__version__ = "0.1.0"

# Loaded when first asked for, so that importing rnnjax costs only what everybody uses.
_LAZY = (
    "data",
    "diagnostics",
    "forecast",
    "interop",
    "linen",
    "metrics",
    "nnx",
    "online",
    "parallel",
    "sharding",
    "tasks",
    "testing",
    "train",
)

__all__ = [
    "RNN",
    "Bidirectional",
    "BidirectionalCarry",
    "Cell",
    "Clip",
    "Dropout",
    "Embed",
    "LayerNorm",
    "LearnedCarry",
    "Noise",
    "Readout",
    "Record",
    "Recorded",
    "Residual",
    "Scale",
    "Sequential",
    "Skip",
    "Stack",
    "VariationalDropout",
    "WeightDrop",
    "Zoneout",
    "activations",
    "base",
    "cell",
    "cells",
    "data",
    "diagnostics",
    "explain",
    "forecast",
    "initializers",
    "interop",
    "last_output",
    "layers",
    "linen",
    "losses",
    "metrics",
    "nnx",
    "online",
    "parallel",
    "protocols",
    "scan",
    "seq2seq",
    "sharding",
    "tasks",
    "testing",
    "train",
    "tune",
    "unroll",
    "wrappers",
]
__all__ += families.__all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"rnnjax.{name}")
    raise AttributeError(f"module 'rnnjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

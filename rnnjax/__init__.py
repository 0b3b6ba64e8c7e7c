"""rnnjax: recurrent networks in JAX. A cell is a pure function ``cell(params, carry, x) -> (carry, y)``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rnnjax import base, cells, initializers, layers, losses, wrappers
from rnnjax.base import Cell, cell
from rnnjax.cells import (
    ATR,
    BRC,
    CFN,
    GRU,
    IRNN,
    JANET,
    LSTM,
    MGU,
    MUT1,
    MUT2,
    MUT3,
    NAS,
    NBRC,
    QRNN,
    RAN,
    RGLRU,
    RHN,
    SCRN,
    SRU,
    STAR,
    TGRU,
    TLSTM,
    TRNN,
    UGRNN,
    Clockwork,
    ClockworkCarry,
    ConvGRU,
    ConvLSTM,
    ConvLSTMCarry,
    Elman,
    FastGRNN,
    FastRNN,
    IndRNN,
    Jordan,
    LightRU,
    LiGRU,
    LSTMCarry,
    MinGRU,
    MinimalRNN,
    MinLSTM,
    MultiplicativeLSTM,
    MultiplicativeLSTMCarry,
    NASCarry,
    QRNNCarry,
    RANCarry,
    SCRNCarry,
    TGRUCarry,
    TLSTMCarry,
)
from rnnjax.engine import explain, scan
from rnnjax.layers import RNN, Bidirectional, BidirectionalCarry, Sequential
from rnnjax.unroll import unroll
from rnnjax.wrappers import Dropout, LearnedCarry, Readout, Stack

if TYPE_CHECKING:
    from rnnjax import diagnostics, interop, linen, nnx, parallel, testing, train

__version__ = "0.1.0"

# Loaded when first asked for, so that importing rnnjax costs only what everybody uses.
_LAZY = ("data", "diagnostics", "interop", "linen", "nnx", "parallel", "testing", "train")

__all__ = [
    "ATR",
    "BRC",
    "CFN",
    "GRU",
    "IRNN",
    "JANET",
    "LSTM",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "NAS",
    "NBRC",
    "QRNN",
    "RAN",
    "RGLRU",
    "RHN",
    "RNN",
    "SCRN",
    "SRU",
    "STAR",
    "TGRU",
    "TLSTM",
    "TRNN",
    "UGRNN",
    "Bidirectional",
    "BidirectionalCarry",
    "Cell",
    "Clockwork",
    "ClockworkCarry",
    "ConvGRU",
    "ConvLSTM",
    "ConvLSTMCarry",
    "Dropout",
    "Elman",
    "FastGRNN",
    "FastRNN",
    "IndRNN",
    "Jordan",
    "LSTMCarry",
    "LearnedCarry",
    "LiGRU",
    "LightRU",
    "MinGRU",
    "MinLSTM",
    "MinimalRNN",
    "MultiplicativeLSTM",
    "MultiplicativeLSTMCarry",
    "NASCarry",
    "QRNNCarry",
    "RANCarry",
    "Readout",
    "SCRNCarry",
    "Sequential",
    "Stack",
    "TGRUCarry",
    "TLSTMCarry",
    "base",
    "cell",
    "cells",
    "diagnostics",
    "explain",
    "initializers",
    "interop",
    "layers",
    "linen",
    "losses",
    "nnx",
    "parallel",
    "scan",
    "testing",
    "train",
    "unroll",
    "wrappers",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"rnnjax.{name}")
    raise AttributeError(f"module 'rnnjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

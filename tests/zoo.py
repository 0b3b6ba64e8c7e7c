"""THE list of all cells and wrappers, small; it drives `test_zoo.py`.

Every cell of the catalogue is in it with four features and its default options, so that a new one gets the whole suite; add a
line here for options that change its step, or for sizes smaller than its defaults.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import rnnjax as rj
from rnnjax.cells.catalogue import PUBLISHED
from rnnjax.protocols import is_linear


@dataclasses.dataclass(frozen=True)
class Entry:
    """cell: small. x: shape of one step's input without batch axes. noisy: output depends on a key.

    tolerance: factor on the suite's tolerances, with the reason beside it.
    """

    cell: Any
    x: tuple[int, ...] = (3,)
    noisy: bool = False
    tolerance: float = 1.0

    @property
    def linear(self) -> bool:
        """`method="associative"` takes it."""
        return is_linear(self.cell)

    @property
    def id(self) -> str:
        return repr(self.cell)


# In place of the default options: smaller.
SMALL = [
    Entry(rj.Jordan(4, outputs=2, decay=0.5)),
    Entry(rj.SCRN(4, context=2)),
    Entry(rj.Clockwork(4, periods=(1, 2))),
    Entry(rj.RHN(4, depth=2)),
    Entry(rj.LiGRU(4, layer_norm=True)),
    Entry(rj.FastGRNN(4, recurrent_rank=2)),
    Entry(rj.NBRC(4, use_bias=True)),
    Entry(rj.ConvLSTM(2, dims=1), x=(4, 3)),
    Entry(rj.ConvGRU(2, kernel=(3, 2)), x=(3, 2, 3)),
    Entry(rj.MinLSTM(4, positive=True)),
    Entry(rj.QRNN(4, window=3)),
    Entry(rj.LinearAttention(4, heads=2, chunk_size=3)),
    Entry(rj.DeltaNet(4, heads=2)),
    Entry(rj.SLSTM(4, heads=2)),
    Entry(rj.MLSTM(4, heads=2)),
    Entry(rj.LRU(4, state=5)),
    Entry(rj.S4D(3, state=4)),
    Entry(rj.S5(4, state=6)),
    Entry(rj.S6(4, state=2)),
    Entry(rj.LTC(4, unfolds=2)),
    Entry(rj.CfC(4, backbone=5)),
    Entry(rj.AntisymmetricRNN(4, gated=True)),
    Entry(rj.StackRNN(4, stacks=2, depth=3)),
    Entry(rj.TapeRNN(4, slots=4, width=2)),
    Entry(rj.RateRNN(4, dale=0.5, noise=0.1), noisy=True),
    Entry(rj.RateRNN(4, rank=2, learn_tau=True)),
    Entry(rj.EchoState(6, density=0.5)),
]
# Beside the default options: other steps.
VARIANTS = [
    Entry(rj.Elman(4, activation="relu", use_bias=False)),
    Entry(rj.Elman(4, residual=True)),
    Entry(rj.LSTM(4, peephole=True)),
    Entry(rj.LSTM(4, coupled=True, chrono=20.0)),
    Entry(rj.LSTM(4, projection=2)),
    Entry(rj.LSTM(4, layer_norm=True)),
    Entry(rj.LSTM(4, peephole=True, coupled=True, projection=3, layer_norm=True)),
    Entry(rj.GRU(4, reset_after=False)),
    Entry(rj.GRU(4, layer_norm=True)),
    Entry(rj.GRU(4, reset_after=False, layer_norm=True)),
    Entry(rj.SRU(3, peephole=True)),
    Entry(rj.OrthogonalRNN(4, parametrization="cayley")),
]
WRAPPERS = [
    Entry(rj.Dropout(rj.GRU(4), 0.5), noisy=True),
    Entry(rj.Stack(rj.LSTM(4), rj.Elman(4))),
    Entry(rj.LearnedCarry(rj.LSTM(4))),
    Entry(rj.Readout(rj.GRU(4), 2)),
    Entry(rj.Residual(rj.GRU(3))),
    Entry(rj.Skip(rj.Elman(4))),
    Entry(rj.VariationalDropout(rj.LSTM(4), 0.5), noisy=True),
    Entry(rj.Stack(rj.VariationalDropout(rj.GRU(4), 0.5), rj.Elman(4)), noisy=True),
    Entry(rj.Zoneout(rj.LSTM(4), (0.05, 0.5)), noisy=True),
    Entry(rj.WeightDrop(rj.LSTM(4), 0.5), noisy=True),
    Entry(rj.LayerNorm(rj.Elman(4))),
    Entry(rj.LayerNorm(rj.GRU(4))),
    Entry(rj.Record(rj.GRU(4))),
    Entry(rj.Clip(rj.LSTM(4), 0.3)),
    Entry(rj.Noise(rj.GRU(4), 0.1), noisy=True),
    Entry(rj.Scale(rj.ATR(4), input=0.5, output=2.0)),
]

DEFAULT = [Entry(p.kind(4)) for p in PUBLISHED.values() if p.kind not in {type(entry.cell) for entry in SMALL}]
ZOO = DEFAULT + SMALL + VARIANTS + WRAPPERS

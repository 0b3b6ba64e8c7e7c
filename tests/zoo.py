"""THE list of all cells and wrappers, small; it drives `test_zoo.py`. A new cell gets the whole suite by one line here."""

from __future__ import annotations

import dataclasses
from typing import Any

import rnnjax as rj


@dataclasses.dataclass(frozen=True)
class Entry:
    """cell: small. x: shape of one step's input without batch axes. linear: `method="associative"` takes it.

    noisy: output depends on a key. tolerance: factor on the suite's tolerances, with the reason beside it.
    """

    cell: Any
    x: tuple[int, ...] = (3,)
    linear: bool = False
    noisy: bool = False
    tolerance: float = 1.0

    @property
    def id(self) -> str:
        return repr(self.cell)


ZOO: list[Entry] = [
    # -- simple
    Entry(rj.Elman(4)),
    Entry(rj.Elman(4, activation="relu", use_bias=False)),
    Entry(rj.Elman(4, residual=True)),
    Entry(rj.IRNN(4)),
    Entry(rj.Jordan(4, outputs=2, decay=0.5)),
    Entry(rj.IndRNN(4)),
    Entry(rj.FastRNN(4)),
    Entry(rj.SCRN(4, context=2)),
    Entry(rj.Clockwork(4, periods=(1, 2))),
    # -- LSTM
    Entry(rj.LSTM(4)),
    Entry(rj.LSTM(4, peephole=True)),
    Entry(rj.LSTM(4, coupled=True, chrono=20.0)),
    Entry(rj.LSTM(4, projection=2)),
    Entry(rj.LSTM(4, layer_norm=True)),
    Entry(rj.LSTM(4, peephole=True, coupled=True, projection=3, layer_norm=True)),
    Entry(rj.JANET(4)),
    Entry(rj.MultiplicativeLSTM(4)),
    Entry(rj.NAS(4)),
    Entry(rj.RHN(4, depth=2)),
    # -- GRU
    Entry(rj.GRU(4)),
    Entry(rj.GRU(4, reset_after=False)),
    Entry(rj.GRU(4, layer_norm=True)),
    Entry(rj.GRU(4, reset_after=False, layer_norm=True)),
    Entry(rj.MGU(4)),
    Entry(rj.UGRNN(4)),
    Entry(rj.LiGRU(4, layer_norm=True)),
    Entry(rj.LightRU(4)),
    Entry(rj.MinimalRNN(4)),
    Entry(rj.MUT1(4)),
    Entry(rj.MUT2(4)),
    Entry(rj.MUT3(4)),
    Entry(rj.FastGRNN(4, recurrent_rank=2)),
    Entry(rj.BRC(4)),
    Entry(rj.NBRC(4, use_bias=True)),
    # -- additive, strongly typed
    Entry(rj.RAN(4)),
    Entry(rj.CFN(4)),
    Entry(rj.ATR(4)),
    Entry(rj.STAR(4)),
    Entry(rj.TRNN(4), linear=True),
    Entry(rj.TGRU(4)),
    Entry(rj.TLSTM(4)),
    # -- convolutional
    Entry(rj.ConvLSTM(2, dims=1), x=(4, 3)),
    Entry(rj.ConvGRU(2, kernel=(3, 2)), x=(3, 2, 3)),
    # -- half B: linear in time, xLSTM
    Entry(rj.MinGRU(4), linear=True),
    Entry(rj.MinLSTM(4, positive=True), linear=True),
    Entry(rj.RGLRU(4), linear=True),
    Entry(rj.SRU(4), linear=True),
    Entry(rj.SRU(3, peephole=True)),
    Entry(rj.QRNN(4, window=3), linear=True),
    Entry(rj.LinearAttention(4, heads=2, chunk_size=3), linear=True),
    Entry(rj.DeltaNet(4, heads=2), linear=True),
    Entry(rj.GatedDeltaNet(4), linear=True),
    Entry(rj.SLSTM(4, heads=2)),
    Entry(rj.MLSTM(4, heads=2), linear=True),
    Entry(rj.LRU(4, state=5), linear=True),
    Entry(rj.S4D(3, state=4), linear=True),
    Entry(rj.S5(4, state=6), linear=True),
    Entry(rj.S6(4, state=2), linear=True),
    # -- half B: continuous time, oscillators, orthogonal, memory, rate networks, reservoirs
    Entry(rj.CTRNN(4)),
    Entry(rj.LTC(4, unfolds=2)),
    Entry(rj.CfC(4, backbone=5)),
    Entry(rj.CoRNN(4)),
    Entry(rj.UnICORNN(4)),
    Entry(rj.LEM(4)),
    Entry(rj.AntisymmetricRNN(4, gated=True)),
    Entry(rj.OrthogonalRNN(4)),
    Entry(rj.OrthogonalRNN(4, parametrization="cayley")),
    Entry(rj.UnitaryRNN(4)),
    Entry(rj.StackRNN(4, stacks=2, depth=3)),
    Entry(rj.TapeRNN(4, slots=4, width=2)),
    Entry(rj.RateRNN(4, dale=0.5, noise=0.1), noisy=True),
    Entry(rj.RateRNN(4, rank=2, learn_tau=True)),
    Entry(rj.EchoState(6, density=0.5)),
    # -- wrappers
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

"""`catalogue`: every cell of the library with its family, its paper and its size, one line a cell."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.protocols import input_axes


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
    ("Jordan", "simple", "Jordan 1986, ICS report 8604", False),
    ("IndRNN", "simple", "Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831", False),
    ("FastRNN", "simple", "Kusupati et al. 2018, arXiv:1901.02358", False),
    ("SCRN", "simple", "Mikolov et al. 2014, arXiv:1412.7753", False),
    ("Clockwork", "simple", "Koutnik, Greff, Gomez, Schmidhuber 2014, arXiv:1402.3511", False),
    ("LSTM", "LSTM", "Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000", False),
    ("JANET", "LSTM", "van der Westhuizen, Lasenby 2018, arXiv:1804.04849", False),
    ("MultiplicativeLSTM", "LSTM", "Krause, Lu, Murray, Renals 2016, arXiv:1609.07959", False),
    ("NAS", "LSTM", "Zoph, Le 2016, arXiv:1611.01578", False),
    ("RHN", "LSTM", "Zilly, Srivastava, Koutnik, Schmidhuber 2016, arXiv:1607.03474", False),
    ("ConvLSTM", "convolutional", "Shi et al. 2015, arXiv:1506.04214", False),
    ("ConvGRU", "convolutional", "Ballas, Yao, Pal, Courville 2015, arXiv:1511.06432", False),
    ("GRU", "GRU", "Cho et al. 2014, arXiv:1406.1078", False),
    ("MGU", "GRU", "Zhou, Wu, Zhang, Zhou 2016, arXiv:1603.09420", False),
    ("UGRNN", "GRU", "Collins, Sohl-Dickstein, Sussillo 2016, arXiv:1611.09913", False),
    ("LiGRU", "GRU", "Ravanelli, Brakel, Omologo, Bengio 2018, arXiv:1803.10225", False),
    ("LightRU", "GRU", "Ye, Zhang, Liu, Zhu, Liu 2024, Electronics 13(16)", False),
    ("MinimalRNN", "GRU", "Chen 2017, arXiv:1711.06788", False),
    ("MUT1", "GRU", "Jozefowicz, Zaremba, Sutskever 2015, ICML", False),
    ("MUT2", "GRU", "Jozefowicz, Zaremba, Sutskever 2015, ICML", False),
    ("MUT3", "GRU", "Jozefowicz, Zaremba, Sutskever 2015, ICML", False),
    ("FastGRNN", "GRU", "Kusupati et al. 2018, arXiv:1901.02358", False),
    ("BRC", "GRU", "Vecoven, Ernst, Drion 2020, arXiv:2006.05252", False),
    ("NBRC", "GRU", "Vecoven, Ernst, Drion 2020, arXiv:2006.05252", False),
    ("RAN", "additive", "Lee, Levy, Zettlemoyer 2017, arXiv:1705.07393", False),
    ("CFN", "additive", "Laurent, von Brecht 2016, arXiv:1612.06212", False),
    ("ATR", "additive", "Zhang, Xiong, Su, Lin, Zhang 2018, arXiv:1810.12546", False),
    ("STAR", "additive", "Turkoglu, D'Aronco, Wegner, Schindler 2019, arXiv:1911.11033", False),
    ("TRNN", "strongly typed", "Balduzzi, Ghifary 2016, arXiv:1602.02218", True),
    ("TGRU", "strongly typed", "Balduzzi, Ghifary 2016, arXiv:1602.02218", False),
    ("TLSTM", "strongly typed", "Balduzzi, Ghifary 2016, arXiv:1602.02218", False),
    ("MinGRU", "linear in time", "Feng et al. 2024, arXiv:2410.01201", True),
    ("MinLSTM", "linear in time", "Feng et al. 2024, arXiv:2410.01201", True),
    ("RGLRU", "linear in time", "De et al. 2024, arXiv:2402.19427", True),
    ("SRU", "linear in time", "Lei et al. 2018, arXiv:1709.02755", True),
    ("LRU", "state space", "Orvieto et al. 2023, arXiv:2303.06349", True),
    ("S4D", "state space", "Gu et al. 2022, arXiv:2206.11893", True),
    ("S5", "state space", "Smith, Warrington, Linderman 2023, arXiv:2208.04933", True),
    ("S6", "state space", "Gu, Dao 2023, arXiv:2312.00752", True),
    ("QRNN", "linear in time", "Bradbury et al. 2016, arXiv:1611.01576", True),
    ("LinearAttention", "fast weights", "Katharopoulos et al. 2020, arXiv:2006.16236", True),
    ("DeltaNet", "fast weights", "Yang et al. 2024, arXiv:2406.06484", True),
    ("GatedDeltaNet", "fast weights", "Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464", True),
    ("SLSTM", "xLSTM", "Beck et al. 2024, arXiv:2405.04517", False),
    ("MLSTM", "xLSTM", "Beck et al. 2024, arXiv:2405.04517", True),
    ("CTRNN", "continuous time", "Beer 1995, Adaptive Behavior 3(4)", False),
    ("LTC", "continuous time", "Hasani et al. 2021, arXiv:2006.04439", False),
    ("CfC", "continuous time", "Hasani et al. 2022, arXiv:2106.13898", False),
    ("CoRNN", "oscillator", "Rusch, Mishra 2021, arXiv:2010.00951", False),
    ("UnICORNN", "oscillator", "Rusch, Mishra 2021, arXiv:2103.05487", False),
    ("LEM", "oscillator", "Rusch et al. 2022, arXiv:2110.04744", False),
    ("AntisymmetricRNN", "stable", "Chang et al. 2019, arXiv:1902.09689", False),
    ("OrthogonalRNN", "orthogonal", "Lezcano-Casado, Martinez-Rubio 2019, arXiv:1901.08428", False),
    ("UnitaryRNN", "orthogonal", "Arjovsky, Shah, Bengio 2016, arXiv:1511.06464", False),
    ("StackRNN", "memory", "Joulin, Mikolov 2015, arXiv:1503.01007", False),
    ("TapeRNN", "memory", "Graves, Wayne, Danihelka 2014, arXiv:1410.5401", False),
    ("RateRNN", "neuroscience", "Yang et al. 2019, Nature Neuroscience 22; Song, Yang, Wang 2016", False),
    ("EchoState", "reservoir", "Jaeger 2001, GMD report 148", False),
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
    x = jax.ShapeDtypeStruct((8,) * (input_axes(cell) - 1) + (inputs,), jnp.float32)
    params = jax.eval_shape(cell.init, jax.eval_shape(lambda: jax.random.key(0)), x)
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params))

"""Gated cells that are linear in time, with a state as wide as the features."""

from rnnjax.cells.linear.min_gru import MinGRU as MinGRU
from rnnjax.cells.linear.min_gru import MinLSTM as MinLSTM
from rnnjax.cells.linear.qrnn import QRNN as QRNN
from rnnjax.cells.linear.qrnn import QRNNCarry as QRNNCarry
from rnnjax.cells.linear.rglru import RGLRU as RGLRU
from rnnjax.cells.linear.sru import SRU as SRU

"""The cells, one file per family."""

from rnnjax.cells.catalogue import catalogue
from rnnjax.cells.elman import IRNN, Elman
from rnnjax.cells.gru import GRU
from rnnjax.cells.lstm import LSTM, LSTMCarry

__all__ = ["GRU", "IRNN", "LSTM", "Elman", "LSTMCarry", "catalogue"]

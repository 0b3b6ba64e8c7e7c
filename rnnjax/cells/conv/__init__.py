"""Convolutional cells: states that are images, signals, volumes."""

from rnnjax.cells.conv.conv import ConvGRU as ConvGRU
from rnnjax.cells.conv.conv import ConvLSTM as ConvLSTM
from rnnjax.cells.conv.conv import ConvLSTMCarry as ConvLSTMCarry

"""Wrappers: cell -> cell, one idea a file."""

from rnnjax.wrappers.dropout import Dropout
from rnnjax.wrappers.learned_carry import LearnedCarry
from rnnjax.wrappers.readout import Readout
from rnnjax.wrappers.stack import Stack

__all__ = ["Dropout", "LearnedCarry", "Readout", "Stack"]

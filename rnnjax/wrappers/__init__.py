"""Wrappers: cell -> cell, one idea a file."""

from rnnjax.wrappers.clip import Clip
from rnnjax.wrappers.dropout import Dropout
from rnnjax.wrappers.embed import Embed
from rnnjax.wrappers.layer_norm import LayerNorm
from rnnjax.wrappers.learned_carry import LearnedCarry
from rnnjax.wrappers.noise import Noise
from rnnjax.wrappers.readout import Readout
from rnnjax.wrappers.record import Record, Recorded
from rnnjax.wrappers.residual import Residual, Skip
from rnnjax.wrappers.scale import Scale
from rnnjax.wrappers.stack import Stack
from rnnjax.wrappers.variational_dropout import VariationalDropout
from rnnjax.wrappers.weight_drop import WeightDrop
from rnnjax.wrappers.zoneout import Zoneout

__all__ = [
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
    "Skip",
    "Stack",
    "VariationalDropout",
    "WeightDrop",
    "Zoneout",
]

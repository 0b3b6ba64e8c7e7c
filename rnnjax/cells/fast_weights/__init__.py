"""Cells whose state is a matrix that every step writes an outer product into."""

from rnnjax.cells.fast_weights.delta import DeltaNet as DeltaNet
from rnnjax.cells.fast_weights.delta import GatedDeltaNet as GatedDeltaNet
from rnnjax.cells.fast_weights.linear_attention import LinearAttention as LinearAttention
from rnnjax.cells.fast_weights.linear_attention import LinearAttentionCarry as LinearAttentionCarry
from rnnjax.cells.fast_weights.mlstm import MLSTM as MLSTM
from rnnjax.cells.fast_weights.mlstm import MLSTMCarry as MLSTMCarry

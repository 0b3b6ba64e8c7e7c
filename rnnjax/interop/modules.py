"""What the Flax modules `rnnjax.linen.RNN` and `rnnjax.nnx.RNN` share."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax.base import name_of
from rnnjax.interop.levels import LAYERS
from rnnjax.layers import RNN


def as_layer(owner: str, cell: Any) -> Any:
    """A layer as it is, a cell as ``RNN(cell)``. Raises: TypeError for anything else."""
    if isinstance(cell, LAYERS):
        return cell
    if hasattr(cell, "init") and hasattr(cell, "initial_carry"):
        return RNN(cell)
    raise TypeError(f"{owner}: takes a cell or a layer of rnnjax, got {name_of(cell)}")


def step_of(xs: Any, time_axis: int) -> Any:
    """The shape of one step's input, for ``init``."""

    def one(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape[:time_axis] + x.shape[time_axis + 1 :], x.dtype)

    return jax.tree.map(one, xs)

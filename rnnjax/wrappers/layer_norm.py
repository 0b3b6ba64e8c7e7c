"""`LayerNorm`: normalisation inside the gates where the cell knows how, on the output otherwise."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.activations import layer_norm
from rnnjax.base import Key, Params, cell, check_params, name_of, param_dtype
from rnnjax.cells.shared.options import check_positive
from rnnjax.protocols import NormalisedInside, prepare
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.stack import output_shape


@cell
@around()
class LayerNorm:
    """Layer normalisation of a cell.

    A cell with an option ``layer_norm`` (`LSTM`, `GRU`, `LiGRU`) is normalised inside, as if built with it: the same params.
    Any other: ``y = s (y_cell - mean) / sqrt(variance + epsilon) + b`` over the last axis, the carry left alone.

    cell: any cell (with one output array where it is normalised on the output). epsilon: on the output only.
    params: with the option the inner cell's, else ``cell``, ``norm_output`` s and ``norm_output_bias`` b ``[O]``. carry: the inner cell's.
    Errors: TypeError for an output that is not one array. Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> sorted(rj.LayerNorm(rj.Elman(4)).init(jax.random.key(0), jnp.ones(3)))
    ['cell', 'norm_output', 'norm_output_bias']
    >>> "norm_cell" in rj.LayerNorm(rj.LSTM(4)).init(jax.random.key(0), jnp.ones(3))
    True
    """

    cell: Any
    _: KW_ONLY
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_positive("LayerNorm", epsilon=self.epsilon)

    def cell_inside(self) -> Any:
        """The cell, which normalises its own gates if it can."""
        return self.cell.with_layer_norm() if isinstance(self.cell, NormalisedInside) else self.cell

    def init(self, key: jax.Array, x: Any) -> Params:
        params = self.cell_inside().init(key, x)
        if isinstance(self.cell, NormalisedInside):
            return params
        y = output_shape(self.cell, params, x)
        if not hasattr(y, "shape"):
            raise TypeError(f"LayerNorm: {name_of(self.cell)} must put out one array, got {type(y).__name__}")
        ones = jnp.ones(y.shape[-1], param_dtype(x))
        return {"cell": params, "norm_output": ones, "norm_output_bias": jnp.zeros_like(ones)}

    def params_inside(self, params: Params) -> Params:
        if isinstance(self.cell, NormalisedInside):
            return params
        check_params(self, params, ("cell", "norm_output", "norm_output_bias"))
        return params["cell"]

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        prepared = prepare(self.cell_inside(), self.params_inside(params), key, x)
        return prepared if isinstance(self.cell, NormalisedInside) else params | {"cell": prepared}

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        if isinstance(self.cell, NormalisedInside):
            return y
        return layer_norm(y, params["norm_output"], self.epsilon) + params["norm_output_bias"]

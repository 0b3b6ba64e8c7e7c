"""`LayerNorm`: normalisation inside the gates where the cell knows how, on the output otherwise."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.activations import layer_norm
from rnnjax.base import Carry, Key, Params, call_step, cell, check_params, name_of, param_dtype
from rnnjax.cells.shared.options import check_positive
from rnnjax.protocols import prepare
from rnnjax.wrappers import around
from rnnjax.wrappers.around import check_wrapper
from rnnjax.wrappers.stack import output_shape


@cell
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

    input_ndim = around.input_ndim

    @property
    def _inside(self) -> Any:
        """The cell that normalises its own gates, if it can."""
        return dataclasses.replace(self.cell, layer_norm=True) if hasattr(self.cell, "layer_norm") else None

    def init(self, key: jax.Array, x: Any) -> Params:
        if self._inside:
            return self._inside.init(key, x)
        params = self.cell.init(key, x)
        y = output_shape(self.cell, params, x)
        if not hasattr(y, "shape"):
            raise TypeError(f"LayerNorm: {name_of(self.cell)} must put out one array, got {type(y).__name__}")
        ones = jnp.ones(y.shape[-1], param_dtype(x))
        return {"cell": params, "norm_output": ones, "norm_output_bias": jnp.zeros_like(ones)}

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self._inside.initial_carry(params, x) if self._inside else self.cell.initial_carry(params["cell"], x)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        if self._inside:
            return prepare(self._inside, params, key, x)
        return params | {"cell": prepare(self.cell, params["cell"], key, x)}

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        if self._inside:
            return call_step(self._inside, params, carry, x, key)
        check_params(self, params, ("cell", "norm_output", "norm_output_bias"))
        carry, y = call_step(self.cell, params["cell"], carry, x, key)
        return carry, layer_norm(y, params["norm_output"], self.epsilon) + params["norm_output_bias"]

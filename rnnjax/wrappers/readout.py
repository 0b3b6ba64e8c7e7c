"""`Readout`: a linear layer on a cell's output."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, Params, cell, param_dtype
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.stack import output_shape


@cell
@around("output")
class Readout:
    """A linear output layer on a cell: ``y = h V + c``, the article's ``y = W_yh h + b_y``.

    cell: any cell with one output array ``[*B, H]``. features: O. use_bias: False leaves c out.
    params: ``cell`` (the inner cell's), ``output`` V ``[H, O]``, ``output_bias`` c ``[O]``. carry: the inner cell's. y: ``[*B, O]``.
    Start: V lecun, c zero. Errors: ValueError/TypeError for a bad size.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Readout(rj.Elman(4), 2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.shape, ys.shape
    ((4,), (5, 2))
    """

    cell: Any
    features: int
    _: KW_ONLY
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_wrapper(self)

    def init(self, key: jax.Array, x: Any) -> Params:
        k_cell, k_out = jax.random.split(key)
        params: dict[str, Any] = {"cell": self.cell.init(k_cell, x)}
        hidden, dtype = output_shape(self.cell, params["cell"], x).shape[-1], param_dtype(x)
        params["output"] = initializers.lecun(k_out, (hidden, self.features), dtype)
        if self.use_bias:
            params["output_bias"] = jnp.zeros(self.features, dtype)
        return params

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> jax.Array:
        y = y @ params["output"]
        return y + params["output_bias"] if "output_bias" in params else y

"""`Residual` and `Skip`: the input goes round the cell."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, Params, cell, name_of
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.stack import output_shape


@cell
@around()
class Residual:
    """The input added to the output: ``y = x + y_cell``.

    cell: any cell whose output has the shape of its input (I = O). params, carry: the inner cell's.
    Errors: ValueError at init and at trace time where the shapes differ (use `Skip`, or a `Readout` of size I inside).
    Source: He et al. 2015, arXiv:1512.03385; between recurrent layers Wu et al. 2016 (GNMT), arXiv:1609.08144.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Stack(rj.LSTM(4), rj.Residual(rj.LSTM(4))), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    cell: Any

    def __post_init__(self) -> None:
        check_wrapper(self)

    def init(self, key: jax.Array, x: Any) -> Params:
        params = self.cell.init(key, x)
        self._check(x, output_shape(self.cell, params, x))
        return params

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        self._check(x, y)
        return y + x.astype(y.dtype)

    def _check(self, x: Any, y: Any) -> None:
        if getattr(y, "shape", None) != x.shape:
            raise ValueError(
                f"Residual: {name_of(self.cell)} must put out the shape of its input {tuple(x.shape)}, got "
                f"{getattr(y, 'shape', None)}; use Skip, or a Readout of that size inside"
            )


@cell
@around()
class Skip:
    """The input beside the output: ``y = [y_cell, x]``, joined on the last axis.

    cell: any cell with one output array ``[*B, O]``. params, carry: the inner cell's. y: ``[*B, O + I]``.
    In a `Stack` every layer of skips sees the input and all layers below it. Errors: ValueError where batch axes differ.
    Source: Graves 2013, arXiv:1308.0850 (skip connections); Huang et al. 2016, arXiv:1608.06993.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Skip(rj.GRU(4)), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 7)
    """

    cell: Any

    def __post_init__(self) -> None:
        check_wrapper(self)

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> jax.Array:
        if getattr(y, "shape", (None,))[:-1] != x.shape[:-1]:
            raise ValueError(
                f"Skip: {name_of(self.cell)} must put out one array with the leading axes of its input {tuple(x.shape)}, "
                f"got {getattr(y, 'shape', type(y).__name__)}"
            )
        return jnp.concatenate([y, x.astype(y.dtype)], axis=-1)

"""`Clip`: the carry is kept within bounds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell
from rnnjax.cells.shared.options import check_positive
from rnnjax.wrappers.around import check_wrapper, hand_on
from rnnjax.wrappers.follow import carry_outputs, follow
from rnnjax.wrappers.once import is_float


@cell
@hand_on
class Clip:
    """The carry limited to ``[-limit, limit]`` after every step; the gradient is zero where it is cut.

    cell: any cell. limit: above 0; of complex parts the real and the imaginary numbers are limited each.
    An output that is a part of the carry is cut with it.
    Not gradient clipping, which belongs to the optimiser (``optax.clip_by_global_norm``). params, carry, y: the inner cell's.
    Variant: every floating part is cut; TensorFlow's ``cell_clip`` cuts an LSTM's c only and before the output is taken.
    Errors: ValueError/TypeError for a limit that is not above 0.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Clip(rj.IRNN(2), 3.0), jnp.ones((9, 2))
    >>> bool((rj.unroll(cell, {"input": jnp.eye(2), "recurrent": jnp.eye(2)}, xs)[1].max(axis=1) <= 3).all())
    True
    """

    cell: Any
    limit: float

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_positive("Clip", limit=self.limit)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        new, y = call_step(self.cell, params, carry, x, key)
        cut = jax.tree.map(lambda a: self._cut(a) if is_float(a) else a, new)
        return cut, follow(y, cut, carry_outputs(self.cell, params, carry, x, key))

    def _cut(self, a: jax.Array) -> jax.Array:
        if jnp.iscomplexobj(a):
            return jax.lax.complex(self._cut(a.real), self._cut(a.imag))
        return jnp.clip(a, -self.limit, self.limit)

"""`Clip`: the carry is kept within bounds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, prepare
from rnnjax.wrappers.once import follow, is_float


@cell
class Clip:
    """The carry limited to ``[-limit, limit]`` after every step; the gradient is zero where it is cut.

    cell: any cell. limit: above 0. An output that is a part of the carry is cut with it.
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
        if not isinstance(self.limit, (int, float)) or isinstance(self.limit, bool):
            raise TypeError(f"Clip: limit must be a number, got {self.limit!r}")
        if not self.limit > 0:
            raise ValueError(f"Clip: limit must be above 0, got {self.limit}")

    @property
    def input_ndim(self) -> int:
        return getattr(self.cell, "input_ndim", 1)

    def init(self, key: jax.Array, x: Any) -> Params:
        return self.cell.init(key, x)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self.cell.initial_carry(params, x)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return prepare(self.cell, params, key, x)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        new, y = call_step(self.cell, params, carry, x, key)
        cut = jax.tree.map(lambda a: jnp.clip(a, -self.limit, self.limit) if is_float(a) else a, new)
        return cut, follow(y, new, cut)

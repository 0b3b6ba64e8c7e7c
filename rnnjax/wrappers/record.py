"""`Record`: all carries as outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from rnnjax.base import Carry, Key, Params, call_step, cell, prepare


class Recorded(NamedTuple):
    """y: the cell's output. carry: the carry after the step."""

    y: Any
    carry: Any


@cell
class Record:
    """The carry after every step beside the output: ``ys = Recorded(y, carry)``, each with a leading time axis.

    cell: any cell. params, carry: the inner cell's. Steps left out by lengths or a mask record zeros, like any output.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Record(rj.LSTM(4)), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> ys.carry.c.shape, bool((ys.carry.c[-1] == carry.c).all())
    ((5, 2, 4), True)
    """

    cell: Any

    @property
    def input_ndim(self) -> int:
        return getattr(self.cell, "input_ndim", 1)

    def init(self, key: jax.Array, x: Any) -> Params:
        return self.cell.init(key, x)

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self.cell.initial_carry(params, x)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return prepare(self.cell, params, key, x)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Recorded]:
        carry, y = call_step(self.cell, params, carry, x, key)
        return carry, Recorded(y, carry)

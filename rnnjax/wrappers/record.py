"""`Record`: all carries as outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

from rnnjax.base import Carry, Key, Params, cell
from rnnjax.wrappers.around import around, check_wrapper


class Recorded(NamedTuple):
    """y: the cell's output. carry: the carry after the step."""

    y: Any
    carry: Any


@cell
@around()
class Record:
    """The carry after every step beside the output: ``ys = Recorded(y, carry)``, each with a leading time axis.

    cell: any cell. params, carry: the inner cell's. Steps left out by lengths or a mask record zeros, like any output.
    Errors: TypeError for what is not a cell.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Record(rj.LSTM(4)), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> ys.carry.c.shape, bool((ys.carry.c[-1] == carry.c).all())
    ((5, 2, 4), True)
    """

    cell: Any

    def __post_init__(self) -> None:
        check_wrapper(self)

    output_sees_carry = True

    def output_around(self, params: Params, x: Any, carry: Carry, y: Any, key: Key) -> Recorded:
        return Recorded(y, carry)

"""`LearnedCarry`: the start is a parameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, cell, step_dtype
from rnnjax.protocols import input_axes
from rnnjax.wrappers.around import around, check_wrapper


@cell
@around("carry")
class LearnedCarry:
    """A cell whose initial carry is learned: one start for all sequences, handed to every batch element.

    ``carry_0 = params["carry"]``, broadcast over the batch axes; it starts at the inner cell's own initial carry.
    cell: any cell. params: ``cell`` (the inner cell's), ``carry`` (the carry's floating parts without batch axes, under
    their names; counters are not learned).
    carry, y: the inner cell's. A ``reset`` restores the learned start, and gradients reach it.
    Errors: TypeError for what is not a cell. Source: Forcada and Carrasco 1995, Neural Computation 7(5).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LearnedCarry(rj.LSTM(4)), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> params["carry"]["c"].shape, cell.initial_carry(params, xs[0]).c.shape
    ((4,), (2, 4))
    """

    cell: Any

    def __post_init__(self) -> None:
        check_wrapper(self)

    def init(self, key: jax.Array, x: Any) -> Params:
        inner = self.cell.init(key, x)
        start = self.cell.initial_carry(inner, jnp.zeros(x.shape[len(x.shape) - input_axes(self.cell) :], x.dtype))
        return {"cell": inner, "carry": as_dicts(start, lambda a: jnp.issubdtype(a.dtype, jnp.inexact))}

    def initial_carry(self, params: Params, x: Any) -> Carry:
        own = self.cell.initial_carry(params["cell"], x)
        real = [a for a in jax.tree.leaves(params) if jnp.issubdtype(a.dtype, jnp.floating)]
        dtype = step_dtype(real, x)  # complex parts keep theirs

        def spread(a: jax.Array, s: Any) -> jax.Array:
            return jnp.broadcast_to(a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, s.shape)

        return jax.tree.map(spread, shaped_like(own, params["carry"]), own)


def as_dicts(carry: Carry, keep: Any = lambda part: True) -> Any:
    """A carry as nested dicts under its own names, as params are: ``LSTMCarry(h, c)`` -> ``{"h", "c"}``; parts to ``keep``."""
    if not isinstance(carry, (tuple, dict)):
        return carry if keep(carry) else None
    named = {name: as_dicts(part, keep) for name, part in _named(carry).items()}
    return {name: part for name, part in named.items() if part is not None}


def shaped_like(own: Carry, named: Any) -> Carry:
    """The inverse of `as_dicts`, by name: a carry like ``own``, which keeps the parts of its own that ``named`` lacks."""
    if not isinstance(own, (tuple, dict)):
        return own if named is None else named
    parts = {name: shaped_like(part, named[name]) if name in named else part for name, part in _named(own).items()}
    if isinstance(own, dict):
        return parts
    return type(own)(*parts.values()) if hasattr(own, "_fields") else tuple(parts.values())


def _named(carry: Any) -> dict[str, Any]:
    if isinstance(carry, dict):
        return carry
    return dict(zip(getattr(carry, "_fields", map(str, range(len(carry)))), carry, strict=True))

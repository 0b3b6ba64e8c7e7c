"""`LearnedCarry`: the start is a parameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, prepare, step_dtype


@cell
class LearnedCarry:
    """A cell whose initial carry is learned: one start for all sequences, handed to every batch element.

    ``carry_0 = params["carry"]``, broadcast over the batch axes; it starts at the inner cell's own initial carry.
    cell: any cell. params: ``cell`` (the inner cell's), ``carry`` (the carry's arrays without batch axes, under their names).
    carry, y: the inner cell's. A ``reset`` restores the learned start, and gradients reach it.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LearnedCarry(rj.LSTM(4)), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> params["carry"]["c"].shape, cell.initial_carry(params, xs[0]).c.shape
    ((4,), (2, 4))
    """

    cell: Any

    @property
    def input_ndim(self) -> int:
        return getattr(self.cell, "input_ndim", 1)

    def init(self, key: jax.Array, x: Any) -> Params:
        inner = self.cell.init(key, x)
        start = self.cell.initial_carry(inner, jnp.zeros(x.shape[len(x.shape) - self.input_ndim :], x.dtype))
        return {"cell": inner, "carry": as_dicts(start)}

    def initial_carry(self, params: Params, x: Any) -> Carry:
        like = jax.eval_shape(self.cell.initial_carry, params["cell"], x)
        dtype = step_dtype(params, x)

        def spread(a: jax.Array, s: Any) -> jax.Array:
            return jnp.broadcast_to(a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, s.shape)

        return jax.tree.map(spread, shaped_like(like, params["carry"]), like)

    def inner(self, params: Params) -> tuple[Any, Params]:
        """What this wraps, with carry and input unchanged: `method="associative"` looks through it."""
        return self.cell, params["cell"]

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return params | {"cell": prepare(self.cell, params["cell"], key, x)}

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        return call_step(self.cell, params["cell"], carry, x, key)


def as_dicts(carry: Carry) -> Any:
    """A carry as nested dicts under its own names, so that params stay plain dicts: ``LSTMCarry(h, c)`` -> ``{"h", "c"}``."""
    if isinstance(carry, tuple):
        names = getattr(carry, "_fields", [str(i) for i in range(len(carry))])
        return {name: as_dicts(part) for name, part in zip(names, carry, strict=True)}
    return {name: as_dicts(part) for name, part in carry.items()} if isinstance(carry, dict) else carry


def shaped_like(like: Carry, named: Any) -> Carry:
    """The inverse of `as_dicts`, by name, for a carry of the structure of ``like``."""
    if isinstance(like, tuple):
        names = getattr(like, "_fields", [str(i) for i in range(len(like))])
        parts = [shaped_like(part, named[name]) for name, part in zip(names, like, strict=True)]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return {name: shaped_like(part, named[name]) for name, part in like.items()} if isinstance(like, dict) else named

"""`LearnedCarry`: the start is a parameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, step_dtype


@cell
class LearnedCarry:
    """A cell whose initial carry is learned: one start for all sequences, handed to every batch element.

    ``carry_0 = params["carry"]``, broadcast over the batch axes; it starts at the inner cell's own initial carry.
    cell: any cell. params: ``cell`` (the inner cell's), ``carry`` (dict of the carry's arrays without batch axes).
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
        return {"cell": inner, "carry": _named(start)}

    def initial_carry(self, params: Params, x: Any) -> Carry:
        like = jax.eval_shape(self.cell.initial_carry, params["cell"], x)
        leaves = jax.tree.leaves(params["carry"])
        dtype = step_dtype(params, x)
        start = [
            jnp.broadcast_to(a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, s.shape)
            for a, s in zip(leaves, jax.tree.leaves(like), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), start)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        return call_step(self.cell, params["cell"], carry, x, key)


def _named(carry: Carry) -> Any:
    """The carry as nested dicts, so that params stay plain dicts. Leaves must come in the order of the carry's own."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    if len(leaves) == 1 and not leaves[0][0]:
        return leaves[0][1]
    width = len(str(len(leaves)))
    names = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in leaves]
    ordered = names == sorted(names)
    return {n if ordered else f"{i:0{width}d}_{n}": a for i, (n, (_, a)) in enumerate(zip(names, leaves, strict=True))}

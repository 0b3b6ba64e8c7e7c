"""`WeightDrop`: dropout on the recurrent weights."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax

from rnnjax.base import Carry, Key, Params, cell, check_rate, name_of, sequence_key
from rnnjax.protocols import prepare
from rnnjax.wrappers.around import around, check_wrapper, step
from rnnjax.wrappers.once import Drawn, keep_masks, plain


@cell
@around()
class WeightDrop:
    """DropConnect on the recurrent weights: some connections are missing for a whole sequence, for all of the batch.

    ``U' = m U``, ``m ~ Bernoulli(1 - rate) / (1 - rate)``, drawn once before the loop.

    cell: any cell. rate: in [0, 1). names: which params, by the last part of their name, at any depth.
    params, carry, y: the inner cell's. Without a key: the inner cell, unchanged.
    The masks come from the key given to `rnnjax.unroll` alone; a single step draws them from its own key.
    Errors: ValueError/TypeError for a bad rate, and at init when the cell has no such weights.
    Source: Merity, Keskar, Socher 2017 (AWD-LSTM), arXiv:1708.02182.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.WeightDrop(rj.LSTM(4), 0.5), jnp.ones((5, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> rj.unroll(cell, params, xs, key=jax.random.key(1))[1].shape
    (5, 4)
    """

    cell: Any
    rate: float
    _: KW_ONLY
    names: tuple[str, ...] = ("recurrent",)

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_rate("WeightDrop", "rate", self.rate)
        if not (isinstance(self.names, tuple) and self.names and all(isinstance(n, str) for n in self.names)):
            raise TypeError(f"WeightDrop: names must be a tuple of names of params, got {self.names!r}")

    def init(self, key: jax.Array, x: Any) -> Params:
        params = self.cell.init(key, x)
        found = {_last(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
        if not found & set(self.names):
            raise ValueError(
                f"WeightDrop: {name_of(self.cell)} has no params named {' or '.join(map(repr, self.names))}, it has "
                f"{sorted(found)}; pass names="
            )
        return params

    def params_inside(self, params: Params) -> Params:
        return plain(params)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        if key is None:
            return prepare(self.cell, params, None, x)
        k_cell, k_mask = jax.random.split(key)
        return Drawn(prepare(self.cell, self._drop(params, k_mask), k_cell, x), noise=None)

    def _drop(self, params: Params, key: jax.Array) -> Params:
        leaves, structure = jax.tree_util.tree_flatten_with_path(params)
        keys = jax.random.split(key, len(leaves))
        drop = lambda path, w, k: w * keep_masks(k, self.rate, w) if _last(path) in self.names else w
        return jax.tree.unflatten(structure, [drop(path, w, k) for (path, w), k in zip(leaves, keys)])

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        if key is not None and not isinstance(params, Drawn):
            params = self.prepare(params, sequence_key(key), x)
        return step(self, params, carry, x, key)


def _last(path: Any) -> str:
    return str(getattr(path[-1], "key", path[-1])) if path else ""

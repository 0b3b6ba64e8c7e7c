"""`Dropout`: noise on a cell's output, anew at every step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as
from rnnjax.base import Key, Params, cell, check_rate
from rnnjax.wrappers.around import around, check_wrapper


def drop(key: jax.Array, rate: float, tree: Any) -> Any:
    """Every element of every array kept with probability ``1 - rate`` and scaled by its inverse, else zero."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))
    dropped = [
        jnp.where(place_as(jax.random.bernoulli(k, 1 - rate, a.shape), a), a / (1 - rate), 0)
        for k, a in zip(keys, leaves)
    ]
    return jax.tree.unflatten(structure, dropped)


@cell
@around()
class Dropout:
    """Dropout on the output of a cell: ``y = m * y_cell / (1 - rate)``, ``m ~ Bernoulli(1 - rate)`` anew at every step.

    The carry is left alone, as in the "non-recurrent" dropout of Zaremba et al. 2014, arXiv:1409.2329 (and between the
    layers of torch's LSTM). Without a key: the inner cell, unchanged. Masks depend on the keys only, so the engine draws
    them all before the loop.
    cell: any cell. rate: in [0, 1). params, carry: the inner cell's. Errors: ValueError/TypeError for a bad rate.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Dropout(rj.Elman(100), 0.5), jnp.ones((5, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> _, ys = rj.unroll(cell, params, xs, key=jax.random.key(1))
    >>> 0.4 < float((ys == 0).mean()) < 0.6
    True
    """

    cell: Any
    rate: float

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_rate("Dropout", "rate", self.rate)

    def keys_inside(self, key: Key) -> tuple[Key, Key]:
        if key is None or self.rate == 0:
            return key, None
        k_cell, k_mask = jax.random.split(key)
        return k_cell, k_mask

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        return y if key is None else drop(key, self.rate, y)

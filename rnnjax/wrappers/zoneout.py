"""`Zoneout`: some units of the carry keep their old value."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as
from rnnjax.base import Carry, Key, Params, call_step, cell, check_rate, name_of
from rnnjax.wrappers import around
from rnnjax.wrappers.around import check_wrapper
from rnnjax.wrappers.once import follow, is_float


@cell
class Zoneout:
    """Each unit of the carry keeps its old value with probability ``rate``, anew at every step.

    ``carry' = d carry + (1 - d) cell(carry)``, ``d ~ Bernoulli(rate)``; without a key its expectation, ``d = rate``.

    cell: any cell. rate: in [0, 1), one for the whole carry or a tuple, one for each of its parts in order
    (the paper's LSTM: 0.05 for h, 0.5 for c; `LSTMCarry` is (h, c)). params, carry: the inner cell's.
    An output that is a part of the carry follows it, as in the paper; other outputs are the inner cell's.
    Parts that are not floating point (counters) always move on.
    Errors: ValueError/TypeError for a bad rate, or not one for each part. Source: Krueger et al. 2016, arXiv:1606.01305.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Zoneout(rj.LSTM(4), (0.05, 0.5)), jnp.ones((5, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs, key=jax.random.key(1))
    >>> bool((carry.h == ys[-1]).all())
    True
    """

    cell: Any
    rate: float | tuple[float, ...]

    def __post_init__(self) -> None:
        check_wrapper(self)
        if isinstance(self.rate, tuple) and not self.rate:
            raise ValueError(f"Zoneout: rate must be one number or one for each part of the carry, got {self.rate}")
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            check_rate("Zoneout", "rate", rate)

    input_ndim, init, initial_carry, prepare = around.input_ndim, around.init, around.initial_carry, around.prepare

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        k_cell, k_mask = (None, None) if key is None else jax.random.split(key)
        new, y = call_step(self.cell, params, carry, x, k_cell)
        zoned = self._zone(k_mask, carry, new)
        return zoned, follow(y, new, zoned)

    def _zone(self, key: Key, old: Carry, new: Carry) -> Carry:
        olds, (news, structure) = jax.tree.leaves(old), jax.tree.flatten(new)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * len(news)
        if len(rates) != len(news):
            raise ValueError(
                f"Zoneout: rate must be one number or one for each of the {len(news)} parts of the carry of "
                f"{name_of(self.cell)}, got {self.rate}"
            )
        keys = [None] * len(news) if key is None else jax.random.split(key, len(news))
        return jax.tree.unflatten(structure, [_mix(*parts) for parts in zip(keys, rates, olds, news)])


def _mix(key: Key, rate: float, old: jax.Array, new: jax.Array) -> jax.Array:
    if not is_float(new):
        return new
    if key is None:
        return rate * old + (1 - rate) * new
    return jnp.where(place_as(jax.random.bernoulli(key, rate, new.shape), new), old, new)

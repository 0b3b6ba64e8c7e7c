"""`Zoneout`: some units of the carry keep their old value."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as
from rnnjax.base import Carry, Key, Params, call_step, cell, check_rate, name_of
from rnnjax.carry_maps import CarryChange
from rnnjax.wrappers.around import around, check_wrapper
from rnnjax.wrappers.follow import carry_outputs, follow
from rnnjax.wrappers.once import is_float


@cell
@around()
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

    def keys_inside(self, key: Key) -> tuple[Key, Key]:
        if key is None:
            return None, None
        k_cell, k_mask = jax.random.split(key)
        return k_cell, k_mask

    def changes_carry(self, noisy: bool) -> bool:
        return True

    def carry_change(self, params: Params, key: Key, carry: Carry) -> CarryChange:
        ones, zeros = jax.tree.map(jnp.ones_like, carry), jax.tree.map(jnp.zeros_like, carry)
        keep = jax.tree.map(lambda d, a: jnp.broadcast_to(d, a.shape).astype(a.dtype), self._kept(key, carry), carry)
        return CarryChange(before=ones, keep=keep, scale=jax.tree.map(jnp.subtract, ones, keep), shift=zeros)

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        k_cell, k_mask = self.keys_inside(key)
        new, y = call_step(self.cell, params, carry, x, k_cell)
        zoned = jax.tree.map(_mix, self._kept(k_mask, new), carry, new)
        return zoned, follow(y, zoned, carry_outputs(self.cell, params, carry, x, k_cell))

    def _kept(self, key: Key, carry: Carry) -> Any:
        """d for every part: the share that is kept, or with a key which units are; False for what always moves on."""
        leaves, structure = jax.tree.flatten(carry)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * len(leaves)
        if len(rates) != len(leaves):
            raise ValueError(
                f"Zoneout: rate must be one number or one for each of the {len(leaves)} parts of the carry of "
                f"{name_of(self.cell)}, got {self.rate}"
            )
        keys = [None] * len(leaves) if key is None else jax.random.split(key, len(leaves))
        return jax.tree.unflatten(structure, [_share(*part) for part in zip(keys, rates, leaves)])


def _share(key: Key, rate: float, a: jax.Array) -> Any:
    if not is_float(a):
        return False
    return rate if key is None else place_as(jax.random.bernoulli(key, rate, a.shape), a)


def _mix(d: Any, old: jax.Array, new: jax.Array) -> jax.Array:
    if not is_float(new):
        return new
    return d * old + (1 - d) * new if isinstance(d, (int, float)) else jnp.where(d, old, new)

"""`Noise`: Gaussian noise at every step."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, check_choice
from rnnjax.carry_maps import CarryChange
from rnnjax.cells.shared.options import check_at_least_zero
from rnnjax.wrappers.around import around, check_wrapper, step
from rnnjax.wrappers.follow import carry_outputs, follow
from rnnjax.wrappers.once import is_float


@cell
@around()
class Noise:
    """Gaussian noise of standard deviation ``std`` on the carry, the input or the output, anew at every step.

    cell: any cell. std: at least 0. at: "carry" (private noise of the units; what the cell remembers then drifts), "input" or
    "output". An output that is a part of the carry follows it. Without a key: the inner cell, unchanged.
    params, carry, y: the inner cell's. Errors: ValueError/TypeError for a negative std or an unknown place.
    Source: Jim, Giles, Horne 1996, An analysis of noise in recurrent neural networks; Lim et al. 2021, arXiv:2102.04877.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Noise(rj.GRU(4), 0.1), jnp.ones((5, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs, key=jax.random.key(1))
    >>> bool((carry == ys[-1]).all()), bool((ys != rj.unroll(cell, params, xs)[1]).all())
    (True, True)
    """

    cell: Any
    std: float
    _: KW_ONLY
    at: str = "carry"

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_at_least_zero("Noise", std=self.std)
        check_choice("Noise", "at", self.at, ("carry", "input", "output"))

    def keys_inside(self, key: Key) -> tuple[Key, Key]:
        if key is None:
            return None, None
        k_cell, k_noise = jax.random.split(key)
        return k_cell, k_noise

    def input_inside(self, params: Params, x: Any, key: Key) -> Any:
        return x if key is None or self.at != "input" else self._add(key, x)

    def output_around(self, params: Params, x: Any, carry: None, y: Any, key: Key) -> Any:
        return y if key is None or self.at != "output" else self._add(key, y)

    def changes_carry(self, noisy: bool) -> bool:
        return noisy and self.at == "carry"

    def carry_change(self, params: Params, key: Key, carry: Carry) -> CarryChange:
        zeros, ones = (jax.tree.map(like, carry) for like in (jnp.zeros_like, jnp.ones_like))
        return CarryChange(before=ones, keep=zeros, scale=ones, shift=self._add(key, zeros))

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        if not self.changes_carry(key is not None):
            return step(self, params, carry, x, key)
        k_cell, k_noise = self.keys_inside(key)
        new, y = call_step(self.cell, params, carry, x, k_cell)
        noisy = self._add(k_noise, new)
        return noisy, follow(y, noisy, carry_outputs(self.cell, params, carry, x, k_cell))

    def _add(self, key: jax.Array, tree: Any) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        keys = jax.random.split(key, max(len(leaves), 1))
        add = lambda k, a: a + self.std * jax.random.normal(k, a.shape, a.dtype) if is_float(a) else a
        return jax.tree.unflatten(structure, [add(k, a) for k, a in zip(keys, leaves)])

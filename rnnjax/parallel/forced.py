"""`Forced`: generalised teacher forcing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Key, Params, call_step, cell, check_rate
from rnnjax.protocols import input_axes, prepare
from rnnjax.wrappers.around import check_wrapper


@cell
class Forced:
    """Generalised teacher forcing: before every step the carry is drawn towards one that is given.

    ``carry', y = cell(params, (1 - share) carry + share teacher_t, x_t)``

    cell: any cell. share: in [0, 1); 0 is the cell itself. One step's input is the pair ``(x, teacher)``, teacher of the structure of
    the carry, NaN where nothing is known. params, carry, y: the inner cell's.
    Jacobians shrink by ``1 - share``: from a share of ``1 - exp(-exponent)`` on, gradients stay bounded, of a chaotic cell too. Newton's
    method then takes a few iterations for any T where its guesses on the way do not run off, which takes a larger share.
    Errors: ValueError/TypeError for a bad share or an input that is not a pair.
    Source: Hess, Monfared, Brenner, Durstewitz 2023, arXiv:2306.04406, equation 5.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs, seen = rj.parallel.Forced(rj.GRU(4), 0.2), jnp.ones((9, 3)), jnp.zeros((9, 4))
    >>> params = cell.init(jax.random.key(0), (xs[0], seen[0]))
    >>> bool(rj.parallel.newton(cell, params, (xs, seen)).converged)
    True
    """

    cell: Any
    share: float

    def __post_init__(self) -> None:
        check_wrapper(self)
        check_rate("Forced", "share", self.share)

    @property
    def input_ndim(self) -> int:
        return input_axes(self.cell)

    def init(self, key: jax.Array, x: Any) -> Params:
        return self.cell.init(key, _pair(x)[0])

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return self.cell.initial_carry(params, _pair(x)[0])

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        return prepare(self.cell, params, key, _pair(x)[0])

    def __call__(self, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
        x, teacher = _pair(x)
        return call_step(self.cell, params, jax.tree.map(self._drawn, carry, teacher), x, key)

    def _drawn(self, own: jax.Array, given: jax.Array) -> jax.Array:
        known = jnp.where(jnp.isnan(given), own, given.astype(own.dtype))  # no NaN in a product: gradients
        return (1 - self.share) * own + self.share * known


def _pair(x: Any) -> tuple[Any, Any]:
    if not (isinstance(x, tuple) and len(x) == 2):
        raise TypeError(f"Forced: one step's input is the pair (x, teacher), got {type(x).__name__}")
    return x

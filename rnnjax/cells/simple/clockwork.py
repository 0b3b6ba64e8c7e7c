"""Clockwork network: groups of units that tick at periods of their own."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.base import Key, cell, check_carry, check_size, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


class ClockworkCarry(NamedTuple):
    """h ``[*B, H]``: the state. t int32 ``[*B]``: steps since the start, modulo the common period."""

    h: jax.Array
    t: jax.Array


@published(family="simple", paper="Koutnik, Greff, Gomez, Schmidhuber 2014, arXiv:1402.3511", year=2014)
@cell
class Clockwork:
    """Clockwork RNN: module i of the state is updated only at steps t that its period divides, else it keeps its value.

    ``h'_i = tanh(x W_i + sum_j h_j U_ji + b_i)`` if ``t mod T_i = 0`` else ``h_i``, the sum over modules j at
    least as slow, ``T_j >= T_i``;
    ``y = h'``. t counts from 0, so that every module ticks at the first step and after a reset.

    features: H, divided evenly among the modules. periods: T_i; powers of two as in the paper.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]`` (blocks from faster to slower modules are not used), ``bias`` b ``[H]``.
    carry: ``ClockworkCarry(h, t)``. y: ``[*B, H]``.

    Start: W, U lecun, b zero. Errors: ValueError/TypeError for periods below one, or that do not divide H, or bad shapes.
    Source: Koutnik, Greff, Gomez, Schmidhuber 2014, arXiv:1402.3511.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Clockwork(4, periods=(1, 3)), jnp.arange(6.0).reshape(6, 1)
    >>> _, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> (ys[1:, 2] != ys[:-1, 2]).tolist()
    [False, False, True, False, False]
    """

    features: int
    _: KW_ONLY
    periods: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.periods, tuple) or not self.periods:
            raise TypeError(f"Clockwork: periods must be a tuple of ints such as (1, 2, 4), got {self.periods!r}")
        for period in self.periods:
            check_size("Clockwork", "each of periods", period)
        if self.features % len(self.periods):
            raise ValueError(
                f"Clockwork: features={self.features} must divide into {len(self.periods)} modules, one for each of periods"
            )

    def _unit_periods(self) -> np.ndarray:
        return np.repeat(np.array(self.periods, np.int32), self.features // len(self.periods))

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 1, recurrent=initializers.lecun)

    def initial_carry(self, params: Any, x: Any) -> ClockworkCarry:
        return ClockworkCarry(zeros_like_step(params, x, self.features), jnp.zeros(x.shape[:-1], jnp.int32))

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[ClockworkCarry, jax.Array]:
        if not isinstance(carry, ClockworkCarry):
            check_carry(self, carry, x, self.features, ClockworkCarry)
        check_step(self, params, carry.h, x, ("input", "recurrent", "bias"))
        h, t = carry
        period = self._unit_periods()
        reaches = jnp.asarray(period[:, None] >= period[None, :], h.dtype)  # [from, to]
        new = jnp.tanh(x @ params["input"] + h @ (params["recurrent"] * reaches) + params["bias"])
        h = jnp.where(t[..., None] % jnp.asarray(period) == 0, new, h)
        return ClockworkCarry(h, (t + 1) % math.lcm(*self.periods)), h

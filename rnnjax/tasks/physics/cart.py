"""A pole on a cart, pushed left or right."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

GRAVITY, CART, POLE, HALF = 9.8, 1.0, 0.1, 0.5  # m/s2, kg, kg, and half the pole's length in m
FORCE, SECONDS = 10.0, 0.02  # N of a push, and how long it lasts
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * jnp.pi / 360  # m from the middle, rad from upright
LONGEST = 500  # steps of an episode


class Cart(NamedTuple):
    """x: m. v: m/s. angle: rad from upright, positive to the right. turn: rad/s. Arrays ``[*B]``."""

    x: jax.Array
    v: jax.Array
    angle: jax.Array
    turn: jax.Array


def push(state: Cart, action: jax.Array) -> Cart:
    """A fiftieth of a second (explicit Euler) under a force of ``10 action`` N, action in [-1, 1].

        f       = (F + m l turn^2 sin angle) / (M + m)
        turn'   = (g sin angle - f cos angle) / (l (4/3 - m cos^2 angle / (M + m)))
        v'      = f - m l turn' cos angle / (M + m)

    Source: Barto, Sutton and Anderson 1983, IEEE Trans. SMC 13:834, without friction, as CartPole-v1 of Gym and gymnax.

    >>> still = Cart(*jnp.zeros(4))
    >>> [round(float(part), 3) for part in push(push(still, 1.0), 1.0)]
    [0.004, 0.39, -0.006, -0.585]
    """
    mass, moment = CART + POLE, POLE * HALF
    sine, cosine = jnp.sin(state.angle), jnp.cos(state.angle)
    f = (FORCE * action + moment * state.turn**2 * sine) / mass
    turning = (GRAVITY * sine - cosine * f) / (HALF * (4 / 3 - POLE * cosine**2 / mass))
    speeding = f - moment * turning * cosine / mass
    rates = Cart(state.v, speeding, state.turn, turning)
    return Cart(*(part + SECONDS * rate for part, rate in zip(state, rates)))


def fallen(state: Cart) -> jax.Array:
    """Whether an episode is over: the cart too far from the middle, or the pole too far from upright."""
    return (jnp.abs(state.x) > X_LIMIT) | (jnp.abs(state.angle) > ANGLE_LIMIT)


def starts(key: jax.Array, count: int) -> Cart:
    """Where episodes begin: each number uniform between -0.05 and 0.05."""
    return Cart(*jax.random.uniform(key, (4, count), minval=-0.05, maxval=0.05))

"""Muscles: how drive becomes activation, and activation, length and velocity become force."""

from __future__ import annotations

import jax
import jax.numpy as jnp

RISE, FALL = 0.015, 0.05  # s


def activation_rate(drive: jax.Array, activation: jax.Array) -> jax.Array:
    """1/s: ``(u - a) / tau``, tau = 0.015 (0.5 + 1.5 a) while it rises, 0.05 / (0.5 + 1.5 a) while it falls.

    Source: Thelen 2003, J. Biomech. Eng. 125:70, equations 1 and 2.
    """
    faster = 0.5 + 1.5 * activation
    return (drive - activation) / jnp.where(drive > activation, RISE * faster, FALL / faster)


def hill_force(activation: jax.Array, length: jax.Array, velocity: jax.Array) -> jax.Array:
    """Force of a muscle on a rigid tendon, in shares of its greatest isometric force; what is stretched adds its own.

    activation q in (0, 1]; length in optimal lengths; velocity in greatest ones (ten optimal lengths a second), negative
    while it shortens. All ``[*B]``.

        f    = max(1 - ((length - 1) / 0.66)^2, 0.01)                                      force by length
        a    = 0.41 f beyond the optimal length, else 0.41                                 Hill's constants
        b    = 5.2 (1 - 0.9 (0.3 - q) / (0.3 - 0.005))^2 where q < 0.3, else 5.2
        v <= 0:  F = q (f b + a v) / (b - v)                                               Hill's hyperbola
        v > 0:   F = 3 h + s v - h^2 / (h + (2 k - s) v),   h = q f / 2                    tends to 1.5 q f + s v; twice as steep at v = 0
                 k = q (f + a) / b,   s = 0.001
        passive  = (max(length - 1.4, 0) / 0.26)^2

    Source: Kistemaker, Wong and Gribble 2010, J. Neurophysiol. 104:2985, after van Soest and Bobbert 1993, Biol. Cybern. 69:195, with the
    tendon made rigid as in MotorNet (Codol et al. 2024, eLife 12:RP88591), whose RigidTendonHillMuscle this equals.

    >>> [round(float(hill_force(*jnp.array([1.0, 1.0, v]))), 3) for v in (-0.5, 0.0, 0.5)]
    [0.876, 1.0, 1.176]
    """
    f = jnp.maximum(1 - ((length - 1) / 0.66) ** 2, 0.01)
    a = jnp.where(length > 1, 0.41 * f, 0.41)
    b = jnp.where(activation < 0.3, 5.2 * (1 - 0.9 * (0.3 - activation) / 0.295) ** 2, 5.2)
    slow, fast = jnp.minimum(velocity, 0.0), jnp.maximum(velocity, 0.0)  # each curve is asked where it holds alone
    shortening = activation * (f * b + a * slow) / (b - slow)
    h, slope, s = activation * f / 2, 2 * activation * (f + a) / b, 0.001
    lengthening = 3 * h + s * fast - h**2 / (h + (slope - s) * fast)
    active = jnp.where(velocity < 0, shortening, lengthening)
    return jnp.maximum(active, 0.0) + (jnp.maximum(length - 1.4, 0.0) / 0.26) ** 2

"""An arm of two links in a horizontal plane, moved by torques at shoulder and elbow."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Links(NamedTuple):
    """Of upper arm and forearm: length m, mass kg, distance of the centre of mass from the joint m, moment of inertia about it kg m2.

    limits: the least and the largest angle of shoulder and elbow, rad.
    """

    length: tuple[float, float]
    mass: tuple[float, float]
    centre: tuple[float, float]
    inertia: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]


HUMAN = Links(
    (0.309, 0.333), (1.82, 1.43), (0.135, 0.165), (0.051, 0.057), ((0.0, 0.0), tuple(np.deg2rad([135.0, 155.0])))
)
"""Nijhof and Kouwenhoven 2000, in Winters and Crago, Biomechanics and Neural Control of Posture and Movement; limits of MotorNet."""


def accelerations(links: Links, angle: jax.Array, turn: jax.Array, torque: jax.Array) -> jax.Array:
    """rad/s2 at shoulder and elbow ``[*B, 2]``, from angles rad, their rates rad/s and torques N m, each ``[*B, 2]``.

        M(angle) turn' = torque - C(angle, turn)
        M = [A + 2 B cos elbow, D + B cos elbow; D + B cos elbow, D]
        A = I1 + I2 + m1 c1^2 + m2 (l1^2 + c2^2),  B = m2 l1 c2,  D = I2 + m2 c2^2
        C = B sin elbow [-turn2 (2 turn1 + turn2), turn1^2]

    Neither gravity nor friction. The angle of the elbow is that of the forearm from the upper arm.
    Source: any textbook of robotics, as Craig 2005, Introduction to Robotics, section 6.7.

    >>> [round(float(a), 2) for a in accelerations(HUMAN, jnp.array([0.5, 1.0]), jnp.zeros(2), jnp.array([1.0, 0.0]))]
    [4.89, -6.9]
    """
    (l1, _), (m1, m2), (c1, c2), (i1, i2) = links.length, links.mass, links.centre, links.inertia
    a, b, d = i1 + i2 + m1 * c1**2 + m2 * (l1**2 + c2**2), m2 * l1 * c2, i2 + m2 * c2**2
    cosine, sine = b * jnp.cos(angle[..., 1]), b * jnp.sin(angle[..., 1])
    shoulder, elbow = turn[..., 0], turn[..., 1]
    m11, m12 = a + 2 * cosine, d + cosine
    r1 = torque[..., 0] + sine * elbow * (2 * shoulder + elbow)
    r2 = torque[..., 1] - sine * shoulder**2
    return jnp.stack([d * r1 - m12 * r2, m11 * r2 - m12 * r1], -1) / (m11 * d - m12**2)[..., None]


def hand(links: Links, angle: jax.Array) -> jax.Array:
    """Where the hand is, m from the shoulder ``[*B, 2]``."""
    return elbow(links, angle) + links.length[1] * _towards(angle.sum(-1))


def elbow(links: Links, angle: jax.Array) -> jax.Array:
    """Where the elbow is, m from the shoulder ``[*B, 2]``."""
    return links.length[0] * _towards(angle[..., 0])


def _towards(angle: jax.Array) -> jax.Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def euler(
    place: jax.Array, speed: jax.Array, acceleration: jax.Array, seconds: float, limits: tuple
) -> tuple[jax.Array, jax.Array]:
    """The next place and speed (explicit Euler), each ``[*B, D]``; at a limit of the place it stops.

    limits: the least and the largest places, ``[D]`` each.
    """
    low, high = (jnp.asarray(limit, place.dtype) for limit in limits)
    place, speed = place + seconds * speed, speed + seconds * acceleration
    stopped = ((place <= low) & (speed < 0)) | ((place >= high) & (speed > 0))
    return jnp.clip(place, low, high), jnp.where(stopped, 0.0, speed)

"""Bodies that muscles move: the human arm with six of them, and a point between four. Euler steps of a hundredth of a second."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import cell
from rnnjax.tasks.physics.arm import HUMAN, accelerations, euler, hand
from rnnjax.tasks.physics.muscle import activation_rate, hill_force

SECONDS = 0.01


class Moved(NamedTuple):
    """A body and its M muscles. place, speed: ``[*B, 2]``, rad or m, and that a second. activation: ``[*B, M]``, in [0, 1].

    length, velocity: of the muscles, ``[*B, M]``, m and m/s, as of the place one step before: so long it takes them to be felt.
    """

    place: jax.Array
    speed: jax.Array
    activation: jax.Array
    length: jax.Array
    velocity: jax.Array


class Body(Protocol):
    """What `start` and `step` need to know."""

    muscles: int
    least: float  # the activation of a muscle at rest
    limits: tuple[tuple[float, float], tuple[float, float]]  # the least and the largest places

    def geometry(self, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        """From places ``[*B, 2]`` lengths ``[*B, M]`` of muscles and how they grow with each place, ``[*B, 2, M]``."""
        ...

    def force(self, activation: jax.Array, length: jax.Array, velocity: jax.Array) -> jax.Array:
        """N, ``[*B, M]``."""
        ...

    def accelerations(self, place: jax.Array, speed: jax.Array, pull: jax.Array) -> jax.Array:
        """Of the places, ``[*B, 2]``, under generalised forces."""
        ...

    def hand(self, place: jax.Array) -> jax.Array:
        """m, ``[*B, 2]``."""
        ...

    def felt(self, state: Moved) -> jax.Array:
        """What is felt of the muscles: lengths and velocities ``[*B, 2 M]``, each in units of its own."""
        ...


def start(body: Body, place: jax.Array) -> Moved:
    """At rest at a place, with muscles at rest."""
    length, levers = body.geometry(place)
    return Moved(place, jnp.zeros_like(place), jnp.full_like(length, body.least), length, jnp.zeros_like(length))


def step(body: Body, state: Moved, drive: jax.Array) -> Moved:
    """A hundredth of a second under ``drive`` in [0, 1], ``[*B, M]``: everything moves by the rates of the state before.

    pull = - levers . force;  activation by `activation_rate`;  length and velocity become those of the place before;
    place and speed by `rnnjax.tasks.physics.arm.euler`.
    """
    length, levers = body.geometry(state.place)
    force = body.force(state.activation, state.length, state.velocity)
    pull = -(levers * force[..., None, :]).sum(-1)
    rate = activation_rate(jnp.clip(drive, body.least, 1), state.activation)
    activation = jnp.clip(state.activation + SECONDS * rate, body.least, 1)
    acceleration = body.accelerations(state.place, state.speed, pull)
    place, speed = euler(state.place, state.speed, acceleration, SECONDS, body.limits)
    return Moved(place, speed, activation, length, (levers * state.speed[..., :, None]).sum(-2))


@cell
class Arm:
    """A human arm with six muscles: pectoralis, deltoid, brachioradialis, lateral triceps, biceps, long triceps.

    The lengths of the muscles are polynomials of the angles: ``A0 + sum over joints of (A1 + A2 (angle - A3)) (angle - A3)``.
    Bones and polynomials: Nijhof and Kouwenhoven 2000 (see `rnnjax.tasks.physics.arm.HUMAN`); forces, tendons and optimal lengths as in
    Kistemaker, Wong and Gribble 2010. It equals RigidTendonArm26 with RigidTendonHillMuscle of MotorNet.
    """

    muscles = 6
    least = 0.001
    limits = HUMAN.limits

    def geometry(self, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        a0, a1, a2, greatest, tendon, optimal = _constants(place.dtype)
        away = (place - jnp.array([np.pi / 2, 0], place.dtype))[..., None]
        return a0 + ((a1 + a2 * away) * away).sum(-2), a1 + 2 * a2 * away

    def force(self, activation: jax.Array, length: jax.Array, velocity: jax.Array) -> jax.Array:
        *_, greatest, tendon, optimal = _constants(length.dtype)
        relative = jnp.maximum(length - tendon, 0) / optimal
        return greatest * hill_force(activation, relative, velocity / (10 * optimal))

    def accelerations(self, place: jax.Array, speed: jax.Array, pull: jax.Array) -> jax.Array:
        return accelerations(HUMAN, place, speed, pull)

    def hand(self, place: jax.Array) -> jax.Array:
        return hand(HUMAN, place)

    def felt(self, state: Moved) -> jax.Array:
        *_, tendon, optimal = _constants(state.length.dtype)
        relative = jnp.maximum(state.length - tendon, 0) / optimal
        return jnp.concatenate([relative, state.velocity / (10 * optimal)], -1)


def _constants(dtype: jnp.dtype) -> list[jax.Array]:
    """Per muscle: A0 m, A1 m ``[2, 6]``, A2 m ``[2, 6]``, greatest isometric force N, length of the tendon m, optimal length m."""
    return [jnp.array(row, dtype) for row in ARM]


ARM = (
    (0.151, 0.2322, 0.2859, 0.2355, 0.3329, 0.2989),
    ((-0.03, 0.03, 0, 0, -0.03, 0.03), (0, 0, -0.014, 0.025, -0.016, 0.03)),
    ((0, 0, 0, 0, 0, 0), (0, 0, -4e-3, -2.2e-3, -5.7e-3, -3.2e-3)),
    (838, 1207, 1422, 1549, 414, 603),
    (0.039, 0.066, 0.172, 0.187, 0.204, 0.217),
    (0.134, 0.140, 0.092, 0.093, 0.137, 0.127),
)


@cell
class Point:
    """A kilogram on a square of 2 m, pulled by four muscles to corners at (+-2, +-2) m, each by 500 N times its activation.

    It equals ReluPointMass24 of MotorNet.
    """

    muscles = 4
    least = 0.0
    limits = ((-1.0, -1.0), (1.0, 1.0))

    def geometry(self, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        corners = jnp.array([[2, -2, 2, -2], [2, 2, -2, -2]], place.dtype)
        away = place[..., None] - corners
        length = jnp.sqrt((away**2).sum(-2))
        return length, away / length[..., None, :]

    def force(self, activation: jax.Array, length: jax.Array, velocity: jax.Array) -> jax.Array:
        return 500.0 * activation

    def accelerations(self, place: jax.Array, speed: jax.Array, pull: jax.Array) -> jax.Array:
        return pull

    def hand(self, place: jax.Array) -> jax.Array:
        return place

    def felt(self, state: Moved) -> jax.Array:
        return jnp.concatenate([state.length, state.velocity], -1)

"""`planning`: a network drives a point by forces, and an arm of two links by torques, round discs to a target.

An episode has a hundred steps. Seen are the hand's place and speed, the target, and three discs in between. What a way costs: its
length, ten metres for each metre through a disc (the hand's alone), and ten times how far from the target the hand
is in the last tenth; all of it in straight distances, so that 1 is a straight way through nothing. Learned by gradients
through the motion, with discs whose edges are blurred.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnjax as rj
from rnnjax.tasks.physics import ways
from rnnjax.tasks.physics.arm import HUMAN, accelerations, euler, hand
from rnnjax.tasks.physics.ways import COLLISION, Discs
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting, cosine

STEPS, LAST, MISS, DISCS = 100, 10, 10.0, 3
KEYS = {"valid": 1, "test": 2}


class Driven(NamedTuple):
    """A body without muscles. strength: N or N m that it is driven by at most. drawn: between which places episodes start and end.

    size: m, what lengths are told to the network in. moves: ``(place, speed, drive) -> acceleration``.
    """

    seconds: float
    strength: float
    size: float
    limits: tuple[tuple[float, float], tuple[float, float]]
    drawn: tuple[tuple[float, float], tuple[float, float]]
    moves: Any
    hand: Any


BODIES = {
    "point": Driven(
        0.02, 10.0, 1.0, ((-2.0, -2.0), (2.0, 2.0)), ((-1.0, -1.0), (1.0, 1.0)), lambda p, v, f: f, lambda p: p
    ),
    "arm": Driven(
        0.01,
        3.0,
        0.3,
        HUMAN.limits,  # without them networks learned, now and then, to turn the elbow through itself, a long way round
        ((0.3, 0.7), (2.0, 2.3)),
        partial(accelerations, HUMAN),
        partial(hand, HUMAN),
    ),
}


class Scene(NamedTuple):
    """Where a body starts ``[B, 2]``, where its hand is to go ``[B, 2]``, and what is in between."""

    place: jax.Array
    target: jax.Array
    discs: Discs


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch, judged = setting.length(3000, full=12000), setting.pick(64, small=4), setting.pick(100, small=3)
    policy: Any = rj.Readout(rj.GRU(setting.pick(64, small=4)), 2)
    key = jax.random.key(setting.seed)
    given = {
        split: {name: scenes(body, jax.random.key(place), judged) for name, body in BODIES.items()}
        for split, place in KEYS.items()
    }
    params = {
        name: policy.init(key, told(body, given["valid"][name], *still(given["valid"][name])))
        for name, body in BODIES.items()
    }

    @jax.jit
    def batches(step: int) -> dict[str, Scene]:
        return {name: scenes(body, jax.random.fold_in(key, step), batch) for name, body in BODIES.items()}

    def loss(params: Params, carry: Any, batch: dict[str, Scene], key: Any) -> tuple[Any, jax.Array]:
        each = [
            costs(batch[name], driven(body, policy, params[name], batch[name]), 0.1 * body.size)
            for name, body in BODIES.items()
        ]
        return carry, jnp.stack([total.mean() for total, *_ in each]).sum()

    drive = {name: jax.jit(partial(driven, body, policy)) for name, body in BODIES.items()}

    def score(params: Params, split: str) -> Score:
        found = {name: costs(scene, drive[name](params[name], scene)) for name, scene in given[split].items()}
        parts = {
            f"{name}, {what}": float(value.mean())
            for name, values in found.items()
            for what, value in zip(("cost", "length", "in discs", "miss"), values)
        }
        if split == "test":
            parts |= {f"{name}, length by A*": by_a_star(BODIES[name], scene) for name, scene in given[split].items()}
        return Score(float(np.mean([values[0].mean() for values in found.values()])), parts)

    apart = {name: optax.chain(optax.clip_by_global_norm(1.0), cosine(3e-3, steps)) for name in BODIES}
    optimizer = optax.partition(apart, {name: name for name in BODIES})  # these networks share nothing
    floors = {"straight way": lambda: straight(given["test"])}
    return Problem(params, loss, batches, score, floors, optimizer, steps, clip=None)


def straight(given: dict[str, Scene]) -> float:
    """What the straight way costs, walked to its end, on average over bodies."""
    each = []
    for name, scene in given.items():
        length, inside = _way(scene, ways.straight(BODIES[name].hand(scene.place), scene.target))
        each.append(float((length + inside).mean()))
    return float(np.mean(each))


def scenes(body: Driven, key: jax.Array, count: int) -> Scene:
    """Starts, of four places each the farthest as target, and discs about the straight way that leave both ends free."""
    k_place, k_share, k_aside, k_radius = jax.random.split(key, 4)
    low, high = jnp.array(body.drawn)
    places = low + (high - low) * jax.random.uniform(k_place, (5, count, 2))
    hands = body.hand(places)
    begin, far = hands[0], jnp.linalg.norm(hands[1:] - hands[0], axis=-1)
    target = jnp.take_along_axis(hands[1:], far.argmax(0)[None, :, None], 0)[0]
    span = far.max(0)[:, None]
    along = ((target - begin) / span)[:, None]
    across = jnp.stack([-along[..., 1], along[..., 0]], -1)
    share = jax.random.uniform(k_share, (count, DISCS), minval=0.25, maxval=0.75)[..., None]
    aside = 0.15 * jax.random.normal(k_aside, (count, DISCS))[..., None]
    centre = begin[:, None] + span[..., None] * (share * along + aside * across)
    free = jnp.minimum(*(jnp.linalg.norm(centre - end[:, None], axis=-1) for end in (begin, target))) - 0.1 * span
    radius = span * jax.random.uniform(k_radius, (count, DISCS), minval=0.08, maxval=0.2)
    return Scene(places[0], target, Discs(centre, jnp.minimum(radius, free)))


def still(scene: Scene) -> tuple[jax.Array, jax.Array]:
    """Place and speed ``[*B, 2]`` at the start of a scene."""
    return scene.place, jnp.zeros_like(scene.place)


def told(body: Driven, scene: Scene, place: jax.Array, speed: jax.Array) -> jax.Array:
    """What the network is given: place and speed, and seen from the hand the target and the discs."""
    at = body.hand(place)
    discs = (scene.discs.centre - at[..., None, :]).reshape(*at.shape[:-1], 2 * DISCS)
    seen = jnp.concatenate([scene.target - at, discs, scene.discs.radius], -1) / body.size
    return jnp.concatenate([place, speed / 3, seen], -1)


def driven(body: Driven, policy: Any, params: Params, scene: Scene) -> jax.Array:
    """The hand's way ``[101, B, 2]`` under a network."""
    begin = (still(scene), policy.initial_carry(params, told(body, scene, *still(scene))))

    def move(carry: Any, _: None) -> tuple[Any, jax.Array]:
        (place, speed), memory = carry
        memory, drive = policy(params, memory, told(body, scene, place, speed))
        pushed = body.moves(place, speed, body.strength * jnp.tanh(drive))
        place, speed = euler(place, speed, pushed, body.seconds, body.limits)
        return ((place, speed), memory), place

    places = rj.scan(move, begin, length=STEPS)[1]
    return body.hand(jnp.concatenate([scene.place[None], places]))


def costs(scene: Scene, way: jax.Array, blur: float | None = None) -> tuple[jax.Array, ...]:
    """Cost of a way ``[T, B, 2]``, and of what it is made: length, length in discs, miss; in straight distances, ``[B]`` each."""
    length, inside = _way(scene, way, blur)
    miss = jnp.sqrt(((way[-LAST:] - scene.target) ** 2).sum(-1) + 1e-12).mean(0) / _span(scene, way)
    return length + inside + MISS * miss, length, inside / COLLISION, miss


def _way(scene: Scene, way: jax.Array, blur: float | None = None) -> tuple[jax.Array, jax.Array]:
    length, inside = ways.cost(scene.discs, way, blur)
    return length / _span(scene, way), COLLISION * inside / _span(scene, way)


def _span(scene: Scene, way: jax.Array) -> jax.Array:
    return jnp.linalg.norm(scene.target - way[0], axis=-1)


def by_a_star(body: Driven, scene: Scene) -> float:
    """The mean of the shortest ways, in straight distances."""
    begins, targets = (np.asarray(ends, float) for ends in (body.hand(scene.place), scene.target))
    discs = [Discs(*each) for each in zip(*map(np.asarray, scene.discs))]
    lengths = [ways.shortest(*each) for each in zip(discs, begins, targets)]
    return float(np.mean(np.array(lengths) / np.hypot(*(targets - begins).T)))


RECIPE = Recipe(
    "planning",
    set="a point and an arm of two links, three discs between start and target, drawn on the fly; 100 scenes to choose by, 100 to test",
    metric="cost",
    better="lower",
    floor="the straight way",
    make=make,
    beside="A* knows the discs and no inertia; of the arm it does not ask whether the hand can be everywhere on its way",
)

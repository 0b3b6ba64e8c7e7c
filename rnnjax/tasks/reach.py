"""`reach` and `reach_point`: a network moves the muscles of an arm, or of a point, so that the hand comes to a target and stays.

The task is RandomTargetReach of MotorNet (Codol et al. 2024, eLife 12:RP88591), written from its papers: an episode is a
second in steps of 0.01 s, without noise or delay; start and target are places drawn evenly between the limits of the body;
seen are target and hand, felt are length and velocity of each muscle; the loss is ``|x - target| + |y - target|`` in m, mean over
the start, the hundred steps and the episodes. A GRU of 32 with a logistic output, started at -5, batches of 32, clipping
at 1, as in MotorNet's example; Adam starts at 0.005 and goes down by a cosine, where the example stays at 0.001 (``benchmarks/reaching.py``
runs both). Learned by gradients through the body.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnjax as rj
from rnnjax.tasks.physics.muscled import Arm, Body, Moved, Point, start, step
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting
from rnnjax.tasks.run import train

STEPS, KEYS = 100, {"valid": 1, "test": 2}


class Episode(NamedTuple):
    """Where bodies start and what they are to reach, places ``[B, 2]``."""

    place: jax.Array
    target: jax.Array


def make(body: Body, setting: Setting) -> Problem:
    """The problem of one body, in the size that the setting asks for."""
    steps, batch, judged = setting.length(5750, full=20000), 32, setting.pick(512, small=16)
    policy, key = network(body, setting.pick(32, small=4)), jax.random.key(setting.seed)
    given = {split: episodes(body, jax.random.key(place), judged) for split, place in KEYS.items()}
    draw = jax.jit(lambda number: episodes(body, jax.random.fold_in(key, number), batch))

    def problem(remembers: bool) -> Problem:
        loss = lambda params, carry, episode, key: (carry, away(body, policy, params, episode, remembers).mean())
        distances = jax.jit(lambda params, episode: away(body, policy, params, episode, remembers))

        def score(params: Params, split: str) -> Score:
            found = np.asarray(distances(params, given[split]))
            return Score(float(found.mean()), {"in the last tenth of a second": float(found[-10:].mean())})

        params = started(policy, key, shown(body, given["test"], start(body, given["test"].place)))
        return Problem(params, loss, draw, score, {}, learner(steps), steps)

    def forgetful() -> float:
        alike = problem(remembers=False)
        return alike.score(train(RECIPE, alike, setting.seed, progress=False).params, "test").value

    still = lambda: float(jnp.abs(body.hand(given["test"].place) - given["test"].target).sum(-1).mean())
    floors = {"a hand that stays": still, "the same network, forgetting after each step": forgetful}
    return problem(remembers=True)._replace(floors=floors)


def learner(steps: int) -> optax.GradientTransformation:
    """Adam, from 0.005 down a cosine."""
    return optax.adam(optax.cosine_decay_schedule(5e-3, steps))


def episodes(body: Body, key: jax.Array, count: int) -> Episode:
    """Starts and targets of so many episodes: the hand's places for angles drawn evenly between the limits."""
    low, high = jnp.array(body.limits)
    places = low + (high - low) * jax.random.uniform(key, (2, count, 2))
    return Episode(places[0], body.hand(places[1]))


def network(body: Body, hidden: int) -> Any:
    """What drives the muscles: a GRU and a linear readout, as in MotorNet's example."""
    return rj.Readout(rj.GRU(hidden), body.muscles)


def started(policy: Any, key: jax.Array, seen: jax.Array) -> Params:
    """Params as MotorNet starts them: Glorot, the recurrence orthogonal, and muscles that are hardly driven at first."""
    params, keys = policy.init(key, seen), jax.random.split(key, 3)
    glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()
    inside = params["cell"]
    inside = inside | {
        "input": glorot(keys[0], inside["input"].shape),
        "recurrent": orthogonal(keys[1], inside["recurrent"].shape),
    }
    output = glorot(keys[2], params["output"].shape)
    return {"cell": inside, "output": output, "output_bias": jnp.full_like(params["output_bias"], -5)}


def shown(body: Body, episode: Episode, state: Moved) -> jax.Array:
    """What the network is given: target, hand, and what is felt of the muscles."""
    return jnp.concatenate([episode.target, body.hand(state.place), body.felt(state)], -1)


def reaching(body: Body, policy: Any, params: Params, episode: Episode, remembers: bool = True) -> Moved:
    """The body at each of the hundred steps, ``[100, B, ...]``, under a network; one that does not remember begins each step anew."""
    begin = start(body, episode.place)
    blank = policy.initial_carry(params, shown(body, episode, begin))

    def move(carry: tuple[Moved, Any], _: None) -> tuple[tuple[Moved, Any], Moved]:
        state, memory = carry
        memory, drive = policy(params, memory if remembers else blank, shown(body, episode, state))
        state = step(body, state, jax.nn.sigmoid(drive))
        return (state, memory), state

    return rj.scan(move, (begin, blank), length=STEPS)[1]


def away(body: Body, policy: Any, params: Params, episode: Episode, remembers: bool = True) -> jax.Array:
    """``|x - target| + |y - target|`` of the hand at the start and at each step, m, ``[101, B]``."""
    places = jnp.concatenate([episode.place[None], reaching(body, policy, params, episode, remembers).place])
    return jnp.abs(body.hand(places) - episode.target).sum(-1)


def _recipe(name: str, body: Body, what: str, beside: str) -> Recipe:
    return Recipe(
        name,
        set=f"RandomTargetReach of MotorNet (Codol et al. 2024): {what}, a second to reach; 512 episodes to choose by, 512 to test",
        metric="distance",
        better="lower",
        floor="the same network, forgetting after each step",
        make=partial(make, body),
        beside=beside,
    )


RECIPE = _recipe("reach", Arm(), "an arm with six Hill-type muscles", "")
POINT = _recipe(
    "reach_point", Point(), "a point between four muscles", "MotorNet's example, batches 5,501 to 5,750: 0.109"
)

"""`cartpole`: a pole balanced on a cart by one who sees places but no velocities, and so has to remember.

The learner: a stream of carts under a GRU, gradients through the physics and the network over fifty steps at a time
(truncated back-propagation through time), with the push taken as its smooth self where the gradient passes. What is
lowered is how far pole and cart are from the middle. Nothing of that is in the test, which counts steps upright.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.tasks.physics.cart import ANGLE_LIMIT, LONGEST, X_LIMIT, Cart, fallen, push, starts
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting, cosine

EPISODES, KEYS = 100, {"valid": 1, "test": 2}
TIME, BATCH = 50, 64


class Stream(NamedTuple):
    """carts, the network's carry, and how many steps each episode has lasted ``[B]``."""

    cart: Cart
    memory: Any
    age: jax.Array


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps = setting.length(1000, full=4000)
    policy: Any = rj.Readout(rj.GRU(setting.pick(32, small=4)), 1)
    params = policy.init(jax.random.key(setting.seed), jnp.zeros(2))

    def begun(carts: Cart) -> Stream:
        return Stream(carts, policy.initial_carry(params, seen(carts)), jnp.zeros(carts.x.shape, jnp.int32))

    def step(params: Params, stream: Stream, fresh: Cart) -> tuple[Stream, jax.Array]:
        """One push for every cart; who fell, or stood for 500 steps, begins anew from ``fresh``."""
        memory, drive = policy(params, stream.memory, seen(stream.cart))
        cart = push(stream.cart, pushed(drive[..., 0]))
        over = fallen(cart) | (stream.age + 1 >= LONGEST)
        onward = Stream(cart, memory, stream.age + 1)
        kept = lambda new, old: jnp.where(over.reshape(-1, *[1] * (old.ndim - 1)), new, old)
        cost = (cart.angle / ANGLE_LIMIT) ** 2 + (cart.x / X_LIMIT) ** 2
        return jax.tree.map(kept, begun(fresh), onward), cost

    def loss(params: Params, stream: Stream, fresh: Cart, key: Any) -> tuple[Stream, jax.Array]:
        stream, costs = rj.scan(lambda stream, _: step(params, stream, fresh), stream, length=TIME)
        return stream, costs.mean()

    def batches(number: int) -> Cart:
        return starts(jax.random.fold_in(jax.random.key(setting.seed), number), BATCH)

    @jax.jit
    def lasts(params: Params, carts: Cart) -> jax.Array:
        decide = lambda memory, cart: policy(params, memory, seen(cart))
        return lasting(decide, policy.initial_carry(params, seen(carts)), carts)

    def score(params: Params, split: str) -> Score:
        returns = np.asarray(lasts(params, episodes(split)))
        spread = {"standard deviation": returns.std(ddof=1), "shortest": returns.min()}
        return Score(float(returns.mean()), spread, loss=float(LONGEST - returns.mean()))

    carry = begun(starts(jax.random.key(setting.seed), BATCH))
    floors = {"random pushes": random_pushes, "best line through place and angle": best_line}
    return Problem(params, loss, batches, score, floors, cosine(5e-3, steps), steps, carry=carry, validations=15)


def episodes(split: str) -> Cart:
    """The hundred starts of a split, the same for every seed of the recipe."""
    return starts(jax.random.key(KEYS[split]), EPISODES)


def seen(cart: Cart) -> jax.Array:
    """What the policy is shown, ``[*B, 2]``: where the cart is and how the pole leans, of the limits each."""
    return jnp.stack([cart.x / X_LIMIT, cart.angle / ANGLE_LIMIT], -1)


def pushed(drive: jax.Array) -> jax.Array:
    """Left or right by the sign; the gradient is that of tanh."""
    smooth = jnp.tanh(drive)
    return smooth + jax.lax.stop_gradient(jnp.where(drive > 0, 1.0, -1.0) - smooth)


def lasting(decide: Callable[[Any, Cart], tuple[Any, jax.Array]], memory: Any, carts: Cart) -> jax.Array:
    """How many steps each of the carts ``[B]`` lasts under ``decide(memory, cart) -> (memory, drive [B, 1])``, 500 at most."""

    def step(at: tuple[Cart, Any, jax.Array, jax.Array]) -> tuple[Cart, Any, jax.Array, jax.Array]:
        cart, memory, count, up = at
        memory, drive = decide(memory, cart)
        cart = push(cart, pushed(drive[..., 0]))
        return cart, memory, count + up.astype(jnp.int32), up & ~fallen(cart)

    begin = (carts, memory, jnp.zeros(carts.x.shape, jnp.int32), jnp.ones(carts.x.shape, bool))
    return jax.lax.while_loop(lambda at: at[3].any() & (at[2].max() < LONGEST), step, begin)[2]


# -- what needs no memory ----------------------------------------------------------------------------------------------


def random_pushes() -> float:
    """How long the pole stands on average, on the test episodes, pushed either way at random."""

    def decide(key: jax.Array, cart: Cart) -> tuple[jax.Array, jax.Array]:
        key, now = jax.random.split(key)
        return key, jax.random.normal(now, (*cart.x.shape, 1))

    return float(lasting(decide, jax.random.key(0), episodes("test")).mean())


def best_line() -> float:
    """Pushes right on one side of a line through what is seen: of 1,620 lines the one that lasts longest on the valid episodes."""
    turns, offsets = np.linspace(0, 2 * np.pi, 180, endpoint=False), np.linspace(-0.1, 0.1, 9)
    lines = jnp.array([(np.cos(turn), np.sin(turn), offset) for turn in turns for offset in offsets])
    best = jnp.argmax(by_lines(lines, episodes("valid")))
    return float(by_lines(lines[best][None], episodes("test"))[0])


@jax.jit
def by_lines(lines: jax.Array, carts: Cart) -> jax.Array:
    """Mean steps under each of the lines ``[N, 3]``: right where ``w0 place + w1 angle + w2 > 0``."""
    decide = lambda line: lambda memory, cart: (memory, seen(cart) @ line[:2, None] + line[2])
    return jax.vmap(lambda line: lasting(decide(line), (), carts).mean())(lines)


RECIPE = Recipe(
    "cartpole",
    set="CartPole-v1 (Barto, Sutton and Anderson 1983), velocities hidden; 100 episodes to choose by, 100 others to test",
    metric="return",
    better="higher",
    floor="the best policy without memory: pushes by a line through what is seen",
    make=make,
    beside="500 steps possible",
)

"""The adding and copy tasks with their exact no-memory limits, and a plain training loop on fresh data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rnnjax as rj

ADDING_LIMIT = 1 / 6  # mean squared error of always saying 1


def copy_limit(blanks: int) -> float:
    """Nats per step of a network that remembers nothing: 10 symbols out of 8, spread over T + 20 steps."""
    return 10 * math.log(8) / (blanks + 20)


def adding(key: jax.Array, batch: int, time: int) -> tuple[jax.Array, jax.Array]:
    """``xs [T, B, 2]``: numbers in [0, 1] and two marks, one in each half; target: the sum of the marked numbers."""
    k_number, k_first, k_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(k_number, (time, batch))
    first = jax.random.randint(k_first, (batch,), 0, time // 2)
    second = jax.random.randint(k_second, (batch,), time // 2, time)
    marks = jax.nn.one_hot(first, time, axis=0) + jax.nn.one_hot(second, time, axis=0)
    return jnp.stack([numbers, marks], -1), (numbers * marks).sum(0)


def copying(key: jax.Array, batch: int, blanks: int) -> tuple[jax.Array, jax.Array]:
    """``xs [T + 20, B, 10]`` one-hot: 10 symbols of 8, blanks (8), a signal (9) to recall, blanks; targets: blanks, then the symbols."""
    symbols = jax.random.randint(key, (10, batch), 0, 8)
    blank = lambda n: jnp.full((n, batch), 8)
    tokens = jnp.concatenate([symbols, blank(blanks - 1), blank(1) + 1, blank(10)])
    return jax.nn.one_hot(tokens, 10), jnp.concatenate([blank(blanks + 10), symbols])


def adding_loss(cell: Any, params: Any, key: jax.Array, time: int = 200, batch: int = 64) -> jax.Array:
    xs, target = adding(key, batch, time)
    return jnp.mean((rj.unroll(cell, params, xs)[1][-1, :, 0] - target) ** 2)


def copy_loss(cell: Any, params: Any, key: jax.Array, blanks: int = 100, batch: int = 64) -> jax.Array:
    xs, targets = copying(key, batch, blanks)
    return rj.losses.softmax_cross_entropy(rj.unroll(cell, params, xs)[1], targets).mean()


def train(
    cell: Any, loss: Callable[..., jax.Array], inputs: int, steps: int, rate: float = 3e-3, until: float = 0.0
) -> list[float]:
    """Adam with clipped gradients on fresh data; the mean loss of every 50 steps, stopping once it falls below ``until``."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    params = cell.init(jax.random.key(0), jnp.ones(inputs))

    @jax.jit
    @jax.numpy_dtype_promotion("standard")  # optax mixes integers and floats
    def fifty(state: Any, key: jax.Array) -> Any:
        def step(state: Any, key: jax.Array) -> Any:
            params, memory = state
            value, grads = jax.value_and_grad(lambda p: loss(cell, p, key))(params)
            updates, memory = optimiser.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        return jax.lax.scan(step, state, jax.random.split(key, 50))

    state, history = (params, optimiser.init(params)), []
    for key in jax.random.split(jax.random.key(1), steps // 50):
        state, values = fifty(state, key)
        history.append(float(values.mean()))
        if history[-1] < until:
            break
    return history

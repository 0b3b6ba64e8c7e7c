"""The training algorithm of a recurrent network as textbooks print it, in one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from rnnjax.losses import over_time
from rnnjax.sequence import unroll


def train(
    key: jax.Array,
    cell: Any,
    xs: Any,
    targets: Any,
    loss: Callable[[Any, Any], jax.Array],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    tolerance: float = 0.0,
) -> tuple[Any, list[float]]:
    """Train ``cell`` on ``xs [T, *B, I]`` and ``targets [T, *B, ...]`` until converged or out of steps.

        1. initialise the parameters
        2. forward:   h_t, y_t = cell(h_{t-1}, x_t)  for t = 1 .. T
        3. loss:      L = sum over t of loss(y_t, target_t)
        4. backward:  dL/dparams, by back-propagation through time
        5. update:    params <- params - rate * dL/dparams  (0.1, clipped at norm 1; or any optax optimiser)
        6. repeat from 2 until L changes by less than ``tolerance`` (a fraction of it) or ``steps`` are done

    ``loss(ys, targets)`` gives per-step values ``[T, *B]``, as those of `rnnjax.losses` do; the mean over the batch is
    taken. Returns ``(params, losses)``, the loss of each step. This is the algorithm and nothing else; `fit` is the one
    for long runs. Werbos 1990, "Backpropagation through time: what it does and how to do it".

    >>> import jax, jax.numpy as jnp, optax
    >>> import rnnjax as rj
    >>> xs = jnp.sin(jnp.arange(21.0))[:, None]                     # predict the next value of a sine
    >>> cell = rj.Readout(rj.Elman(4), 1)
    >>> params, losses = rj.train.train(jax.random.key(0), cell, xs[:-1], xs[1:], rj.losses.mse, steps=50)
    >>> losses[-1] < losses[0]
    True
    """
    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)) if optimizer is None else optimizer
    params = cell.init(key, jax.tree.map(lambda a: a[0], xs))  # 1. initialise
    opt_state = rule.init(params)

    def total(params):
        _, ys = unroll(cell, params, xs)  # 2. forward
        return over_time(loss(ys, targets), reduction="sum_time")  # 3. loss

    @jax.jit
    def update(params, opt_state):
        value, grads = jax.value_and_grad(total)(params)  # 4. backward
        updates, opt_state = rule.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value  # 5. update

    losses: list[float] = []
    for _ in range(steps):  # 6. repeat
        params, opt_state, value = update(params, opt_state)
        losses.append(float(value))
        if len(losses) > 1 and abs(losses[-2] - losses[-1]) < tolerance * abs(losses[-2]):
            break
    return params, losses

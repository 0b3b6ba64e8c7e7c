"""A series as something to train on: a plan, windows of a training and a validation part, a loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.forecast.laws import Law
from rnnjax.forecast.network import Correction, told_time
from rnnjax.forecast.plan import Plan, make_plan
from rnnjax.forecast.rows import Rows
from rnnjax.forecast.windows import Windows, every, random_batches
from rnnjax.sequence import unroll

MOST = 512  # windows of a validation


class Problem(NamedTuple):
    """What `rnnjax.train.fit` needs, and the plan that prediction goes on with.

    network: the cell with its readout. example: one step's input. batches: ``batches(step)``. validate: ``validate(params)`` is the
    loss of windows whose targets are all later than those of training. origins: of training and of validation windows.
    """

    plan: Plan
    network: Correction
    example: jax.ShapeDtypeStruct
    loss: Callable[..., Any]
    batches: Callable[[int], dict[str, np.ndarray]]
    validate: Callable[[Any], float]
    origins: tuple[np.ndarray, np.ndarray]


def make_problem(model: Any, rows: Rows, batch: int, seed: int, held_out: float) -> Problem:
    """The problem of forecasting ``rows`` by a `Forecaster`; the last of them, a horizon at least, are for validation.

    Raises: ValueError where there are too few rows, or values that the law does not know.
    """
    who, law, horizon, recursive = "Forecaster.fit", model.law, model.horizon, model.mode == "recursive"
    timed = told_time(model.cell)
    if rows.times is not None and not timed and model.gaps == "masked":
        raise ValueError(
            f"{who}: {model.cell!r} takes all steps for equally long, and times are given; take a cell that is told how long each is, "
            'as rj.CfC(64, elapsed=True), or gaps="grud"'
        )
    total = len(rows.values)
    cut = total - max(horizon, int(total * held_out))
    if total < 2 * horizon + 4:
        most = max((total - 4) // 2, 0)
        cure = f"at most {most} can be had of them" if most else "give more rows"
        raise ValueError(f"{who}: a horizon of {horizon} needs at least {2 * horizon + 4} rows, got {total}; {cure}")
    if wrong := law.refuse(rows.values[rows.there]):
        raise ValueError(f"{who}: {type(law).__name__} is a law of {wrong}")
    late = np.flatnonzero(~rows.there[:cut].any(0))
    if len(late):
        raise ValueError(
            f"{who}: series {late[0]} has no value in the first {cut} rows, on which is trained; leave it out"
        )
    plan, training = make_plan(model, rows, cut, timed)
    if rows.began.min() > training[-1]:
        raise ValueError(
            f"{who}: no series has {horizon + 1} rows among the first {cut}, on which is trained; give more rows"
        )
    windows = Windows(rows, plan, taught=recursive, absolute=law.absolute)
    network = model.network
    held = np.arange(max(cut - 1, plan.methods.reach), total - horizon)
    loss = make_loss(network, law, horizon)
    return Problem(
        plan=plan,
        network=network,
        example=jax.ShapeDtypeStruct((batch, windows.features), jnp.float32),
        loss=loss,
        batches=random_batches(windows, training, batch, seed),
        validate=make_validation(loss, windows(*every(held, windows.values.shape[1], MOST))),
        origins=(training, held),
    )


@partial(jax.jit, static_argnums=(0, 3))
def outputs(network: Any, params: Any, inputs: Any, horizon: int, key: Any = None) -> jax.Array:
    """``[horizon, B, D]``: what the network puts out at the last ``horizon`` steps of ``inputs [T, B, F]``."""
    return unroll(network, params, inputs, key=key)[1][-horizon:]


def make_loss(network: Any, law: Law, horizon: int) -> Callable[..., jax.Array]:
    """``loss(params, window, key)``: the mean of the law's loss over the values that are there."""

    def loss(params: Any, window: dict[str, Any], key: Any = None) -> jax.Array:
        out = outputs(network, params, window["inputs"], horizon, key)
        losses = law.nll(out, window["target"], window["base"], window["scale"])
        there = window["weight"]
        return jnp.sum(jnp.where(there > 0, losses, 0.0)) / jnp.maximum(jnp.sum(there), 1.0)

    return loss


def make_validation(loss: Callable[..., jax.Array], window: dict[str, np.ndarray]) -> Callable[[Any], float]:
    """``validate(params)`` of windows that are made once."""
    measured = jax.jit(loss)
    return lambda params: float(measured(params, window))

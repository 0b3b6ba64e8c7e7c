"""What the command trains: a language model of characters, a forecaster of columns, or a classifier of sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings
from rnnjax.data import held_out, windows
from rnnjax.train import LossFn

BATCH_AXIS = {"window": 1, "fresh": 0}  # where the rows of a batch stand


class Task(NamedTuple):
    """What `rnnjax.train.fit` needs, and what the user is told.

    unit: the number of this task: `derive` makes ``"bits_per_char"`` or ``"mse"`` of a loss, `validate` says ``"accuracy"``.
    example: one step's input as a ShapeDtypeStruct. memory: what sampling needs to know of the data.
    baselines: the same number for predictors that learn nothing, by name. remarks: sentences on the data.
    higher: whether more of the unit is better. each: what a step is on. held: what is measured on.
    whole: as validate, of all that is held out, where that measures a part.
    told: what else is said of the params, files for it being written into a folder. needs: flags that a forecast cannot do without.
    confusion: of a classifier, counts ``[classes, classes]`` of what is and what it says, for the params.
    """

    title: str
    unit: str
    cell: Any
    example: Any
    time: int
    loss_fn: LossFn
    batches: Callable[[int], Any]
    validate: Callable[[Any], Any]
    derive: Callable[[float], dict[str, float]]
    baselines: Callable[[], dict[str, float]]
    memory: dict[str, Any]
    fingerprint: str
    remarks: tuple[str, ...] = ()
    each: str = ""
    held: str = ""
    higher: bool = False
    batch_axis: Any = BATCH_AXIS
    confusion: Callable[[Any], np.ndarray] | None = None
    whole: Callable[[Any], Any] | None = None
    told: Callable[[Any, Any], str] | None = None
    needs: str = ""

    def measure(self, params: Any) -> dict[str, float]:
        """What is found on all that is held out, with the numbers that follow from the loss."""
        found = (self.whole or self.validate)(params)
        found = found if isinstance(found, dict) else {"loss": found}
        return found | self.derive(found["loss"])


# A task's own part: (params, carry, window [T + 1, B, ...], key) -> (carry, losses [T, B], weights [T, B] or None for ones).
# A loss is already multiplied by its weight.
PerStep = Callable[..., tuple[Any, jax.Array, Any]]


def make_task(settings: Settings) -> Task:
    """Reads the data and sets the task. Raises: DataError, BadInput."""
    from rnnjax.cli import ahead, labels, tables, texts

    if settings.members > 1 and not settings.is_labelled:
        raise BadInput(f"--members {settings.members} networks vote on labels; it goes with --label")
    if settings.is_ahead:
        return ahead.ahead_task(settings)
    if settings.is_labelled:
        return labels.label_task(settings)
    return tables.table_task(settings) if settings.is_table else texts.text_task(settings)


def last_part(share: float) -> str:
    """What is held out of a series.

    >>> last_part(0.1), last_part(0.25)
    ('the held-out last tenth', 'the last 25 %, held out')
    """
    return "the held-out last tenth" if share == 0.1 else f"the last {100 * share:g} %, held out"


def batches_of(values: np.ndarray, settings: Settings) -> tuple[Callable[[int], dict[str, np.ndarray]], int]:
    """The batch of each step, and its time: shorter than the settings say where the series is."""
    time = min(settings.time, max(len(values) - 1, 1))
    window = windows(values, settings.batch, time, settings.seed)
    return lambda step: {"window": window(step), "fresh": window.fresh(step)}, time


def mean_loss(cell: Any, per_step: PerStep, example: Any) -> LossFn:
    """The loss for `fit`: the weighted mean over all steps, of readers that begin where they start anew."""

    def loss(params, carry, batch, key):
        carry, losses, weights = per_step(params, restart(cell, params, carry, batch, example), batch["window"], key)
        return carry, jnp.mean(losses) if weights is None else jnp.sum(losses) / jnp.maximum(jnp.sum(weights), 1e-6)

    return loss


def restart(cell: Any, params: Any, carry: Any, batch: dict[str, Any], example: Any) -> Any:
    """The initial carry where a reader starts anew, the one handed on elsewhere; its rows stand first in every part."""
    fresh = jnp.asarray(batch["fresh"])
    x = jnp.zeros((fresh.shape[0], *example.shape[1:]), example.dtype)
    of_rows = lambda a: fresh.reshape(fresh.shape + (1,) * (a.ndim - 1))
    start = cell.initial_carry(params, x)
    return jax.tree.map(lambda new, old: jnp.where(of_rows(old), new.astype(old.dtype), old), start, carry)


def validation(
    cell: Any, per_step: PerStep, values: np.ndarray, first: int, batch: int, example: Any, most: int | None = None
) -> Callable[[Any], float]:
    """``validate(params)``: the mean loss over ``values[first:]``, each predicted once, in order, the carry handed on.

    most: about so many of them at most, the beginnings of ``batch`` rows; None for all.
    """
    time, warm_up = 256, 64
    pieces = None if most is None else -(-(most // batch + warm_up) // time)
    batch = min(batch, len(values) - first)
    start = jnp.zeros((batch, *example.shape[1:]), example.dtype)

    @jax.jit
    def piece(params, carry, window, counts):
        carry, losses, weights = per_step(params, carry, window)
        weights = jnp.ones_like(losses) if weights is None else weights
        return carry, jnp.sum(jnp.where(counts, losses, 0.0)), jnp.sum(jnp.where(counts, weights, 0.0))

    def validate(params: Any) -> float:
        carry, total, weight = cell.initial_carry(params, start), 0.0, 0.0
        for window, counts in itertools.islice(held_out(values, first, batch, time, warm_up), pieces):
            carry, part, share = piece(params, carry, window, counts)
            total, weight = total + float(part), weight + float(share)
        return total / weight if weight else float("nan")

    return validate

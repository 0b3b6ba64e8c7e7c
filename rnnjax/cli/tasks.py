"""The two things the command trains: a language model of characters, and a forecaster of the columns of a table."""

from __future__ import annotations

import bz2
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli.settings import Settings, build, is_table
from rnnjax.data import Vocabulary, held_out, python_documentation, read_csv, read_text, season_of, windows
from rnnjax.train import LossFn


class Task(NamedTuple):
    """What `rnnjax.train.fit` needs, and what the user is told.

    unit: the number of this task, ``"bits_per_char"`` or ``"mse"``; `derive` makes it of a loss.
    example: one step's input as a ShapeDtypeStruct. memory: what sampling needs to know of the data.
    baselines: the same number for predictors that learn nothing, by name.
    """

    title: str
    unit: str
    cell: Any
    example: Any
    loss_fn: LossFn
    batches: Callable[[int], Any]
    validate: Callable[[Any], float]
    derive: Callable[[float], dict[str, float]]
    baselines: Callable[[], dict[str, float]]
    memory: dict[str, Any]
    fingerprint: str


def make_task(settings: Settings) -> Task:
    """Reads the data and sets the task. Raises: DataError, BadInput."""
    return table_task(settings) if is_table(settings.data) else text_task(settings)


def encode_inputs(tokens: Any, symbols: int) -> jax.Array:
    """One-hot inputs ``[..., symbols]`` of mean square 1, as the start of the input weights assumes.

    Plain one-hot inputs start ten times too quiet: at 600 steps of the default run 3.5 bits per character against 2.1.
    """
    return jax.nn.one_hot(tokens, symbols) * math.sqrt(symbols)


# -- text --------------------------------------------------------------------------------------------------------------


def text_task(settings: Settings) -> Task:
    """Predict the next character; the last tenth of the text is held out. Loss: cross-entropy in nats."""
    text = python_documentation() if settings.data is None else read_text(settings.data)
    vocabulary = Vocabulary.of(text)
    tokens, first = vocabulary.encode(text), len(text) - len(text) // 10
    cell, symbols = build(settings, len(vocabulary)), len(vocabulary)

    def per_step(params, carry, window, key=None):
        carry, logits = rj.unroll(cell, params, encode_inputs(window[:-1], symbols), carry=carry, key=key)
        return carry, rj.losses.softmax_cross_entropy(logits, window[1:])

    name = "Python's documentation" if settings.data is None else settings.data
    return Task(
        title=f"character language model of {name}: {len(text):,} characters, {symbols} symbols",
        unit="bits_per_char",
        cell=cell,
        example=jax.ShapeDtypeStruct((settings.batch, symbols), jnp.float32),
        loss_fn=_mean(per_step),
        batches=windows(tokens[:first], settings.batch, settings.time, settings.seed),
        validate=_validation(cell, per_step, tokens, first, batch=16, example_features=symbols),
        derive=lambda loss: {"bits_per_char": loss / math.log(2)},
        baselines=lambda: text_baselines(text[:first], text[first:], vocabulary),
        memory={"symbols": vocabulary.symbols},
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
    )


def text_baselines(known: str, held: str, vocabulary: Vocabulary) -> dict[str, float]:
    """Bits per character of the held-out part: every symbol alike; by frequency (one added to each); bz2 after the rest."""
    counts = np.bincount(vocabulary.encode(known), minlength=len(vocabulary)) + 1.0
    bits = -np.log2(counts / counts.sum())
    size = lambda text: len(bz2.compress(text.encode(), 9))
    return {
        "uniform": math.log2(len(vocabulary)),
        "unigram": float(bits[vocabulary.encode(held)].mean()),
        "bz2 given the rest": 8 * (size(known + held) - size(known)) / len(held),
    }


# -- tables ------------------------------------------------------------------------------------------------------------


def table_task(settings: Settings) -> Task:
    """Predict the next row; the last tenth of the rows is held out.

    Columns are standardised by the training rows, and the network predicts the change from the row before: a network that
    says nothing is persistence. Loss: mean squared error of the standardised columns.
    """
    table = read_csv(str(settings.data))
    first = len(table.values) - max(1, len(table.values) // 10)
    mean, deviation = table.values[:first].mean(0), table.values[:first].std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    values = ((table.values - mean) / deviation).astype(np.float32)
    columns = values.shape[1]
    cell = build(settings, columns)

    def per_step(params, carry, window, key=None):
        carry, change = rj.unroll(cell, params, window[:-1], carry=carry, key=key)
        return carry, rj.losses.mse(window[:-1] + change, window[1:])

    left_out = f", left out as no numbers: {', '.join(table.left_out)}" if table.left_out else ""
    return Task(
        title=f"one-step-ahead forecast of {settings.data}: {len(values):,} rows of {', '.join(table.names)}{left_out}",
        unit="mse",
        cell=cell,
        example=jax.ShapeDtypeStruct((settings.batch, columns), jnp.float32),
        loss_fn=_mean(per_step),
        batches=windows(values[:first], settings.batch, settings.time, settings.seed),
        validate=_validation(cell, per_step, values, first, batch=1, example_features=columns),
        derive=lambda loss: {"mse": loss},
        baselines=lambda: table_baselines(values, first),
        memory={
            "columns": list(table.names),
            "mean": mean.tolist(),
            "deviation": deviation.tolist(),
            "recent": values[-512:].tolist(),
        },
        fingerprint=hashlib.sha256(Path(str(settings.data)).read_bytes()).hexdigest(),
    )


def table_baselines(values: np.ndarray, first: int) -> dict[str, float]:
    """Mean squared error on the held-out rows of repeating the last row, and the row one season before.

    The season is the lag that repeats the training rows best, see `rnnjax.data.season_of`.
    """
    season = season_of(values[:first])
    error = lambda lag: float(np.mean((values[first:] - values[first - lag : len(values) - lag]) ** 2))
    return {"persistence": error(1), f"seasonal naive (season {season}, chosen on the training rows)": error(season)}


# -- both --------------------------------------------------------------------------------------------------------------


def _mean(per_step: Callable) -> LossFn:
    def loss(params, carry, batch, key):
        carry, losses = per_step(params, carry, batch, key)
        return carry, rj.losses.over_time(losses)

    return loss


def _validation(
    cell: Any, per_step: Callable, values: np.ndarray, first: int, batch: int, example_features: int
) -> Callable[[Any], float]:
    """``validate(params)``: the mean loss over ``values[first:]``, each predicted once, in order, the carry handed on."""
    batch = min(batch, len(values) - first)
    start = jnp.zeros((batch, example_features), jnp.float32)

    @jax.jit
    def piece(params, carry, window, counts):
        carry, losses = per_step(params, carry, window)
        return carry, jnp.sum(jnp.where(counts, losses, 0.0))

    def validate(params: Any) -> float:
        carry, total = cell.initial_carry(params, start), 0.0
        for window, counts in held_out(values, first, batch, time=256):
            carry, part = piece(params, carry, window, counts)
            total += float(part)
        return total / (len(values) - first)

    return validate

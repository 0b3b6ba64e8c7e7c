"""The language model of characters."""

from __future__ import annotations

import bz2
import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli.settings import Settings, build
from rnnjax.cli.work import Task, batches_of, mean_loss, validation
from rnnjax.data import Vocabulary, python_documentation, read_text


def encode_inputs(tokens: Any, symbols: int) -> jax.Array:
    """One-hot inputs ``[..., symbols]`` of mean square 1, as the start of the input weights assumes.

    Plain one-hot inputs start ten times too quiet: at 600 steps of the default run 3.5 bits per character against 2.1.
    """
    return jax.nn.one_hot(tokens, symbols) * math.sqrt(symbols)


def text_task(settings: Settings) -> Task:
    """Predict the next character; the last tenth of the text is held out. Loss: cross-entropy in nats."""
    text = python_documentation() if settings.data is None else read_text(settings.data, encoding=settings.encoding)
    vocabulary = Vocabulary.of(text)
    tokens, first = vocabulary.encode(text), len(text) - len(text) // 10
    cell, symbols = build(settings, len(vocabulary)), len(vocabulary)
    example = jax.ShapeDtypeStruct((settings.batch, symbols), jnp.float32)

    def per_step(params, carry, window, key=None):
        carry, logits = rj.unroll(cell, params, encode_inputs(window[:-1], symbols), carry=carry, key=key)
        return carry, rj.losses.softmax_cross_entropy(logits, window[1:]), None

    name = "Python's documentation" if settings.data is None else settings.data
    batches, time = batches_of(tokens[:first], settings)
    return Task(
        title=f"character language model of {name}: {len(text):,} characters, {symbols} symbols",
        unit="bits_per_char",
        cell=cell,
        example=example,
        time=time,
        loss_fn=mean_loss(cell, per_step, example),
        batches=batches,
        validate=validation(cell, per_step, tokens, first, batch=16, example=example),
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

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
from rnnjax.cli.work import Task, batches_of, last_part, mean_loss, validation
from rnnjax.data import DataError, Vocabulary, looks_like_table, python_documentation, read_text
from rnnjax.data.files import called

SHORTEST = 300  # characters of a text
BOUND = 65_536  # where more characters are held out, a validation during training measures PART of them, and the end the whole
PART = 31_744  # evenly spread; with their warm-up 32,768 are read: a tenth of the time of the 100 steps between validations


def encode_inputs(tokens: Any, symbols: int) -> jax.Array:
    """One-hot inputs ``[..., symbols]`` of mean square 1, as the start of the input weights assumes.

    Plain one-hot inputs start ten times too quiet: at 600 steps of the default run 3.5 bits per character against 2.1.
    """
    return jax.nn.one_hot(tokens, symbols) * math.sqrt(symbols)


def text_task(settings: Settings) -> Task:
    """Predict the next character; the end of the text is held out. Loss: cross-entropy in nats."""
    known, held = parted(read_texts(settings), settings.held_out)
    text, first = known + held, len(known)
    long = len(held) > BOUND
    table = settings.files and looks_like_table(text, ",")
    vocabulary = Vocabulary.of(text)
    tokens = vocabulary.encode(text)
    cell, symbols = build(settings, len(vocabulary)), len(vocabulary)
    example = jax.ShapeDtypeStruct((settings.batch, symbols), jnp.float32)

    def per_step(params, carry, window, key=None):
        carry, logits = rj.unroll(
            cell, params, encode_inputs(window[:-1], symbols), carry=carry, key=key, **settings.precision
        )
        return carry, rj.losses.softmax_cross_entropy(logits, window[1:]), None

    batches, time = batches_of(tokens[:first], settings)
    return Task(
        title=f"character language model of {name_of(settings)}: {len(text):,} characters, {symbols} symbols",
        unit="bits_per_char",
        cell=cell,
        example=example,
        time=time,
        loss_fn=mean_loss(cell, per_step, example),
        batches=batches,
        validate=validation(cell, per_step, tokens, first, 16, example, PART if long else None),
        whole=validation(cell, per_step, tokens, first, 16, example) if long else None,
        derive=lambda loss: {"bits_per_char": loss / math.log(2)},
        baselines=lambda: text_baselines(known, held, vocabulary),
        memory={"symbols": vocabulary.symbols},
        held=last_part(settings.held_out) + " of each" * (len(settings.files) > 1),
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        remarks=("it is read as a text, and looks like a table of numbers; --sep , forecasts its columns",)
        * bool(table),
    )


def read_texts(settings: Settings) -> list[str]:
    """The texts of a run, each ended by a line break where another follows. Raises: DataError if they are too short together."""
    if not settings.files:
        return [python_documentation()]
    shortest = SHORTEST if len(settings.files) == 1 else 1
    texts = [read_text(path, shortest, settings.encoding) for path in settings.files]
    if sum(map(len, texts)) < SHORTEST:
        raise DataError(
            f"{', '.join(settings.files)} are too short: they have {sum(map(len, texts))} characters together, at least "
            f"{SHORTEST} are needed"
        )
    return [text if text.endswith("\n") else text + "\n" for text in texts[:-1]] + texts[-1:]


def parted(texts: list[str], share: float) -> tuple[str, str]:
    """The beginnings of all texts, and their ends, which are this share of each.

    >>> parted(["abcd", "123456"], 0.5)
    ('ab123', 'cd456')
    """
    cuts = [len(text) - int(len(text) * share) for text in texts]
    return "".join(t[:cut] for t, cut in zip(texts, cuts)), "".join(t[cut:] for t, cut in zip(texts, cuts))


def name_of(settings: Settings) -> str:
    """What the text is called."""
    names = [called(path) for path in settings.files] or ["Python's documentation"]
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)


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

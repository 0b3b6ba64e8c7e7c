"""`chorales`: what do Bach's four voices sing next? A network reads the quarters before, then writes soprano, alto, tenor, bass."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.markov import backed_off
from rnnjax.tasks.parts import dropped
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

VOICES, LOWEST, KEYS = 4, 30, 58  # token 0 is a rest, 1 to 57 are MIDI's 31 to 87: room for what is moved to other keys
SHIFTS = range(-5, 7)  # half tones: all twelve keys
BEGINNING = np.array([72, 67, 64, 48])  # C major
# What a voice's note depends on, the nearest first: (voice, quarters back), soprano 0 to bass 3.
HISTORY = (
    ((0, 1), (0, 2), (3, 1), (1, 1)),
    ((1, 1), (0, 0), (0, 1), (3, 1)),
    ((2, 1), (1, 0), (0, 0), (1, 1)),
    ((3, 1), (2, 0), (0, 0), (1, 0)),
)


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch, time = setting.length(2000, full=8000), setting.pick(16, small=4), setting.pick(64, small=16)
    pieces = {split: [encode(notes) for _, notes in load("chorales", split)] for split in sets.SPLITS}
    held = {split: pad(pieces[split]) for split in ("valid", "test")}
    model = Composer(rj.GRU(setting.pick(192, small=8)), setting.pick(128, small=8))
    params = model.init(jax.random.key(setting.seed))

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        notes, lengths = batch
        return carry, mean_nats(model, params, notes, lengths, key)

    measure = jax.jit(lambda params, *held: mean_nats(model, params, *held))
    order = rj.data.batches([len(piece) for piece in pieces["train"]], batch, setting.seed)

    def batches(step: int) -> Any:
        """A stretch of each piece, in a key of its own."""
        rng = np.random.default_rng([setting.seed, step])
        return pad(
            [stretch(moved(pieces["train"][i], rng.choice(SHIFTS)), rng.random(), time) for i in order(step)], time
        )

    def show(params: Any) -> str:
        return written(compose(model, params, BEGINNING, 24, seed=setting.seed))

    floors = {
        "each key by whether it sounded": lambda: by_key(pieces["train"], pieces["test"]),
        "each voice by its last note": lambda: by_voice(pieces, orders=[1]),
        "each voice by last notes and the voices above": lambda: by_voice(pieces, orders=range(1, 5)),
    }
    score = lambda params, split: Score(float(measure(params, *held[split])))
    return Problem(
        params, loss, batches, score, floors, cosine(3e-3, steps, weight_decay=1e-2), steps, noise=True, show=show
    )


# -- notes and tokens --------------------------------------------------------------------------------------------------


def encode(notes: np.ndarray) -> np.ndarray:
    """Tokens of MIDI's numbers; a rest, 0, stays 0."""
    return np.where(notes > 0, notes - LOWEST, 0).astype(np.int32)


def decode(tokens: Any) -> np.ndarray:
    """MIDI's numbers of tokens.

    >>> decode(encode(np.array([0, 60]))).tolist()
    [0, 60]
    """
    return np.where(np.asarray(tokens) > 0, np.asarray(tokens) + LOWEST, 0)


def moved(tokens: np.ndarray, half_tones: int) -> np.ndarray:
    """The piece in another key; rests stay."""
    return np.where(tokens > 0, tokens + half_tones, 0).astype(np.int32)


def stretch(piece: np.ndarray, where: float, time: int) -> np.ndarray:
    """At most ``time`` quarters of a piece, from a share ``where`` of the starts that there are."""
    start = int(where * max(1, len(piece) - time + 1))
    return piece[start : start + time]


def written(notes: np.ndarray) -> str:
    """A line for each voice, a name for each quarter: ``C4`` is the middle C, ``.`` goes on, ``-`` is a rest."""
    names = "C C# D D# E F F# G G# A A# B".split()
    name = lambda note: f"{names[note % 12]}{note // 12 - 1}" if note else "-"
    said = lambda voice: [name(n) if n != before or not n else "." for n, before in zip(voice, [-1, *voice])]
    return "\n".join(" ".join(f"{text:>3}" for text in said(voice.tolist())) for voice in notes.T)


# -- the model ---------------------------------------------------------------------------------------------------------


class Composer(NamedTuple):
    """``h_t = GRU(chord_{t-1})``; then the voices of chord t one after the other: ``p(note | h_t, the voices above it)``."""

    cell: Any
    features: int

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``state`` ``[4, H, F]`` and ``above`` ``[4, 4, KEYS, F]``: what a voice hears; ``output`` ``[4, F, KEYS]``."""
        k_cell, k_state, k_above, k_output = jax.random.split(key, 4)
        hidden, normal = self.cell.features, lambda key, *shape: jax.random.normal(key, shape)
        return {
            "cell": self.cell.init(k_cell, jnp.zeros(VOICES * KEYS)),
            "state": normal(k_state, VOICES, hidden, self.features) / math.sqrt(hidden),
            "above": 0.3 * normal(k_above, VOICES, VOICES, KEYS, self.features),
            "bias": jnp.zeros((VOICES, self.features)),
            "output": normal(k_output, VOICES, self.features, KEYS) / math.sqrt(self.features),
            "output_bias": jnp.zeros((VOICES, KEYS)),
        }

    def logits(self, params: Any, h: jax.Array, chord: jax.Array, voice: int) -> jax.Array:
        """``[*B, KEYS]``: what ``voice`` sings after ``h [*B, H]``, given the voices above it in ``chord [*B, 4, KEYS]``."""
        heard = h @ params["state"][voice] + params["bias"][voice]
        for other in range(voice):
            heard = heard + chord[..., other, :] @ params["above"][voice, other]
        return jnp.tanh(heard) @ params["output"][voice] + params["output_bias"][voice]

    def nats(self, params: Any, notes: jax.Array, key: Any = None) -> jax.Array:
        """``-log p`` of each chord but the first, ``[T-1, B]``; ``notes [T, B, 4]``. key: for dropout."""
        chords = jax.nn.one_hot(notes, KEYS)
        read, chords = chords[:-1].reshape(len(notes) - 1, -1, VOICES * KEYS), chords[1:]
        k_read, k_state = (None, None) if key is None else jax.random.split(key)
        _, h = rj.unroll(self.cell, params["cell"], dropped(k_read, 0.1, read))
        h = dropped(k_state, 0.4, h)
        each = [self.logits(params, h, chords, voice) for voice in range(VOICES)]
        return sum(rj.losses.softmax_cross_entropy(logits, notes[1:, :, v]) for v, logits in enumerate(each))  # type: ignore[return-value]


def mean_nats(model: Composer, params: Any, notes: Any, lengths: Any, key: Any = None) -> jax.Array:
    """Nats a quarter, over all quarters but the first of each piece."""
    inside = jnp.arange(1, len(notes))[:, None] < lengths
    nats = jnp.where(inside, model.nats(params, notes, key), 0.0)
    return nats.sum() / inside.sum().astype(nats.dtype)


def compose(
    model: Composer, params: Any, beginning: np.ndarray, length: int, *, seed: int = 0, temperature: float = 0.7
) -> np.ndarray:
    """Notes ``[length, 4]`` in MIDI's numbers: ``beginning``, one chord ``[4]`` or several ``[T, 4]``, and how it goes on."""
    given = jnp.asarray(encode(np.atleast_2d(beginning)))

    def sing(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, chord = carry
        state, h = model.cell(params["cell"], state, jax.nn.one_hot(chord, KEYS).reshape(-1))
        for voice, k_voice in enumerate(jax.random.split(key, VOICES)):
            logits = model.logits(params, h, jax.nn.one_hot(chord, KEYS), voice)
            chord = chord.at[voice].set(jax.random.categorical(k_voice, logits / temperature))
        return (state, chord), chord

    read = jax.nn.one_hot(given[:-1], KEYS).reshape(-1, VOICES * KEYS)
    state = model.cell.initial_carry(params["cell"], jnp.zeros(VOICES * KEYS))
    if len(read):
        state, _ = rj.unroll(model.cell, params["cell"], read, carry=state)
    keys = jax.random.split(jax.random.key(seed), length - len(given))
    _, sung = jax.jit(lambda carry, keys: rj.scan(sing, carry, keys))((state, given[-1]), keys)
    return decode(np.concatenate([given, sung]))


# -- without recurrence ------------------------------------------------------------------------------------------------


def by_key(train: list[np.ndarray], test: list[np.ndarray]) -> float:
    """Nats a quarter where each of 88 keys sounds or not by whether it did a quarter before; counts start at one."""
    roll = lambda piece: np.stack([(decode(piece) == 21 + key).any(1) for key in range(88)], 1).astype(int)
    pairs = lambda pieces: [(rolled[:-1], rolled[1:]) for rolled in map(roll, pieces)]
    counts, keys = np.ones((88, 2, 2)), np.arange(88)
    for before, now in pairs(train):
        np.add.at(counts, (np.broadcast_to(keys, now.shape), before, now), 1)
    nats = -np.log(counts / counts.sum(-1, keepdims=True))
    each = [nats[keys, before, now].sum(-1) for before, now in pairs(test)]
    return float(np.concatenate(each).mean())


def by_voice(pieces: dict[str, list[np.ndarray]], orders: Any) -> float:
    """Nats a quarter of a Markov model of each voice on its `HISTORY`, counted in all keys; each voice's order chosen on valid."""
    train = [moved(piece, shift) for piece in pieces["train"] for shift in SHIFTS]

    def bits(voice: int, split: str) -> list[float]:
        return backed_off(grams(train, voice), grams(pieces[split], voice), KEYS, max(orders))

    total = 0.0
    for voice in range(VOICES):
        valid = bits(voice, "valid")
        total += bits(voice, "test")[min(orders, key=lambda k: valid[k])]
    return total * math.log(2)


def grams(pieces: list[np.ndarray], voice: int) -> Any:
    """``k ->`` every note of a voice but the first of a piece, with the k nearest of its history, as `backed_off` takes them."""
    whole = np.concatenate([np.concatenate([np.zeros((1, VOICES), int), piece]) for piece in pieces])  # a rest before
    first = np.cumsum([0, *(len(piece) + 1 for piece in pieces[:-1])])
    at = np.setdiff1d(np.arange(len(whole)), np.concatenate([first, first + 1]))
    history = [whole[at, voice], *(whole[at - back, other] for other, back in HISTORY[voice])]
    return lambda k: sum(column * KEYS**i for i, column in enumerate(history[: k + 1]))


RECIPE = Recipe(
    "chorales",
    set="363 chorales of Bach, four voices at each quarter (music21); settings of one tune on one side, 26 to test",
    metric="nats per quarter",
    better="lower",
    floor="the best of Markov models of keys and of voices",
    make=make,
    beside="JSB chorales, another set and split, all keys at once: GRU 8.43, LSTM 8.45, TCN 8.10 nats",
)

"""`recognition`: what was said? Letters out of log-mel frames, by a network in both directions and CTC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import pad
from rnnjax.data.sound import BANDS
from rnnjax.tasks.parts import dropped
from rnnjax.tasks.prompts import LETTERS, ROW, SET, Prompt, drawn, places, splits, stacked, text_of
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

STACK = 4  # frames that are read as one: 32 ms
TIME, SPEEDS = ROW[0] // STACK, (0.87, 1.15)


class Listener(NamedTuple):
    """Layers of GRUs in both directions, and of each step the logits of the blank (0) and of every letter."""

    hidden: int = 128
    depth: int = 2

    @property
    def layer(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.hidden))

    def init(self, key: jax.Array) -> Any:
        """Params by name."""
        k_output, *keys = jax.random.split(key, self.depth + 1)
        widths = [STACK * BANDS] + [2 * self.hidden] * (self.depth - 1)
        layers = [self.layer.init(key, jnp.zeros(width)) for key, width in zip(keys, widths)]
        output = jax.random.normal(k_output, (2 * self.hidden, len(LETTERS) + 1)) / np.sqrt(2 * self.hidden)
        named = {f"layer{i}": params for i, params in enumerate(layers)}
        return named | {"output": output, "bias": jnp.zeros(len(LETTERS) + 1)}

    def __call__(self, params: Any, xs: Any, lengths: Any, key: Any = None) -> jax.Array:
        """Logits ``[T, B, V]`` of stacked frames ``[T, B, I]``. With a key bands are silent, there is noise, and units are dropped."""
        k_xs, *keys = [None] * (self.depth + 2) if key is None else list(jax.random.split(key, self.depth + 2))
        ys = muffled(k_xs, xs)
        for i in range(self.depth):
            _, ys = self.layer(params[f"layer{i}"], dropped(keys[i], 0.4 if i else 0.2, ys), lengths=lengths)
        return dropped(keys[-1], 0.4, ys) @ params["output"] + params["bias"]


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(900, full=4000), setting.pick(16, small=2)
    data, scale = splits(setting.pick(None, small=12))
    scaled = {split: scale(part) for split, part in data.items()}
    given = {split: as_batch(part) for split, part in scaled.items()}
    said = {split: [prompt.words for prompt in part] for split, part in data.items()}
    known = {word for words in said["train"] for word in words.split()}
    model = listener(setting)

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """Nats a letter."""
        xs, lengths, labels, count = batch
        nats = rj.losses.ctc(model(params, xs, lengths, key), labels, logit_lengths=lengths, label_lengths=count)
        return carry, nats.sum() / count.sum().astype(nats.dtype)

    def batches(step: int) -> Any:
        rng = np.random.default_rng([setting.seed, step])
        rows = [strung(rng, scaled["train"]) for _ in range(batch)]
        return *as_batch(rows), *pad([places(row.words) for row in rows], ROW[1])

    listen = jax.jit(lambda params, xs, lengths: rj.seq2seq.ctc_greedy(model(params, xs, lengths), lengths=lengths))

    def heard(params: Any, split: str) -> list[str]:
        labels, lengths = map(np.asarray, listen(params, *given[split]))
        return [text_of(row[:length]) for row, length in zip(labels.T, lengths)]

    def score(params: Any, split: str) -> Score:
        texts = heard(params, split)
        parts = {"word error rate": rj.metrics.word_error_rate(texts, said[split])} | by_word(texts, said[split], known)
        return Score(rj.metrics.character_error_rate(texts, said[split]), parts)

    def show(params: Any) -> str:
        pairs = list(zip(said["valid"], heard(params, "valid")))
        return "\n".join(f"said   {words}\nheard  {text}" for words, text in pairs[:48:6])

    errors = lambda texts: rj.metrics.character_error_rate(texts, said["test"])
    constant = lambda text: errors([text] * len(said["test"]))
    floors = {
        "most frequent training prompt": lambda: constant(Counter(said["train"]).most_common(1)[0][0]),
        "best constant prompt": lambda: constant(best_constant(said["train"])),
        "training prompt that sounds most alike": lambda: errors(most_alike(scaled["train"], scaled["test"])),
    }
    params = model.init(jax.random.key(setting.seed))
    return Problem(params, loss, batches, score, floors, cosine(4e-3, steps), steps, noise=True, show=show)


def listener(setting: Setting) -> Listener:
    """The network in the size that the setting asks for."""
    return Listener(*setting.pick((128, 2), full=(256, 3), small=(8, 1)))


def as_batch(prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Stacked frames ``[T, B, I]`` and lengths ``[B]``."""
    return pad([stacked(prompt.frames, STACK) for prompt in prompts], TIME)


def strung(rng: np.random.Generator, prompts: Sequence[Prompt]) -> Prompt:
    """Prompts one after the other, each a little faster or slower: no row is padding, and words have a context of their own."""
    found = drawn(rng, prompts, slowest=1 / SPEEDS[0])
    frames = [at_speed(prompt.frames, rng.uniform(*SPEEDS)) for prompt in found]
    return Prompt(np.concatenate(frames), " ".join(prompt.words for prompt in found))


def at_speed(frames: np.ndarray, speed: float) -> np.ndarray:
    """Frames between the frames, ``speed`` apart.

    >>> at_speed(np.array([[0.0], [2.0], [4.0]]), 0.5)[:, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    at = np.arange(0, len(frames) - 1 + 1e-6, speed)
    low = at.astype(int)
    part = (at - low)[:, None].astype(frames.dtype)
    return (1 - part) * frames[low] + part * frames[np.minimum(low + 1, len(frames) - 1)]


def muffled(key: Any, xs: jax.Array, widest: int = 8) -> jax.Array:
    """Noise, and up to ``widest`` neighbouring bands of each row silent (Park et al. 2019, SpecAugment), where there is a key."""
    if key is None:
        return xs
    k_wide, k_low, k_noise = jax.random.split(key, 3)
    wide = jax.random.randint(k_wide, xs.shape[1:2], 0, widest + 1)[:, None]
    low = jax.random.randint(k_low, xs.shape[1:2], 0, BANDS)[:, None]
    band = jnp.arange(xs.shape[-1]) % BANDS
    return jnp.where((band >= low) & (band < low + wide), 0.0, xs) + 0.3 * jax.random.normal(k_noise, xs.shape)


def by_word(texts: Sequence[str], said: Sequence[str], known: set[str]) -> dict[str, float]:
    """Which share of the words was heard right: of those that training has, and of those that it has not."""
    import jiwer

    right: dict[bool, list[bool]] = {True: [], False: []}
    for words, chunks in zip(map(str.split, said), jiwer.process_words(list(said), list(texts)).alignments):
        for chunk in chunks:
            for word in words[chunk.ref_start_idx : chunk.ref_end_idx]:
                right[word in known].append(chunk.type == "equal")
    share = lambda rows: float(np.mean(rows)) if rows else 0.0
    return {
        "words right, of those in training": share(right[True]),
        "words right, of new ones": share(right[False]),
        "share of words that are new": len(right[False]) / (len(right[True]) + len(right[False])),
    }


def best_constant(texts: Sequence[str]) -> str:
    """Of the texts the one with the fewest character errors where it is said of all of them; long ones insert too much."""
    short = sorted({text for text in texts if len(text) <= np.mean([*map(len, texts)])})
    return min(short, key=lambda text: rj.metrics.character_error_rate([text] * len(texts), texts))


def most_alike(train: Sequence[Prompt], test: Sequence[Prompt]) -> list[str]:
    """For each of test the words of the one of train whose length, means and deviations are nearest."""
    about = lambda p: np.concatenate([p.frames.mean(0), p.frames.std(0), [10 * np.log(len(p.frames))]])
    known = np.array([about(prompt) for prompt in train])
    return [train[np.square(known - about(prompt)).sum(1).argmin()].words for prompt in test]


RECIPE = Recipe(
    "recognition",
    set=SET,
    metric="character error rate",
    better="lower",
    floor="a training prompt: the most frequent, the one best for all, the one that sounds most alike",
    make=make,
)

"""The network that tells the classes of sequences apart, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj


@dataclass(frozen=True)
class Classifier:
    """One label for each sequence: layers read it both ways, and all that they say of it goes into a linear readout.

    ``z = [forward at the last step, backward at the first, mean_t y_t, max_t y_t]``; ``logits = z V + c``.
    cell: of each layer and direction. symbols: of the vocabulary, each with ``features`` learned numbers; 0: inputs are numbers.
    dropout: of what is looked up and of ``z``; the cell brings its own.
    """

    cell: Any
    layers: int
    classes: int
    symbols: int = 0
    features: int = 64
    dropout: float = 0.0

    def __repr__(self) -> str:
        return f"{f'{self.layers} layers of ' * (self.layers > 1)}{self.cell}, each read both ways, and a label"

    @property
    def reader(self) -> Any:
        """The recurrent layers; the last gives its two directions apart."""
        below = [rj.Bidirectional(self.cell) for _ in range(self.layers - 1)]
        return rj.Sequential(*below, rj.Bidirectional(self.cell, merge=None))

    def init(self, key: jax.Array, x: Any) -> dict[str, Any]:
        """Parameters for one step's input ``x``: ``[B]`` of symbols, or ``[B, I]`` of numbers."""
        of_table, of_reader, of_readout = jax.random.split(key, 3)
        step = jax.ShapeDtypeStruct((1, self.features if self.symbols else x.shape[-1]), jnp.float32)
        reader = self.reader.init(of_reader, step)
        width = jax.eval_shape(lambda p, xs: self.seen(p, xs, None), reader, self._some(step)).shape[-1]
        params = {"reader": reader, "readout": {"kernel": rj.initializers.lecun(of_readout, (width, self.classes))}}
        params["readout"]["bias"] = jnp.zeros(self.classes)
        if self.symbols:
            params["table"] = 0.1 * jax.random.normal(
                of_table, (self.symbols, self.features)
            )  # small, so that rare words soon mean something
        return params

    def initial_carry(self, params: Any, x: Any) -> None:
        """Nothing goes from one batch to the next."""

    def __call__(self, params: Any, inputs: jax.Array, lengths: jax.Array, key: Any = None, **how: Any) -> jax.Array:
        """``inputs [T, B]`` or ``[T, B, I]`` and ``lengths [B]`` -> ``logits [B, classes]``; dropout where there is a key."""
        k_inputs, k_reader, k_readout = (None,) * 3 if key is None else jax.random.split(key, 3)
        xs = self.drop(params["table"][inputs], k_inputs) if self.symbols else inputs
        z = self.drop(self.seen(params["reader"], xs, lengths, key=k_reader, **how), k_readout)
        return z @ params["readout"]["kernel"] + params["readout"]["bias"]

    def seen(self, params: Any, xs: jax.Array, lengths: Any, **how: Any) -> jax.Array:
        """``z [B, 4 H]``."""
        _, (forward, backward) = self.reader(params, xs, lengths=lengths, **how)
        ends = [rj.last_output(forward, lengths=lengths), rj.last_output(backward, lengths=lengths, reverse=True)]
        ys = jnp.concatenate([forward, backward], -1)
        there = jnp.arange(len(xs))[:, None] < (len(xs) if lengths is None else lengths)
        most = jnp.max(jnp.where(there[..., None], ys, -jnp.inf), 0)
        mean = jnp.sum(ys, 0) / jnp.maximum(jnp.sum(there, 0), 1).astype(ys.dtype)[:, None]
        return jnp.concatenate([*ends, mean, jnp.where(jnp.isfinite(most), most, 0.0)], -1)

    def drop(self, x: jax.Array, key: Any) -> jax.Array:
        """Inverted dropout."""
        if key is None or not self.dropout:
            return x
        kept = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
        return jnp.where(kept, x / (1 - self.dropout), 0.0)

    def _some(self, step: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *step.shape), step.dtype)


def rungs(lengths: np.ndarray) -> list[int]:
    """The times to which batches are padded: three at most, so that few programs are compiled.

    >>> rungs(np.array([3, 5, 7, 9, 30]))
    [8, 24, 32]
    """
    marks = np.quantile(lengths, [0.5, 0.9, 1.0])
    return sorted({max(8, 8 * int(np.ceil(mark / 8))) for mark in marks})


def padded(sequences: list[np.ndarray], times: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences ``[T_i, ...]`` as ``[T, B, ...]`` with zeros behind, T the smallest that fits of ``times``; their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    time = next((time for time in times if time >= lengths.max()), int(lengths.max()))
    out = np.zeros((time, len(sequences), *sequences[0].shape[1:]), sequences[0].dtype)
    for b, sequence in enumerate(sequences):
        out[: len(sequence), b] = sequence
    return out, lengths


def batches_of(
    sequences: list[np.ndarray], labels: np.ndarray, batch: int, seed: int
) -> Callable[[int], dict[str, Any]]:
    """``batches(step)``: all sequences in an order that is new each time round, those of about one length together."""
    lengths = np.array([len(sequence) for sequence in sequences])
    times, batch = rungs(lengths), min(batch, len(sequences))

    @lru_cache(maxsize=1)
    def order(lap: int) -> np.ndarray:
        rng = np.random.default_rng([seed, lap])
        mixed = rng.permutation(len(sequences))
        pools = np.array_split(mixed, max(1, len(mixed) // (8 * batch)))
        alike = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        return rng.permutation(alike[: len(alike) // batch * batch].reshape(-1, batch))

    def at(step: int) -> dict[str, Any]:
        lap, place = divmod(step, len(sequences) // batch)
        chosen = order(lap)[place]
        inputs, found = padded([sequences[i] for i in chosen], times)
        return {"inputs": inputs, "lengths": found, "labels": labels[chosen]}

    return at


def logits_of(
    classifier: Classifier, sequences: list[np.ndarray], batch: int = 64, **how: Any
) -> Callable[[Any], np.ndarray]:
    """``logits(params) [N, classes]`` of all sequences in their order."""
    lengths = np.array([len(sequence) for sequence in sequences])
    order, times = np.argsort(lengths, kind="stable"), rungs(lengths)
    run = jax.jit(lambda params, inputs, lengths: classifier(params, inputs, lengths, **how))

    def logits(params: Any) -> np.ndarray:
        out = np.zeros((len(sequences), classifier.classes), np.float32)
        for chosen in _cut(order, batch):
            inputs, found = padded([sequences[i] for i in np.resize(chosen, batch)], times)
            out[chosen] = np.asarray(run(params, inputs, found))[: len(chosen)]
        return out

    return logits


def _cut(order: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    return (order[i : i + batch] for i in range(0, len(order), batch))

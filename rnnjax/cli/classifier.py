"""The networks that tell the classes of sequences apart, and their batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.wrappers.dropout import drop

LEFT_OUT = 0.6  # of the dropout of numbers that of whole words; with 0.5 and 0.3, sentences on films are told best


@dataclass(frozen=True)
class Classifier:
    """One label for each sequence: layers read it both ways, and all that they say of it goes into a linear readout.

    ``z = [forward at the last step, backward at the first, mean_t y_t, max_t y_t]``; ``logits = z V + c``.
    cell: of each layer and direction. symbols: of the vocabulary, each with ``features`` learned numbers; 0: inputs are numbers.
    dropout: of what is looked up, between layers, and of ``z``; ``LEFT_OUT`` times that of whole words.
    members: networks, each of which learns on its own; the mean of their probabilities is what counts. Of several all params
    have one more axis in front.
    """

    cell: Any
    layers: int
    classes: int
    symbols: int = 0
    features: int = 64
    dropout: float = 0.0
    members: int = 1

    def __repr__(self) -> str:
        several = f"{self.members} networks that vote, each " * (self.members > 1)
        return f"{several}{f'{self.layers} layers of ' * (self.layers > 1)}{self.cell}, read both ways, and a label"

    @property
    def reader(self) -> Any:
        """The recurrent layers; the last gives its two directions apart."""
        between = rj.Dropout(self.cell, self.dropout) if self.dropout else self.cell
        below = [rj.Bidirectional(between) for _ in range(self.layers - 1)]
        return rj.Sequential(*below, rj.Bidirectional(self.cell, merge=None))

    def init(self, key: jax.Array, x: Any) -> dict[str, Any]:
        """Parameters for one step's input ``x``: ``[B]`` of symbols, or ``[B, I]`` of numbers."""
        if self.members == 1:
            return self.one(key, x)
        return jax.vmap(lambda key: self.one(key, x))(jax.random.split(key, self.members))

    def one(self, key: jax.Array, x: Any) -> dict[str, Any]:
        """Those of one member, which starts without an opinion."""
        of_table, of_reader = jax.random.split(key)
        step = jax.ShapeDtypeStruct((1, self.features if self.symbols else x.shape[-1]), jnp.float32)
        reader = self.reader.init(of_reader, step)
        width = jax.eval_shape(lambda p, xs: self.seen(p, xs, None), reader, self._some(step)).shape[-1]
        readout = {"kernel": jnp.zeros((width, self.classes)), "bias": jnp.zeros(self.classes)}
        params = {"reader": reader, "readout": readout}
        if self.symbols:
            table = jax.random.normal(of_table, (self.symbols, self.features))
            params["table"] = 0.1 * table  # small, so that rare words soon mean something
        return params

    def initial_carry(self, params: Any, x: Any) -> None:
        """Nothing goes from one batch to the next."""

    def __call__(self, params: Any, inputs: jax.Array, lengths: jax.Array, **how: Any) -> jax.Array:
        """``inputs [T, B]`` or ``[T, B, I]`` and ``lengths [B]`` -> ``logits [B, classes]``, of several members ``log mean_m p_m``."""
        said = self.each(params, inputs, lengths, **how)
        return (
            said if self.members == 1 else jax.nn.logsumexp(jax.nn.log_softmax(said), axis=0) - math.log(self.members)
        )

    def each(self, params: Any, inputs: jax.Array, lengths: jax.Array, key: Any = None, **how: Any) -> jax.Array:
        """``logits [members, B, classes]``, of one member ``[B, classes]``; dropout where there is a key."""
        if self.members == 1:
            return self.logits(params, inputs, lengths, key, **how)
        keys = None if key is None else jax.random.split(key, self.members)
        say = lambda params, key: self.logits(params, inputs, lengths, key, **how)
        return jax.vmap(say, in_axes=(0, None if key is None else 0))(params, keys)

    def logits(self, params: Any, inputs: jax.Array, lengths: jax.Array, key: Any, **how: Any) -> jax.Array:
        """Of one member."""
        k_inputs, k_reader, k_readout = (None,) * 3 if key is None else jax.random.split(key, 3)
        xs = self.looked_up(params["table"], inputs, k_inputs) if self.symbols else inputs
        z = self.drop(self.seen(params["reader"], xs, lengths, key=k_reader, **how), k_readout)
        return z @ params["readout"]["kernel"] + params["readout"]["bias"]

    def looked_up(self, table: jax.Array, inputs: jax.Array, key: Any) -> jax.Array:
        """The numbers of each symbol, without some of them, and of some symbols without all."""
        if key is None or not self.dropout:
            return table[inputs]
        of_words, of_numbers = jax.random.split(key)
        return self.drop(table[inputs], of_numbers) * drop(
            of_words, LEFT_OUT * self.dropout, jnp.ones((*inputs.shape, 1))
        )

    def seen(self, params: Any, xs: jax.Array, lengths: Any, **how: Any) -> jax.Array:
        """``z [B, 6 H]``."""
        _, (forward, backward) = self.reader(params, xs, lengths=lengths, **how)
        ends = [rj.last_output(forward, lengths=lengths), rj.last_output(backward, lengths=lengths, reverse=True)]
        ys = jnp.concatenate([forward, backward], -1)
        there = jnp.arange(len(xs))[:, None] < (len(xs) if lengths is None else lengths)
        most = jnp.max(jnp.where(there[..., None], ys, -jnp.inf), 0)
        mean = jnp.sum(ys, 0) / jnp.maximum(jnp.sum(there, 0), 1).astype(ys.dtype)[:, None]
        return jnp.concatenate([*ends, mean, jnp.where(jnp.isfinite(most), most, 0.0)], -1)

    def drop(self, x: jax.Array, key: Any) -> jax.Array:
        """Inverted dropout."""
        return x if key is None or not self.dropout else drop(key, self.dropout, x)

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

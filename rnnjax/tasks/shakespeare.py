"""`shakespeare`: a language model of characters that reads the plays and then goes on in their manner."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import Vocabulary, held_out, load, sets, windows
from rnnjax.tasks.markov import markov_bits
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

ORDERS = range(1, 7)


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, layers = setting.pick(384, full=512, small=8), setting.pick(1, full=2)
    steps, batch, time = setting.length(6500, full=20000), setting.pick(16, full=32, small=4), setting.pick(64, small=8)
    share = setting.pick(1.0, small=0.002)
    text = {split: load("shakespeare", split)[0] for split in sets.SPLITS}
    text = {split: part[: int(share * len(part))] for split, part in text.items()}
    vocabulary = Vocabulary.of("".join(text.values()))
    tokens, symbols = {split: vocabulary.encode(part) for split, part in text.items()}, len(vocabulary)

    model = Writer(hidden, layers, symbols)
    params = model.init(jax.random.key(setting.seed))
    measure = jax.jit(model.nats)

    def score(params: Any, split: str) -> Score:
        """Bits per character of a whole split (of a fifth of valid, on the way), each predicted once, the carry handed on."""
        held = tokens[split] if split == "test" else tokens[split][: len(tokens[split]) // 5]
        rows = setting.pick(64, small=4)
        carry, total = model.start(params, rows), 0.0
        for window, counts in held_out(held, 1, rows, setting.pick(256, small=8), warm_up=16):
            carry, each = measure(params, carry, window)
            total += float(np.asarray(each)[counts].sum())
        return Score(total / (len(held) - 1) / math.log(2))

    def show(params: Any) -> str:
        return vocabulary.decode(model.write(params, vocabulary.encode("\n"), 500, setting.seed))

    bits = lambda split: markov_bits(tokens["train"], tokens[split], symbols, max(ORDERS))[min(ORDERS) :]

    def floor() -> float:
        """The order is chosen on valid."""
        return bits("test")[int(np.argmin(bits("valid")))]

    window = windows(tokens["train"], batch, time, setting.seed)
    batches = lambda step: (window(step), window.fresh(step))
    floors = {f"Markov model, the best of orders {min(ORDERS)} to {max(ORDERS)}": floor}
    return Problem(
        params,
        model.loss,
        batches,
        score,
        floors,
        cosine(6e-3, steps),
        steps,
        carry=model.start(params, batch),
        validations=5,
        show=show,
    )


class Writer(NamedTuple):
    """LSTMs above each other read characters; the last says which comes next."""

    hidden: int
    layers: int
    symbols: int

    @property
    def cell(self) -> Any:
        return rj.Readout(rj.Stack(*[rj.LSTM(self.hidden)] * self.layers), self.symbols)

    def init(self, key: jax.Array) -> Any:
        """Fresh params of `cell`."""
        return self.cell.init(key, jax.ShapeDtypeStruct((self.symbols,), jnp.float32))

    def start(self, params: Any, rows: int) -> Any:
        """The carry before anything is read."""
        return self.cell.initial_carry(params, jnp.zeros((rows, self.symbols)))

    def one_hot(self, tokens: Any) -> jax.Array:
        """Of mean square 1."""
        return jax.nn.one_hot(tokens, self.symbols) * math.sqrt(self.symbols)

    def nats(self, params: Any, carry: Any, window: Any) -> tuple[Any, jax.Array]:
        """``-log p`` of each character ``[T, B]`` of a window ``[T + 1, B]`` but the first."""
        carry, logits = rj.unroll(self.cell, params, self.one_hot(window[:-1]), carry=carry)
        return carry, rj.losses.softmax_cross_entropy(logits, window[1:])

    def loss(self, params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """The carry is handed on from window to window, but for a reader that starts anew."""
        window, fresh = batch
        start = self.start(params, window.shape[1])
        begun = lambda new, old: jnp.where(fresh.reshape(-1, *[1] * (old.ndim - 1)), new, old)
        carry, each = self.nats(params, jax.tree.map(begun, start, carry), window)
        return carry, each.mean()

    def write(self, params: Any, first: Any, length: int, seed: int) -> jax.Array:
        """Tokens that go on from ``first [B]``, a little likelier ones than it thinks."""
        step = lambda carry, token: self.cell(params, carry, self.one_hot(token))
        carry, key = self.start(params, len(first)), jax.random.key(seed)
        return rj.seq2seq.sample(step, carry, first, key, end=-1, length=length, temperature=0.8)[0]


RECIPE = Recipe(
    "shakespeare",
    set="the works of Shakespeare, 5.06 million characters of 84 kinds; the last tenth is the test",
    metric="bits per character",
    better="lower",
    floor="the best Markov model of orders 1 to 6",
    make=make,
    beside="bz2 on the whole text 2.37 bits",
)

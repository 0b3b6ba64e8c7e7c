"""`shakespeare`: a language model of characters that reads the plays and then goes on in their manner."""

from __future__ import annotations

import math
from typing import Any

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
    hidden, layers = setting.pick(256, full=512, small=8), setting.pick(1, full=2)
    steps, batch, time = setting.length(2000, full=20000), setting.pick(16, full=32, small=4), setting.pick(64, small=8)
    share = setting.pick(1.0, small=0.002)
    text = {split: load("shakespeare", split)[0] for split in sets.SPLITS}
    text = {split: part[: int(share * len(part))] for split, part in text.items()}
    vocabulary = Vocabulary.of("".join(text.values()))
    tokens, symbols = {split: vocabulary.encode(part) for split, part in text.items()}, len(vocabulary)

    cell: Any = rj.Readout(rj.Stack(*[rj.LSTM(hidden)] * layers), symbols)
    example = jax.ShapeDtypeStruct((batch, symbols), jnp.float32)
    params = cell.init(jax.random.key(setting.seed), example)
    one_hot = lambda tokens: jax.nn.one_hot(tokens, symbols) * math.sqrt(symbols)  # of mean square 1

    def nats(params: Any, carry: Any, window: Any) -> tuple[Any, jax.Array]:
        carry, logits = rj.unroll(cell, params, one_hot(window[:-1]), carry=carry)
        return carry, rj.losses.softmax_cross_entropy(logits, window[1:])

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """The carry is handed on from window to window, but for a reader that starts anew."""
        window, fresh = batch
        start = cell.initial_carry(params, one_hot(window[0]))
        begun = lambda new, old: jnp.where(fresh.reshape(-1, *[1] * (old.ndim - 1)), new, old)
        carry, each = nats(params, jax.tree.map(begun, start, carry), window)
        return carry, each.mean()

    measure = jax.jit(nats)

    def score(params: Any, split: str) -> Score:
        """Bits per character of a whole split (of a fifth of valid, on the way), each predicted once, the carry handed on."""
        held = tokens[split] if split == "test" else tokens[split][: len(tokens[split]) // 5]
        rows = setting.pick(64, small=4)
        carry, total = cell.initial_carry(params, jnp.zeros((rows, symbols))), 0.0
        for window, counts in held_out(held, 1, rows, setting.pick(256, small=8), warm_up=16):
            carry, each = measure(params, carry, window)
            total += float(np.asarray(each)[counts].sum())
        return Score(total / (len(held) - 1) / math.log(2))

    def show(params: Any, length: int = 500) -> str:
        step = lambda carry, token: cell(params, carry, one_hot(token))
        start, carry = vocabulary.encode("\n"), cell.initial_carry(params, jnp.zeros((1, symbols)))
        key = jax.random.key(setting.seed)
        written, _ = rj.seq2seq.sample(step, carry, start, key, end=-1, length=length, temperature=0.8)
        return vocabulary.decode(written)

    bits = lambda split: markov_bits(tokens["train"], tokens[split], symbols, max(ORDERS))[min(ORDERS) :]

    def floor() -> float:
        """The order is chosen on valid."""
        return bits("test")[int(np.argmin(bits("valid")))]

    window = windows(tokens["train"], batch, time, setting.seed)
    batches = lambda step: (window(step), window.fresh(step))
    floors = {f"Markov model, the best of orders {min(ORDERS)} to {max(ORDERS)}": floor}
    carry = cell.initial_carry(params, jnp.zeros(example.shape))
    return Problem(
        params, loss, batches, score, floors, cosine(8e-3, steps), steps, carry=carry, validations=5, show=show
    )


RECIPE = Recipe(
    "shakespeare",
    set="the works of Shakespeare, 5.06 million characters of 84 kinds; the last tenth is the test",
    metric="bits per character",
    better="lower",
    floor="the best Markov model of orders 1 to 6",
    make=make,
    beside="bz2 on the whole text 2.37 bits",
)

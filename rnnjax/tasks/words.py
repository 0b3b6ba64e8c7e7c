"""`words`: a language model of words on a small text, where regularisation decides: the AWD-LSTM.

Merity, Keskar and Socher 2017, arXiv:1708.02182: recurrent weights dropped, words dropped, one mask a window for what is read,
between layers and at the end, outputs kept small and slow, one table for words read and words said, averaged parameters. Instead
of their SGD that averages once it gets no better: AdamW, a cosine, and a moving average all along; windows are of one length.
"""

from __future__ import annotations

import math
import pydoc_data.topics
import re
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import held_out, windows
from rnnjax.tasks.markov import markov_bits
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.wrappers.dropout import drop

UNKNOWN, ORDER = 0, 4
WORD = re.compile(r"\w+|[^\w\s]|\n")


def read(text: str, share: tuple[float, float] = (0.8, 0.9)) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tokens of each split, in the text's order, and the vocabulary: what comes twice in train; the rest is token 0.

    >>> tokens, vocabulary = read("to be or not to be, or to be so", share=(0.7, 0.8))
    >>> vocabulary, tokens["train"].tolist(), tokens["test"].tolist()
    (['<unknown>', 'to', 'be', 'or'], [1, 2, 3, 0, 1, 2, 0, 3], [2, 0])
    """
    words = WORD.findall(text)
    a, b = (round(s * len(words)) for s in share)
    vocabulary = ["<unknown>"] + [word for word, n in Counter(words[:a]).most_common() if n > 1]
    number = {word: n for n, word in enumerate(vocabulary)}
    tokens = np.array([number.get(word, UNKNOWN) for word in words], np.int32)
    return {"train": tokens[:a], "valid": tokens[a:b], "test": tokens[b:]}, vocabulary


def documentation() -> str:
    """Python's own, of this Python, each paragraph once: the same stands under several names."""
    topics = pydoc_data.topics.topics
    parts = "\n\n".join(topics[name] for name in sorted(topics)).split("\n\n")
    return "\n\n".join(dict.fromkeys(parts))


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, layers = setting.pick(256, full=512, small=8), setting.pick(2, full=3, small=2)
    steps, batch, time = setting.length(1200, full=12000), setting.pick(20, small=4), setting.pick(35, small=8)
    text = documentation()
    tokens, vocabulary = read(text[: int(setting.pick(1.0, small=0.02) * len(text))])
    symbols = len(vocabulary)

    model = Reader(hidden, layers, symbols)
    params = model.init(jax.random.key(setting.seed))
    measure = jax.jit(lambda params, carry, window: model.run(params, carry, window)[::2])

    def score(params: Any, split: str) -> Score:
        """Perplexity of a split, each word predicted once, the carry handed on."""
        rows = setting.pick(4, small=2)
        carry, total = model.start(params, rows), 0.0
        for window, counts in held_out(tokens[split], 1, rows, setting.pick(256, small=8), warm_up=16):
            carry, each = measure(params, carry, window)
            total += float(np.asarray(each)[counts].sum())
        return Score(math.exp(total / (len(tokens[split]) - 1)))

    def floor() -> float:
        """The order is chosen on valid."""
        bits = {s: markov_bits(tokens["train"], tokens[s], symbols, ORDER) for s in ("valid", "test")}
        return 2 ** bits["test"][int(np.argmin(bits["valid"]))]

    def show(params: Any) -> str:
        written = model.write(params, vocabulary.index("\n"), 120, setting.seed)
        return " ".join(vocabulary[t] for t in np.asarray(written).ravel())

    window = windows(tokens["train"], batch, time, setting.seed)
    return Problem(
        params,
        model.loss,
        lambda step: (window(step), window.fresh(step)),
        score,
        {f"Markov model of words, the best of orders 0 to {ORDER}": floor},
        cosine(4e-3, steps, weight_decay=1e-3),
        steps,
        carry=model.start(params, batch),
        clip=0.25,
        noise=True,
        average=0.99,
        show=show,
    )


class Reader(NamedTuple):
    """The AWD-LSTM: ``table`` ``[V, H]`` of words read and, turned, of words said; dropout wherever there is a key."""

    hidden: int
    layers: int
    symbols: int

    @property
    def cell(self) -> Any:
        """Recurrent weights are dropped, and units between layers and of the output, each held over a window."""
        part = rj.VariationalDropout(rj.WeightDrop(rj.LSTM(self.hidden), 0.3), 0.2, carry_rate=0.0, input_rate=0.0)
        return rj.Stack(*[part] * self.layers)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``table``, ``bias`` ``[V]`` of words said, ``cell``."""
        k_cell, k_table = jax.random.split(key)
        return {
            "table": 0.1 * jax.random.normal(k_table, (self.symbols, self.hidden)),
            "bias": jnp.zeros(self.symbols),
            "cell": self.cell.init(k_cell, jax.ShapeDtypeStruct((self.hidden,), jnp.float32)),
        }

    def start(self, params: Any, rows: int) -> Any:
        """The carry before anything is read."""
        return self.cell.initial_carry(params["cell"], jnp.zeros((rows, self.hidden)))

    def run(self, params: Any, carry: Any, window: Any, key: Any = None) -> tuple[Any, jax.Array, jax.Array]:
        """(carry, outputs of the last layer, nats of each word); with a key words and units of the input are dropped too."""
        table, keys = params["table"], (None, None, None) if key is None else jax.random.split(key, 3)
        read = table if key is None else drop(keys[0], 0.05, jnp.ones((self.symbols, 1))) * table
        xs = read[window[:-1]] * 10.0
        if key is not None:
            xs = xs * drop(keys[1], 0.3, jnp.ones(xs.shape[1:]))
        carry, ys = rj.unroll(self.cell, params["cell"], xs, carry=carry, key=keys[2])
        logits = ys @ table.T + params["bias"]
        return carry, ys, rj.losses.softmax_cross_entropy(logits, window[1:])

    def loss(self, params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """Small outputs, and outputs that change slowly, are liked better."""
        window, fresh = batch
        carry = jax.tree.map(lambda a: jnp.where(fresh[:, None], 0, a), carry)
        carry, ys, nats = self.run(params, carry, window, key)
        size = rj.losses.activation_regularization(ys).mean()
        change = rj.losses.temporal_activation_regularization(ys).mean()
        return carry, nats.mean() + 2.0 * size + 1.0 * change

    def write(self, params: Any, first: int, length: int, seed: int) -> jax.Array:
        """Tokens that go on from ``first``, a little likelier ones than it thinks."""

        def step(carry: Any, token: Any) -> tuple[Any, jax.Array]:
            carry, y = self.cell(params["cell"], carry, params["table"][token] * 10.0)
            return carry, y @ params["table"].T + params["bias"]

        start, key = jnp.full(1, first), jax.random.key(seed)
        return rj.seq2seq.sample(step, self.start(params, 1), start, key, end=-1, length=length, temperature=0.8)[0]


RECIPE = Recipe(
    "words",
    set="the words of Python's own documentation, in the standard library; the last tenth is the test",
    metric="perplexity",
    better="lower",
    floor="the best Markov model of words",
    make=make,
)

"""`addition`: reads ``12+345`` digit by digit and writes ``357``. One network reads, another goes on from its state and writes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import Vocabulary, pad, sets, synthetic
from rnnjax.tasks.floors import majority
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

SYMBOLS = Vocabulary("=+0123456789")  # "=" is the start and the end of an answer
END = 0


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    digits, hidden = 3, setting.pick(256, small=8)
    steps, batch = setting.length(4000, full=12000), setting.pick(128, small=8)
    asked = synthetic.sums(setting.seed, setting.pick(60000, full=200000, small=200), digits)
    data = {split: encode(sets.split_of(asked, split, lambda pair: pair[0]), digits) for split in sets.SPLITS}
    answers = {split: [bytes(row) for row in part["target"].T] for split, part in data.items()}

    encoder = rj.Embed(rj.LSTM(hidden), len(SYMBOLS), 32)
    decoder: Any = rj.Readout(rj.Embed(rj.LSTM(hidden), len(SYMBOLS), 32), len(SYMBOLS))
    k_encoder, k_decoder = jax.random.split(jax.random.key(setting.seed))
    token = jnp.zeros((), jnp.int32)
    params = {"encoder": encoder.init(k_encoder, token), "decoder": decoder.init(k_decoder, token)}

    def read(params: Any, part: Any) -> Any:
        return rj.unroll(encoder, params["encoder"], part["source"], lengths=part["lengths"])[0]

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        given = jnp.concatenate([jnp.full_like(batch["target"][:1], END), batch["target"][:-1]])
        _, logits = rj.unroll(decoder, params["decoder"], given, carry=read(params, batch))
        return carry, rj.losses.softmax_cross_entropy(logits, batch["target"]).mean()

    @jax.jit
    def write(params: Any, part: Any) -> jax.Array:
        step = lambda carry, token: decoder(params["decoder"], carry, token)
        start = jnp.full(part["lengths"].shape, END, jnp.int32)
        return rj.seq2seq.greedy(step, read(params, part), start, end=END, length=digits + 2)[0]

    def score(params: Any, split: str) -> Score:
        written = np.asarray(write(params, data[split]))
        return Score(float((written == data[split]["target"]).all(0).mean()))

    def show(params: Any) -> str:
        few = take(data["valid"], np.arange(8))
        rows = zip(few["source"].T, few["lengths"], np.asarray(write(params, few)).T)
        return "\n".join(f"{SYMBOLS.decode(q[:n])}={SYMBOLS.decode(a).rstrip('=')}" for q, n, a in rows)

    order = rj.data.batches(data["train"]["lengths"], batch, setting.seed, pool=1)
    batches = lambda step: take(data["train"], order(step))
    floors = {"most frequent answer": lambda: majority(answers["train"], answers["test"])}
    return Problem(params, loss, batches, score, floors, cosine(4e-3, steps), steps, show=show)


def encode(pairs: list[tuple[str, str]], digits: int) -> dict[str, np.ndarray]:
    """source ``[S, N]``, lengths ``[N]``, target ``[T, N]`` with an end after each answer."""
    source, lengths = pad([SYMBOLS.encode(question) for question, _ in pairs], 2 * digits + 1)
    target, _ = pad([SYMBOLS.encode(answer + "=") for _, answer in pairs], digits + 2, value=END)
    return {"source": source, "lengths": lengths, "target": target}


def take(part: dict[str, np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
    """Those examples, which stand on the last axis of every array."""
    return {name: array[..., places] for name, array in part.items()}


RECIPE = Recipe(
    "addition",
    set="sums of two numbers of up to three digits, made on the fly; none of the test is trained on",
    metric="exact match",
    better="higher",
    floor="most frequent answer",
    make=make,
    beside="flax's seq2seq example: sums right from step 1800 on",
)

"""`sentiment`: does a sentence praise a film? Reads words in both directions; several small networks vote."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.floors import majority, word_regression
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

PAD, RARE, MEMBERS = 0, 1, 4


def words_of(text: str) -> list[str]:
    """Lower-case words and signs; ``n't`` stands alone, as it turns what follows.

    >>> words_of("It isn't bad, not bad at all!")
    ['it', 'is', "n't", 'bad', ',', 'not', 'bad', 'at', 'all', '!']
    """
    return re.findall(r"n't|\w+?(?=n't)|\w+|[^\w\s]", text.lower())


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, features = setting.pick(32, small=4), setting.pick(64, small=4)
    steps, batch = setting.length(600, full=2000), setting.pick(64, small=8)
    data = {split: load("sentiment", split) for split in sets.SPLITS}
    texts = {split: [words_of(text) for text, _ in part] for split, part in data.items()}
    praise = {split: np.array([y for _, y in part], np.int32) for split, part in data.items()}
    seen = Counter(word for words in texts["train"] for word in set(words))
    place = {word: i + 2 for i, word in enumerate(sorted(word for word, n in seen.items() if n > 1))}
    encode = lambda words: np.array([place.get(word, RARE) for word in words] or [RARE], np.int32)
    given = {split: [encode(words) for words in part] for split, part in texts.items()}

    layer = rj.Bidirectional(rj.GRU(hidden))
    tokens, key = len(place) + 2, jax.random.key(setting.seed)

    def start(key: jax.Array) -> Any:
        k_table, k_layer = jax.random.split(key)
        table = 0.1 * jax.random.normal(k_table, (tokens, features))
        # a new network starts without an opinion
        return {
            "table": table,
            "layer": layer.init(k_layer, jnp.zeros(features)),
            "output": jnp.zeros((4 * hidden + 1,)),
        }

    params = jax.vmap(start)(jax.random.split(key, MEMBERS))

    def member(params: Any, text: Any, lengths: Any, key: Any = None) -> jax.Array:
        """Logit ``[B]`` of praise: the mean and the largest of what the layer says along the sentence."""
        valid = (jnp.arange(len(text))[:, None] < lengths)[..., None]
        vectors = params["table"][text]
        if key is not None:
            k_word, k_part = jax.random.split(key)
            vectors = jnp.where(
                jax.random.bernoulli(k_word, 0.7, text.shape)[..., None], vectors / 0.7, 0.0
            )  # words left out
            vectors = jnp.where(jax.random.bernoulli(k_part, 0.5, vectors.shape), vectors / 0.5, 0.0)
        _, ys = layer(params["layer"], vectors, lengths=lengths)
        mean = ys.sum(0) / lengths[:, None].astype(ys.dtype)
        most = jnp.where(valid, ys, -1.0).max(0)
        return jnp.concatenate([mean, most], -1) @ params["output"][:-1] + params["output"][-1]

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        text, lengths, y = batch
        keys = jax.random.split(key, MEMBERS)
        logits = jax.vmap(member, in_axes=(0, None, None, 0))(params, text, lengths, keys)
        target = jnp.broadcast_to(y, logits.shape).astype(logits.dtype)
        return carry, rj.losses.bernoulli_nll(logits[..., None], target[..., None]).mean()

    vote = jax.jit(
        lambda params, *text: jax.nn.sigmoid(jax.vmap(member, in_axes=(0, None, None))(params, *text)).mean(0)
    )

    def score(params: Any, split: str) -> Score:
        parts = np.array_split(np.arange(len(given[split])), 4)
        says = [np.asarray(vote(params, *pad([given[split][i] for i in part], 64, cut=True))) for part in parts]
        share = np.concatenate(says)
        nats = -np.log(np.where(praise[split], share, 1 - share) + 1e-7).mean()
        return Score(float(((share > 0.5) == praise[split]).mean()), loss=float(nats))

    order = rj.data.batches([len(text) for text in given["train"]], batch, setting.seed)

    def batches(step: int) -> Any:
        places = order(step)
        return *pad([given["train"][i] for i in places], multiple=16), praise["train"][places]

    sentences = {split: [text for text, _ in part] for split, part in data.items()}
    floors = {
        "most frequent answer": lambda: majority(praise["train"].tolist(), praise["test"].tolist()),
        "TF-IDF logistic regression": lambda: word_regression(*((sentences[s], praise[s]) for s in sets.SPLITS)),
    }
    return Problem(params, loss, batches, score, floors, cosine(3e-3, steps, weight_decay=1e-2), steps, noise=True)


RECIPE = Recipe(
    "sentiment",
    set="sentences on films, scored by people (Hutto and Gilbert 2014): 10,070 at least half a point from neutral",
    metric="accuracy",
    better="higher",
    floor="TF-IDF logistic regression",
    make=make,
)

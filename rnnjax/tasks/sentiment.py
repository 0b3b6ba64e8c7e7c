"""`sentiment`: does a sentence praise a film? Reads words in both directions; several small networks vote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.floors import majority, word_regression
from rnnjax.tasks.parts import pooled
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.voting import classified, members_loss, started, vote
from rnnjax.wrappers.dropout import drop

RARE, MEMBERS = 1, 8  # the place of words that are in no vocabulary; networks


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(700, full=2000), setting.pick(64, small=8)
    data = {split: load("sentiment", split) for split in sets.SPLITS}
    sentences = {split: [text for text, _ in part] for split, part in data.items()}
    praise = {split: np.array([y for _, y in part], np.int32) for split, part in data.items()}
    words = {split: [words_of(text) for text in part] for split, part in sentences.items()}
    place = vocabulary(words["train"])
    encode = lambda text: np.array([place.get(word, RARE) for word in text] or [RARE], np.int32)
    given = {split: [encode(text) for text in part] for split, part in words.items()}
    reader = Reader(len(place) + 2, *setting.pick((64, 32), small=(4, 4)))
    says = vote(reader)

    def score(params: Any, split: str) -> Score:
        parts = np.array_split(np.arange(len(given[split])), 4)
        said = [says(params, *pad([given[split][i] for i in part], 64, cut=True)) for part in parts]
        return classified(np.concatenate(said), praise[split])

    order = rj.data.batches([len(text) for text in given["train"]], batch, setting.seed)

    def batches(step: int) -> Any:
        places = order(step)
        return *pad([given["train"][i] for i in places], multiple=16), praise["train"][places]

    floors = {
        "most frequent answer": lambda: majority(praise["train"].tolist(), praise["test"].tolist()),
        "TF-IDF logistic regression": lambda: word_regression(*((sentences[s], praise[s]) for s in sets.SPLITS)),
    }
    params = started(reader.init, setting.seed, MEMBERS)
    optimizer = cosine(3e-3, steps, weight_decay=1e-2)
    return Problem(params, members_loss(reader), batches, score, floors, optimizer, steps, noise=True, average=0.99)


def words_of(text: str) -> list[str]:
    """Lower-case words and signs; ``n't`` stands alone, as it turns what follows.

    >>> words_of("It isn't bad, not bad at all!")
    ['it', 'is', "n't", 'bad', ',', 'not', 'bad', 'at', 'all', '!']
    """
    return re.findall(r"n't|\w+?(?=n't)|\w+|[^\w\s]", text.lower())


def vocabulary(texts: Iterable[list[str]]) -> dict[str, int]:
    """The places, from 2 on, of words that stand in two sentences or more."""
    seen = Counter(word for words in texts for word in set(words))
    return {word: i + 2 for i, word in enumerate(sorted(word for word, n in seen.items() if n > 1))}


class Reader(NamedTuple):
    """A GRU in both directions; the mean and the largest of what it says along the sentence decide.

    words W, features F, hidden H: how many words there are, of a word's vector, of the GRU.
    """

    words: int
    features: int
    hidden: int

    @property
    def layer(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.hidden))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``table`` ``[W, F]``, ``layer``, ``output`` ``[4H + 1, 2]``: a new network starts without an opinion."""
        k_table, k_layer = jax.random.split(key)
        table = 0.1 * jax.random.normal(k_table, (self.words, self.features))
        layer = self.layer.init(k_layer, jnp.zeros(self.features))
        return {"table": table, "layer": layer, "output": jnp.zeros((4 * self.hidden + 1, 2))}

    def __call__(self, params: Any, text: Any, lengths: Any, key: Any = None) -> jax.Array:
        """Logits ``[B, 2]`` of ``text [T, B]``. With a key words are left out, features, and some of what is said."""
        k_word, k_feature, k_said = (None, None, None) if key is None else jax.random.split(key, 3)
        vectors = params["table"][text] * dropped(k_word, 0.3, jnp.ones(text.shape))[..., None]
        vectors = dropped(k_feature, 0.5, vectors)
        _, ys = self.layer(params["layer"], vectors, lengths=lengths)
        said = dropped(k_said, 0.5, pooled(ys, lengths))
        return said @ params["output"][:-1] + params["output"][-1]


def dropped(key: Any, rate: float, xs: jax.Array) -> jax.Array:
    """Dropout, where there is a key."""
    return xs if key is None else drop(key, rate, xs)


RECIPE = Recipe(
    "sentiment",
    set="sentences on films, scored by people (Hutto and Gilbert 2014): 10,070 at least half a point from neutral",
    metric="accuracy",
    better="higher",
    floor="TF-IDF logistic regression",
    make=make,
)

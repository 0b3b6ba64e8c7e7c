"""`answers`: reads a question, the story and the question again, word by word, and answers with one word."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import pad, sets, synthetic
from rnnjax.tasks.floors import majority
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

FORMS = tuple(synthetic.FORMS)


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    count, hidden = setting.pick(5000, full=10000, small=40), setting.pick(128, small=8)
    steps, batch = setting.length(6000, full=20000), setting.pick(64, small=8)
    told = synthetic.stories(FORMS, count, setting.seed)
    data = {split: sets.split_of(told, split, lambda story: story.text) for split in sets.SPLITS}
    words = sorted({word for story in told for word in [*story.words, story.answer]})
    place = {word: i for i, word in enumerate(words)}
    encode = lambda stories: [np.array([place[word] for word in asked_first(story)], np.int32) for story in stories]
    texts = {split: encode(stories) for split, stories in data.items()}
    answers = {split: np.array([place[story.answer] for story in stories], np.int32) for split, stories in data.items()}

    reader = rj.Embed(rj.GRU(hidden), len(words), 64)
    output = rj.Readout(reader, len(words))
    params = output.init(jax.random.key(setting.seed), jnp.zeros((), jnp.int32))

    def logits(params: Any, text: Any, lengths: Any) -> jax.Array:
        return rj.last_output(rj.unroll(output, params, text, lengths=lengths)[1], lengths=lengths)

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        text, lengths, answer = batch
        return carry, rj.losses.softmax_cross_entropy(logits(params, text, lengths), answer).mean()

    guess = jax.jit(lambda *given: logits(*given).argmax(-1))

    def guesses(params: Any, split: str) -> np.ndarray:
        parts = np.array_split(np.arange(len(texts[split])), -(-len(texts[split]) // 500))
        given = (pad([texts[split][i] for i in part], multiple=120) for part in parts)
        return np.concatenate([np.asarray(guess(params, *text)) for text in given])

    def score(params: Any, split: str) -> Score:
        right = guesses(params, split) == answers[split]
        forms = np.array([story.form for story in data[split]])
        parts = {f"form {form}": float(right[forms == form].mean()) for form in FORMS}
        return Score(float(np.mean(list(parts.values()))), parts)

    def floor() -> float:
        of = lambda split, form: [story.answer for story in data[split] if story.form == form]
        return float(np.mean([majority(of("train", form), of("test", form)) for form in FORMS]))

    order = rj.data.batches([len(text) for text in texts["train"]], batch, setting.seed)

    def batches(step: int) -> Any:
        places = order(step)
        return *pad([texts["train"][i] for i in places], multiple=40), answers["train"][places]

    floors = {"most frequent answer of the form": floor}
    return Problem(params, loss, batches, score, floors, cosine(2e-3, steps), steps)


def asked_first(story: synthetic.Story) -> list[str]:
    """The words of the question, then all: who knows what is asked keeps in mind what matters to it.

    >>> asked_first(synthetic.Story(1, "ben went to the attic. where is ben?", "attic"))[:5]
    ['where', 'is', 'ben', '?', 'ben']
    """
    words = story.words
    last = max(i for i, word in enumerate(words) if word == ".")
    return words[last + 1 :] + words


RECIPE = Recipe(
    "answers",
    set="stories and questions after the forms of bAbI 1, 2, 4, 5, 15, 18, made on the fly: same form, not same data",
    metric="accuracy",
    better="higher",
    floor="most frequent answer of the form",
    make=make,
    beside="LSTM on bAbI itself, 1,000 stories a form (Weston et al. 2015): 50, 20, 61, 70, 21, 52 %",
)

"""`languages`: what a network has learned of a formal language shows on strings longer than any that it was trained on.

Strings of 1 to 40 symbols to train on, of 41 to 500 to be asked. A state that can be driven round a cycle is all that a
regular language needs; to read a string backward takes a stack.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import synthetic
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

LONGEST, SPLITS = 40, {"valid": (41, 120), "test": (41, 500)}
CELLS = {
    "parity": rj.Elman(32),
    "even_pairs": rj.Elman(32),
    "cycle_navigation": rj.MultiplicativeLSTM(32),  # a matrix for each symbol, as automata have it
    "modular_arithmetic": rj.MultiplicativeLSTM(64),
    "reverse_string": rj.StackRNN(32, depth=LONGEST, activation="tanh"),
}


def make(setting: Setting) -> Problem:
    steps, batch = setting.length(2000, full=10000), setting.pick(64, small=4)
    chosen = {name: CELLS[name] for name in list(CELLS)[: 2 if setting.small else None]}
    models = {name: model(name, cell) for name, cell in chosen.items()}
    keys = jax.random.split(jax.random.key(setting.seed), len(models))
    params = {name: models[name].init(key, jnp.zeros((), jnp.int32)) for key, name in zip(keys, models)}

    def batches(step: int) -> dict[str, Any]:
        """Short strings first: a long parity says nothing to who does not know the short ones."""
        longest = min(LONGEST, 3 + 2 * LONGEST * step // steps)
        draw = lambda name, seed: synthetic.strings(name, seed, batch, longest, prefixes=True)
        return {name: padded(draw(name, [setting.seed, step, i])) for i, name in enumerate(models)}

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        each = [language_loss(models[name], params[name], batch[name]) for name in models]
        return carry, jnp.stack(each).sum()  # each network has its own: Adam without clipping trains them apart

    def score(params: Any, split: str) -> Score:
        shortest, longest = (n if not setting.small else n // 20 for n in SPLITS[split])
        count, seed = setting.pick(1000, small=8), [setting.seed, {"valid": -1, "test": -2}[split] % 2**32]
        drawn = {name: synthetic.strings(name, seed, count, longest, shortest) for name in models}
        parts = {name: float(accuracy(models[name], params[name], drawn[name])) for name in models}
        return Score(float(np.mean(list(parts.values()))), parts)

    chance = float(np.mean([1 / synthetic.LANGUAGES[name].answers for name in models]))
    return Problem(params, loss, batches, score, {"chance": lambda: chance}, cosine(1e-2, steps), steps, clip=None)


def model(name: str, cell: Any) -> Any:
    language = synthetic.LANGUAGES[name]
    return rj.Readout(rj.Embed(cell, language.symbols, 8), language.answers)


def deep(model: Any, depth: int) -> Any:
    """The model with room on its stack for longer strings than it was trained on; its params are the same."""
    cell = model.cell.cell
    if not isinstance(cell, rj.StackRNN):
        return model
    return replace(model, cell=replace(model.cell, cell=replace(cell, depth=depth)))


def padded(strings: synthetic.Strings) -> synthetic.Strings:
    """To the time of the longest that is ever trained on, so that one program serves all steps."""
    time = LONGEST * 2
    after = ((0, time - len(strings.tokens)), (0, 0))
    return strings._replace(
        tokens=np.pad(strings.tokens, after), targets=np.pad(strings.targets, after, constant_values=-1)
    )


def language_loss(model: Any, params: Any, strings: synthetic.Strings) -> jax.Array:
    """Mean cross-entropy of the answers that are asked for."""
    asked = strings.targets >= 0
    _, logits = rj.unroll(model, params, strings.tokens)
    return rj.losses.over_time(
        rj.losses.softmax_cross_entropy(logits, jnp.where(asked, strings.targets, 0), mask=asked), asked
    )


def accuracy(model: Any, params: Any, strings: synthetic.Strings) -> jax.Array:
    """Share of right answers."""
    wide = deep(model, len(strings.tokens))
    answers = jax.jit(lambda params, tokens: rj.unroll(wide, params, tokens)[1].argmax(-1))(params, strings.tokens)
    asked = strings.targets >= 0
    return (np.asarray(answers) == strings.targets)[asked].mean()


RECIPE = Recipe(
    "languages",
    set="strings of five formal languages (Deletang et al. 2023), made on the fly: 1 to 40 symbols, tested on 41 to 500",
    metric="accuracy",
    better="higher",
    floor="chance",
    make=make,
    beside="reverse string, Deletang et al.: stack RNN 100 %, LSTM about 61 %",
)

"""`languages`: what a network has learned of a formal language shows on strings longer than any that it was trained on.

Strings of 1 to 40 symbols to train on, of 41 to 500 to be asked. A state that can be driven round a cycle is all that a
regular language needs; to read a string backward takes a stack.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnjax as rj
from rnnjax.data import synthetic
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

LONGEST, SPLITS = 40, {"valid": (41, 120), "test": (41, 500)}
NETWORKS = {  # and their rates of learning
    "parity": (rj.Elman(32), 3e-3),
    "even_pairs": (rj.Elman(32), 3e-3),
    "cycle_navigation": (rj.MultiplicativeLSTM(32), 1e-2),  # a matrix for each symbol, as automata have it
    "modular_arithmetic": (rj.MultiplicativeLSTM(64), 3e-3),
    "reverse_string": (rj.StackRNN(32, depth=LONGEST, activation="tanh", noop=False), 1e-2),  # each step pushes or pops
}


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(8000, full=20000), setting.pick(64, small=4)
    names = list(NETWORKS)[: 2 if setting.small else None]
    models = {name: model(name, NETWORKS[name][0]) for name in names}
    keys = jax.random.split(jax.random.key(setting.seed), len(models))
    params = {name: models[name].init(key, jnp.zeros((), jnp.int32)) for key, name in zip(keys, models)}

    judge = {name: judging(model) for name, model in models.items()}

    def batches(step: int) -> dict[str, Any]:
        """Short strings first: a long parity says nothing to who does not know the short ones."""
        longest = min(LONGEST, 3 + 2 * LONGEST * step // steps)
        draw = lambda name, seed: synthetic.strings(name, seed, batch, longest, prefixes=True)
        return {name: padded(name, draw(name, [setting.seed, step, i])) for i, name in enumerate(models)}

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        each = [judged(models[name], params[name], batch[name])[1] for name in models]
        return carry, jnp.stack(each).sum()

    def score(params: Any, split: str) -> Score:
        shortest, longest = (n if not setting.small else n // 20 for n in SPLITS[split])
        count, seed = setting.pick(1000, small=8), [setting.seed, {"valid": -1, "test": -2}[split] % 2**32]
        drawn = {name: synthetic.strings(name, seed, count, longest, shortest) for name in models}
        found = {name: judge[name](params[name], drawn[name]) for name in models}
        parts = {name: float(right) for name, (right, _) in found.items()}
        return Score(float(np.mean(list(parts.values()))), parts, loss=float(sum(nats for _, nats in found.values())))

    apart = {name: optax.chain(optax.clip_by_global_norm(1.0), cosine(NETWORKS[name][1], steps)) for name in names}
    optimizer = optax.partition(apart, {name: name for name in names})  # these networks share nothing
    chance = float(np.mean([1 / synthetic.LANGUAGES[name].answers for name in models]))
    return Problem(params, loss, batches, score, {"chance": lambda: chance}, optimizer, steps, clip=None)


def model(name: str, cell: Any) -> Any:
    """The network for a language: symbols ``[B]`` in, logits of its answers ``[B, A]`` out."""
    language = synthetic.LANGUAGES[name]
    return rj.Readout(rj.Embed(cell, language.symbols, 8), language.answers)


def judging(model: Any) -> Any:
    """``(params, strings) -> (share of right answers, nats an answer)``, compiled.

    A stack has room for longer strings than it was trained on (its params are the same), and what it does is `certain`.
    """
    if not isinstance(cell := model.cell.cell, rj.StackRNN):
        return jax.jit(partial(judged, model))
    roomy = replace(model, cell=replace(model.cell, cell=replace(cell, depth=max(SPLITS["test"]))))
    return jax.jit(lambda params, strings: judged(roomy, certain(params), strings))


def certain(params: Any) -> Any:
    """To push or to pop without a doubt, the weights of the actions times a large number: small doubts add up along a string.

    So Joulin and Mikolov 2015 round a stack.
    """
    stack = params["cell"]["cell"]
    return params | {"cell": params["cell"] | {"cell": stack | {"action": 1e3 * stack["action"]}}}


def padded(name: str, strings: synthetic.Strings) -> synthetic.Strings:
    """To the time of the longest that is ever trained on, so that one program serves all steps."""
    time = LONGEST * (2 if synthetic.LANGUAGES[name].spelled else 1)
    after = ((0, time - len(strings.tokens)), (0, 0))
    targets = np.pad(strings.targets, after, constant_values=-1)
    return strings._replace(tokens=np.pad(strings.tokens, after), targets=targets)


def judged(model: Any, params: Any, strings: synthetic.Strings) -> tuple[jax.Array, jax.Array]:
    """(share of right answers, mean cross-entropy) of those that are asked for."""
    asked = strings.targets >= 0
    targets = jnp.where(asked, strings.targets, 0)
    _, logits = rj.unroll(model, params, strings.tokens)
    nats = rj.losses.over_time(rj.losses.softmax_cross_entropy(logits, targets, mask=asked), asked)
    return (asked & (logits.argmax(-1) == targets)).sum() / asked.sum(), nats


RECIPE = Recipe(
    "languages",
    set="strings of five formal languages (Deletang et al. 2023), made on the fly: 1 to 40 symbols, tested on 41 to 500",
    metric="accuracy",
    better="higher",
    floor="chance",
    make=make,
    beside="reverse string, Deletang et al.: stack RNN 100 %, LSTM about 61 %",
)

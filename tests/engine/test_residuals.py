"""The minimum cut against every subset there is, on random graphs of elementwise steps and products."""

import itertools

import jax
import numpy as np
import pytest
from jax import lax

from rnnjax.engine import residuals
from rnnjax.engine.graph import Eqn, Var, alive, nbytes, variables

PRIMITIVES = {"add": lax.add_p, "tanh": lax.tanh_p, "dot_general": lax.dot_general_p}


def random_graph(seed):
    """(equations, what is needed, what is free, what is stored anyway)."""
    draw = np.random.default_rng(seed)
    new = lambda: Var(jax.typeof(np.zeros((draw.choice([1, 4, 16]),), np.float32)))
    values, eqns = [new() for _ in range(3)], []
    free, start = {values[0]}, values[1:]
    for _ in range(6):
        name = draw.choice(["add", "add", "tanh", "dot_general"])
        ins = [values[n] for n in draw.choice(len(values), 1 if name == "tanh" else 2)]
        eqns.append(Eqn(PRIMITIVES[name], {}, ins, [new()]))
        values += eqns[-1].outs
    needed = [values[n] for n in draw.choice(len(values), 3, replace=False)]
    return eqns, needed, free, {v for v in [*start, *values[3:]] if draw.random() < 0.2}


def cost(chosen, eqns, needed, free, stored):
    """What it costs to store `chosen` and to make the rest of what is needed again; None where that is impossible."""
    again = alive(eqns, needed, {*chosen, *free})
    made = {v for e in again for v in e.outs}
    wanted = {*(v for e in again for v in variables(e.ins)), *needed}
    if not wanted <= {*chosen, *free, *made} or any(e.name == "dot_general" for e in again):
        return None
    rate = {"add": residuals.ELEMENT, "tanh": residuals.CURVE}
    work = sum(rate[e.name] * nbytes(v) for e in again for v in e.outs)
    return work + sum((residuals.READ if v in stored else residuals.STORE) * nbytes(v) + 1 for v in chosen)


@pytest.mark.parametrize("seed", range(40))
def test_no_subset_is_cheaper_than_the_cut(seed):
    eqns, needed, free, stored = random_graph(seed)
    values = list(
        dict.fromkeys(v for e in eqns for v in [*e.ins, *e.outs] if v not in free)
        | dict.fromkeys(v for v in needed if v not in free)
    )
    subsets = itertools.chain.from_iterable(itertools.combinations(values, k) for k in range(len(values) + 1))
    costs = [c for s in subsets if (c := cost(set(s), eqns, needed, free, stored)) is not None]
    assert cost(set(residuals.choose(eqns, needed, free, stored)), eqns, needed, free, stored) == min(costs)

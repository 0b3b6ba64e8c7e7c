"""Join: products of one operand with several weights become one product with the weights side by side.

    a @ W1, a @ W2, a @ W3  ->  split(a @ [W1 W2 W3])

A cell that keeps a weight for each gate, as textbooks print it, then costs what one with joined weights does: a small
product runs at a fraction of the rate of a wide one. The weights are joined once, before the loop.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jax import lax

from rnnjax import _jax
from rnnjax.engine.binding_times import CONSTANT, BindingTime
from rnnjax.engine.graph import Eqn, Graph, Var, alive, is_var, split_eqn, users


def join_products(graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> Graph:
    """Join products that read the same operand and are wanted for the same end (the next carry, or outputs alone)."""
    once = [e for e in graph.eqns if not e.outs or all(when[v] == CONSTANT for v in e.outs)]
    rest = [e for e in graph.eqns if e.outs and any(when[v] > CONSTANT for v in e.outs)]
    needed = set(alive(rest, graph.outs[:num_carry]))
    groups: dict[Any, list[Eqn]] = {}
    for eqn in rest:
        if (form := joinable(eqn, when)) is not None:
            groups.setdefault((*form, eqn in needed), []).append(eqn)
    read_by = users(rest)
    given = {v for v in graph.outs if is_var(v)}
    replaced: dict[Eqn, list[Eqn]] = {}
    for form, eqns in groups.items():
        if len({e.ins[form[1]] for e in eqns}) > 1:  # the weights differ
            joined, cut = join(eqns, form[1], read_by, given)
            replaced.update({e: [] for e in [*eqns, *cut]})
            replaced[eqns[0]] = joined
    return dataclasses.replace(graph, eqns=once + [new for e in rest for new in replaced.get(e, [e])])


def joinable(eqn: Eqn, when: dict[Var, BindingTime]) -> tuple | None:
    """(operand, which one is the weight, the form of the product) of a product with one constant matrix."""
    if eqn.name != "dot_general" or not all(is_var(a) for a in eqn.ins) or _jax.placed(eqn.params):
        return None
    contract, batch = _jax.dot_axes(eqn.params)
    for n in (0, 1):
        weight, operand = eqn.ins[n], eqn.ins[1 - n]
        if (
            when[weight] == CONSTANT < when[operand]
            and len(weight.shape) == 2
            and len(contract[n]) == 1
            and not batch[0]
        ):
            return operand, n, weight.dtype, _jax.form_of(eqn.params)
    return None


def join(eqns: list[Eqn], side: int, read_by: dict[Var, list[Eqn]], given: set[Var]) -> tuple[list[Eqn], list[Eqn]]:
    """(joined weights, their product and its split, the splits of single products that this one takes in)."""
    first = eqns[0]
    weights = [e.ins[side] for e in eqns]
    free = 1 - _jax.dot_axes(first.params)[0][side][0]
    axis = len(first.outs[0].shape) - 1 if side == 1 else 0
    outs, cut = [], []
    for out in (e.outs[0] for e in eqns):
        after = read_by.get(out, [])
        if (
            len(after) == 1
            and after[0].name == "split"
            and _jax.split_form(after[0].params)[1] == axis
            and out not in given
        ):
            cut.append(after[0])
            outs += after[0].outs
        else:
            outs.append(out)
    width = sum(w.shape[free] for w in weights)
    shape = list(weights[0].shape)
    shape[free] = width
    wide_weight = weights[0].reshaped(shape)
    shape = list(first.outs[0].shape)
    shape[axis] = width
    wide = first.outs[0].reshaped(shape)
    ins = [first.ins[0], wide_weight] if side == 1 else [wide_weight, first.ins[1]]
    concat = Eqn(lax.concatenate_p, _jax.concatenate_params(free), weights, [wide_weight])
    return [concat, first.like(ins, [wide]), split_eqn(wide, [v.shape[axis] for v in outs], axis, outs)], cut

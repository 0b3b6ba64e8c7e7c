"""A product that is split -> a product for each part.

    split(a @ W)  ->  a @ split(W)

As a pass where features lie on several devices, and where a product for all steps at once would be wide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from rnnjax import _jax
from rnnjax.engine.binding_times import CONSTANT, BindingTime
from rnnjax.engine.graph import (
    Eqn,
    Graph,
    Var,
    alive,
    is_var,
    producers,
    split_eqn,
    users,
    variables,
)


def narrow_products(eqns: list[Eqn], keep: set[Var], constant: Callable[[Var], bool]) -> list[Eqn]:
    """`split(x @ W)` as `x @ split(W)`, where nothing else reads the product: no wide array is made and copied apart."""
    read_by, made = users(eqns), producers(eqns)
    parts: dict[Eqn, list[Eqn]] = {}
    for eqn in eqns:
        product = made.get(eqn.ins[0]) if eqn.name == "split" else None
        if product is None or product.name != "dot_general" or eqn.ins[0] in keep or len(read_by[eqn.ins[0]]) > 1:
            continue
        if (side := constant_side(product, _jax.split_form(eqn.params)[1], constant)) is not None:
            axis, n = side
            cut = split_eqn(product.ins[n], _jax.split_form(eqn.params)[0], axis)
            pairs = [(product.ins[0], w) if n == 1 else (w, product.ins[1]) for w in cut.outs]
            parts[product] = []
            parts[eqn] = [cut, *(product.like(list(p), [v]) for p, v in zip(pairs, eqn.outs, strict=True))]
    return [new for e in eqns for new in parts.get(e, [e])]


def part_gates(graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> Graph:
    """Where features lie on several devices, a product that is split into gates becomes a product for each: the weight is
    taken apart before the loop, and each device then holds its slice of every gate."""
    if not any(
        e.name == "split" and _jax.perhaps_split(e.ins[0].aval, _jax.split_form(e.params)[1]) for e in graph.eqns
    ):
        return graph
    eqns = narrow_products(alive(graph.eqns, graph.outs), set(variables(graph.outs)), lambda v: when[v] == CONSTANT)
    return dataclasses.replace(graph, eqns=eqns)


def constant_side(eqn: Eqn, axis: int, constant: Callable[[Var], bool]) -> tuple[int, int] | None:
    """(axis of the weight, which operand it is) if output `axis` of a product comes from a constant operand."""
    contract, batch = _jax.dot_axes(eqn.params)
    free = [[d for d in range(len(a.aval.shape)) if d not in contract[n]] for n, a in enumerate(eqn.ins)]
    if batch[0] or _jax.placed(eqn.params):
        return None
    for n, offset in ((0, 0), (1, len(free[0]))):
        if is_var(eqn.ins[n]) and constant(eqn.ins[n]) and offset <= axis < offset + len(free[n]):
            return free[n][axis - offset], n
    return None

"""A product of a concatenation -> a sum of products.

concat(x, h) @ W  ->  x @ W[:I] + h @ W[I:]
"""

from __future__ import annotations

import dataclasses

from jax import lax

from rnnjax import _jax
from rnnjax.engine.binding_times import CONSTANT, BindingTime
from rnnjax.engine.graph import (
    Atom,
    Eqn,
    Graph,
    Var,
    is_var,
    producers,
    split_eqn,
)


def contraction(eqn: Eqn) -> tuple[int, int] | None:
    """(lhs axis, rhs axis) of a `dot_general` that contracts one axis and has no batch axes."""
    (lhs, rhs), (batch, _) = _jax.dot_axes(eqn.params)
    return (lhs[0], rhs[0]) if len(lhs) == 1 and not batch else None


def open_concats(graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> Graph:
    """`concat(x, h) @ W` with constant W: x's part does not need the carry."""
    made = producers(graph.eqns)
    eqns: list[Eqn] = []
    for eqn in graph.eqns:
        opened = open_concat(eqn, made, when) if eqn.name == "dot_general" else None
        eqns.extend(opened or [eqn])
    return dataclasses.replace(graph, eqns=eqns)


def open_concat(eqn: Eqn, made: dict[Var, Eqn], when: dict[Var, BindingTime]) -> list[Eqn] | None:
    """The products that replace one of a concatenation with a constant weight; None where it is none."""
    axes = contraction(eqn)
    if axes is None or not all(is_var(a) for a in eqn.ins):
        return None
    for side in (0, 1):
        cat, weight = made.get(eqn.ins[side]), eqn.ins[1 - side]
        if (
            cat is None
            or cat.name != "concatenate"
            or _jax.concatenated(cat.params) != axes[side]
            or when[weight] != CONSTANT
        ):
            continue
        if not all(is_var(a) for a in cat.ins) or len({when[a] for a in cat.ins}) < 2:
            continue
        parts = split_eqn(weight, [a.shape[axes[side]] for a in cat.ins], axes[1 - side])
        return [parts, *sum_of_products(eqn, side, cat.ins, parts.outs)]
    return None


def sum_of_products(eqn: Eqn, side: int, operands: list[Atom], weights: list[Var]) -> list[Eqn]:
    """One product per pair, added up into `eqn`'s output; what needs the carry comes last."""
    out = eqn.outs[0]
    new, total = [], None
    for n, (a, w) in enumerate(zip(operands, weights, strict=True)):
        piece = Var(out.aval)
        new.append(eqn.like([a, w] if side == 0 else [w, a], [piece]))
        if total is not None:
            to = out if n == len(operands) - 1 else Var(out.aval)
            new.append(Eqn(lax.add_p, {}, [total, piece], [to]))
            piece = to
        total = piece
    return new

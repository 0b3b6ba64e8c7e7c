"""Finds the gates of a step in its jaxpr: the step is run equation by equation, and each value remembers which gate it is.

A candidate is made by `logistic` from something that varies (with the carry or the input). It stays the same gate through moves,
through functions of it alone and through sums and products with what does not vary; a slice of it is a candidate of its own. It is a
gate once it multiplies something else that varies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rnnjax import _jax

PRODUCTS = frozenset({"mul", "dot_general", "div"})
PARTS = frozenset({"slice", "split", "dynamic_slice", "gather"})


@dataclasses.dataclass(eq=False)
class Gate:
    """A candidate. of: what the logistic was taken of. used: whether it multiplies something."""

    value: Any
    of: Any
    where: str
    used: bool = False


@dataclasses.dataclass(eq=False)
class Value:
    """A value on its way. varies: with the carry or the input. gate: which it is, or is a function of."""

    value: Any
    varies: bool = False
    gate: Gate | None = None


def gates_of(step: Callable, *args: Any) -> tuple[list[str], list[Any], Any]:
    """The lines that make the gates of ``step(*args)``, their values, and the results of the step."""
    closed, shape = jax.make_jaxpr(step, return_shape=True)(*args)
    jaxpr, consts = _jax.open_jaxpr(closed)
    found: list[Gate] = []
    inputs = [Value(leaf, varies=True) for leaf in jax.tree.leaves(args)]
    outs = _run(jaxpr, [*map(Value, consts), *inputs], found)
    gates = [gate for gate in found if gate.used]
    results = jax.tree.unflatten(jax.tree.structure(shape), [v.value for v in outs])
    return [gate.where for gate in gates], [gate.value for gate in gates], results


def _run(jaxpr: Any, given: list[Value], found: list[Gate], line: str = "") -> list[Value]:
    """The results of a jaxpr on its constants and inputs; candidates are appended to ``found``. line: who called it."""
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], given, strict=True))
    read = lambda atom: Value(_jax.literal_value(atom)) if isinstance(atom, _jax.Literal) else env[atom]
    for eqn in jaxpr.eqns:
        ins = [read(atom) for atom in eqn.invars]
        env.update(zip(eqn.outvars, _equation(eqn, ins, found, line), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, ins: list[Value], found: list[Gate], line: str) -> list[Value]:
    opened = _jax.opened_call(eqn)
    if opened is not None:
        jaxpr, consts = opened
        # JAX traces `jax.nn.sigmoid` once and for all: what is inside knows only of its first caller.
        caller = _jax.source_line(eqn) if len(jaxpr.eqns) == 1 else ""
        return _run(jaxpr, [*map(Value, consts), *ins], found, line or caller)
    _refuse_hidden(eqn)
    values = _jax.bind(eqn.primitive, eqn.params, [v.value for v in ins], getattr(eqn, "ctx", None))
    varies = any(v.varies for v in ins)
    gates = [_gate(eqn, value, ins, found, line) if varies else None for value in values]
    return [Value(value, varies, gate) for value, gate in zip(values, gates, strict=True)]


def _gate(eqn: Any, value: Any, ins: list[Value], found: list[Gate], line: str) -> Gate | None:
    """Which gate a result is; notes which of the operands are used as gates."""
    name, varying = eqn.primitive.name, [v for v in ins if v.varies]
    if name == "logistic":
        return _candidate(value, ins[0], line or _jax.source_line(eqn), found)
    if name in PRODUCTS and len(varying) == 2:
        for v, other in (varying, varying[::-1]):
            if v.gate is not None and other is not v.gate.of:
                v.gate.used = True
        return None
    gate = varying[0].gate if len(varying) == 1 else None
    if gate is not None and name in PARTS:
        return _candidate(value, gate.of, gate.where, found)
    return gate


def _candidate(value: Any, of: Any, where: str, found: list[Gate]) -> Gate:
    found.append(Gate(value, of, where))
    return found[-1]


def _refuse_hidden(eqn: Any) -> None:
    inside = (e for jaxpr in _jax.sub_jaxprs(eqn.params) for e in _jax.equations(jaxpr))
    hidden = next((e for e in inside if e.primitive.name == "logistic"), None)
    if hidden is not None:
        raise ValueError(
            f"gate_saturation: the step takes a sigmoid inside a {eqn.primitive.name} of its own ({_jax.source_line(hidden)}), where "
            "its values cannot be read; write that loop out, or look at a cell without it"
        )

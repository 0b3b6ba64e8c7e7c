"""A body as a flat list of equations: the form every step of the engine reads and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jax import lax

from rnnjax import _jax


class Var:
    """A value: it has a shape and a dtype, and is itself and nothing else."""

    __slots__ = ("aval",)

    def __init__(self, aval: Any):
        self.aval = aval

    def reshaped(self, shape: Any) -> Var:
        """A new value of another shape and otherwise the same type."""
        return Var(self.aval.update(shape=tuple(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype


Atom = Any  # Var, or a jax Literal
PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})


@dataclasses.dataclass(frozen=True, eq=False)
class Eqn:
    """`outs = primitive(*ins, **params)`; a product with `low` set runs on operands of that dtype."""

    primitive: Any
    params: dict
    ins: list[Atom]
    outs: list[Var]
    context: Any = None
    where: str = ""
    low: Any = None

    @property
    def name(self) -> str:
        return self.primitive.name

    def like(self, ins: list[Atom], outs: list[Var]) -> Eqn:
        return dataclasses.replace(self, ins=ins, outs=outs)


@dataclasses.dataclass(frozen=True)
class Graph:
    """`outs` from `ins` and `consts` (a value for each constant) by `eqns` in order."""

    consts: dict[Var, Any]
    ins: list[Var]
    eqns: list[Eqn]
    outs: list[Atom]


def is_var(atom: Atom) -> bool:
    """Whether an atom is a value and not a literal."""
    return isinstance(atom, Var)


def variables(atoms: Iterable[Atom]) -> list[Var]:
    """The values among atoms."""
    return [a for a in atoms if isinstance(a, Var)]


def nbytes(var: Var) -> int:
    """Bytes of one value."""
    return int(np.prod(var.shape, dtype=np.int64)) * max(1, getattr(var.dtype, "itemsize", 8))


def is_float(var: Atom) -> bool:
    """Whether a value has a tangent of its own dtype."""
    return _jax.tangent_dtype(var.aval.dtype) == var.aval.dtype


def read(env: dict[Var, Any], atom: Atom) -> Any:
    """What an atom stands for."""
    return env[atom] if isinstance(atom, Var) else atom.val


def run_eqn(eqn: Eqn, values: list) -> list:
    """The results of one equation on values."""
    return _jax.bind(eqn.primitive, eqn.params, values, eqn.context, eqn.low)


def evaluate(eqns: Iterable[Eqn], env: dict[Var, Any]) -> None:
    """Run equations in order, filling `env`."""
    for eqn in eqns:
        env.update(zip(eqn.outs, run_eqn(eqn, [read(env, a) for a in eqn.ins]), strict=True))


def checked(graph: Graph) -> Graph:
    """The same graph. Raises AssertionError where a value is made twice, or read before it is made."""
    known = {*graph.consts, *graph.ins}
    assert len(known) == len(graph.consts) + len(graph.ins), "an input comes twice"
    for eqn in graph.eqns:
        assert known.issuperset(variables(eqn.ins)), f"{eqn.name} reads what is not made yet"
        assert len({*eqn.outs} - known) == len(eqn.outs), f"{eqn.name} makes a value again"
        known.update(eqn.outs)
    assert known.issuperset(variables(graph.outs)), "an output is not made"
    return graph


def alive(eqns: list[Eqn], wanted: Iterable[Atom], stop: frozenset | set = frozenset()) -> list[Eqn]:
    """The equations that `wanted` needs, in order; values in `stop` are given. All equations here are pure."""
    need = set(variables(wanted)) - stop
    keep = []
    for eqn in reversed(eqns):
        if any(v in need for v in eqn.outs):
            keep.append(eqn)
            need.update(v for v in variables(eqn.ins) if v not in stop)
    return keep[::-1]


def users(eqns: Iterable[Eqn]) -> dict[Var, list[Eqn]]:
    """Who reads each value; an equation that reads it twice is listed twice."""
    table: dict[Var, list[Eqn]] = {}
    for eqn in eqns:
        for v in variables(eqn.ins):
            table.setdefault(v, []).append(eqn)
    return table


def producers(eqns: Iterable[Eqn]) -> dict[Var, Eqn]:
    """Which equation makes each value."""
    return {v: eqn for eqn in eqns for v in eqn.outs}


def depends(eqns: Iterable[Eqn], seeds: Iterable[Var]) -> set[Var]:
    """All values that depend on `seeds`, the seeds included."""
    found = set(seeds)
    for eqn in eqns:
        if any(v in found for v in variables(eqn.ins)):
            found.update(eqn.outs)
    return found


def part_shape(var: Var, axis: int, size: int) -> tuple[int, ...]:
    """A value's shape with another size along one axis."""
    return (*var.shape[:axis], size, *var.shape[axis + 1 :])


def split_eqn(var: Var, sizes: Any, axis: int, outs: list[Var] | None = None) -> Eqn:
    """The equation that splits a value along an axis."""
    sizes = tuple(int(s) for s in sizes)
    outs = outs or [var.reshaped(part_shape(var, axis, s)) for s in sizes]
    return Eqn(lax.split_p, _jax.split_params(sizes, axis), [var], outs)

"""What a value of a traced loss is to the rows of the batch, and what it means for two of them to meet.

Rows    row r of it depends on row r of the batch and on nothing of the other rows
Whole   it does not depend on the batch
TAIL    it depends on sums over the batch: the frontier, and all that is computed from it
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rnnjax.engine.graph import Eqn


class Unprovable(Exception):
    """Why a loss is not shown to treat the rows of its batch one by one."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows lie along `axis`, whose size is `outer * rows * inner` (more than `rows` after a reshape)."""

    axis: int
    outer: int = 1
    inner: int = 1

    def at(self, axis: int) -> Rows:
        return dataclasses.replace(self, axis=axis)


@dataclasses.dataclass(frozen=True)
class Whole:
    """Nothing of the batch in it; along the axes in `uniform` all of it is the same."""

    uniform: frozenset[int] = frozenset()


TAIL = "tail"
SUM = "sum"  # the result of a rule: a sum over the rows
State = Any  # Rows, Whole or TAIL


def said(eqn: Eqn) -> str:
    """The user's line behind an equation, in brackets."""
    return f" ({eqn.where})" if eqn.where and not eqn.where.startswith("_jax.py") else ""


def shape_of(atom: Any) -> tuple[int, ...]:
    """Of a variable or a literal."""
    return tuple(atom.aval.shape)


def fit(atom: Any, state: State, rows: Rows, what: str) -> None:
    """Checks that an operand can be read row by row: it has the same rows, is uniform along them, or is a scalar."""
    if isinstance(state, Rows) and state != rows:
        raise Unprovable(f"rows of the batch along different axes meet{what}")
    if isinstance(state, Whole) and shape_of(atom) and rows.axis not in state.uniform:
        raise Unprovable(f"something of its own for each row meets the rows of the batch{what}")


def same_rows(eqn: Eqn, states: list[State]) -> list[State]:
    """Element by element: all operands have the same rows."""
    rows = next(s for s in states if isinstance(s, Rows))
    for atom, state in zip(eqn.ins, states, strict=True):
        fit(atom, state, rows, said(eqn))
    return [rows] * len(eqn.outs)


def join(atom: Any, one: State, other: State, what: str = "") -> State:
    """The state of what is sometimes the one and sometimes the other."""
    if isinstance(one, Whole) and isinstance(other, Whole):
        return Whole(one.uniform & other.uniform)
    rows = one if isinstance(one, Rows) else other
    for state in (one, other):
        fit(atom, state, rows, what)
    return rows


def first(states: list[State], eqn: Eqn) -> Rows:
    """The rows of the first operand; the others must have none."""
    if any(isinstance(s, Rows) for s in states[1:]) or not isinstance(states[0], Rows):
        raise Unprovable(f"{eqn.name} reads its rows from another operand than the first{said(eqn)}")
    return states[0]


def require(true: bool, eqn: Eqn) -> None:
    """Raises: `Unprovable` unless it is so."""
    if not true:
        raise Unprovable(f"{eqn.name} along the batch{said(eqn)}")


def unchanged(atom: Any, axis: int, shape: tuple[int, ...]) -> bool:
    """Whether an axis has the size that it has there."""
    return shape_of(atom)[axis] == shape[axis]


def kept(rows: Rows, gone: tuple[int, ...]) -> Rows:
    """The rows after other axes were taken away."""
    return rows.at(rows.axis - sum(a < rows.axis for a in gone))

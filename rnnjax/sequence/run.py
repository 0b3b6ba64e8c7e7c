"""What a method is given and what it gives back."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, call_step
from rnnjax.carry_maps import CarryChange
from rnnjax.sequence.arguments import Steps
from rnnjax.sequence.step import held, shown


@dataclasses.dataclass(frozen=True)
class Run:
    """One cell over all steps. start, fresh: the carry before the first step and the one that a reset restores.

    whole: what the user rolls, of which ``cell`` is a part; for messages. carries: whether those after every step are wanted.
    change: what the wrappers round this cell do to its carry in each step (``method="associative"``).
    """

    whole: Any
    cell: Any
    params: Params
    start: Carry
    fresh: Carry
    steps: Steps
    carries: bool = False
    change: CarryChange | None = None


class Rolled(NamedTuple):
    """last: the carry after the last step. ys, carries ``[T, ...]``: outputs, with anything where steps are left out; the carry
    after every step, or None where not wanted."""

    last: Carry
    ys: Any
    carries: Any = None


def backward(tree: Any, reverse: bool) -> Any:
    """In the order of the run."""
    return jax.tree.map(lambda a: jnp.flip(a, 0), tree) if reverse else tree


def outputs_along(run: Run, carries: Carry, reverse: bool) -> Any:
    """What the cell's own step puts out at every step of a run whose carries are known."""
    after = backward(carries, reverse)
    shifted = lambda first, rest: jnp.concatenate([first[None], rest[:-1]])[: len(rest)]  # no steps: none
    before = jax.tree.map(shifted, run.start, after)

    def output(old: Carry, step: Steps, change: CarryChange | None) -> Any:
        seen = shown(held(old, step, run.fresh), step, run.fresh)
        return call_step(run.cell, run.params, seen if change is None else change.seen(seen), step.x, step.key)[1]

    return jax.vmap(output)(backward(before, reverse), run.steps, run.change)

"""Outputs that are a part of the carry: a wrapper that changes the carry changes them with it."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax._jax import same_results
from rnnjax.base import Carry, Key, Params, call_step


def carry_outputs(cell: Any, params: Params, carry: Carry, x: Any, key: Key) -> list[int | None]:
    """For every array of a step's output the part of the new carry that it is: the same variable in the step's jaxpr, nested calls
    inlined; None where it is another."""

    def step(*of_step: Any) -> Any:
        new, y = call_step(cell, *of_step)
        return jax.tree.leaves(new), jax.tree.leaves(y)

    closed, (new, _) = jax.make_jaxpr(step, return_shape=True)(params, carry, x, key)
    named = same_results(closed)
    parts = {name: n for n, name in reversed(list(enumerate(named[: len(new)])))}
    return [parts.get(name) for name in named[len(new) :]]


def follow(y: Any, changed: Carry, parts: list[int | None]) -> Any:
    """``y`` with what is a part of the carry replaced by that part of the changed carry."""
    leaves, structure = jax.tree.flatten(y)
    new = jax.tree.leaves(changed)
    return jax.tree.unflatten(structure, [a if n is None else new[n] for a, n in zip(leaves, parts, strict=True)])

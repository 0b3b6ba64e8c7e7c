"""Eager calls: a loop is planned and compiled once for a function and types, as `lax.scan` does.

`lax.scan` traces a body once per function object and types and goes by that trace from then on; so may we. What is kept
is forgotten with the function.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from rnnjax.engine.capture import Traced

ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
LOOPS: weakref.WeakKeyDictionary[Any, dict[Hashable, Ready]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Ready:
    """A loop that has run before: `compiled(consts, (init, xs))`. `says`: the warning that goes with it."""

    compiled: Callable
    consts: list
    says: str = ""


def is_traced(values: Any) -> bool:
    """Whether any array in a pytree is being traced."""
    return any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(values))


def key_of(options: tuple, init: Any, xs: Any) -> Hashable | None:
    """What a program depends on besides the function; None where an array is being traced or is none."""
    leaves, tree = jax.tree.flatten((init, xs))
    if not all(isinstance(v, ARRAYS) and not isinstance(v, jax.core.Tracer) for v in leaves):
        return None
    try:
        key = tree, *map(jax.typeof, leaves), *options, *map(type, options)
        return key if hash(key) is not None else None
    except TypeError:
        return None


def hands_on(traced: Traced, init: Any) -> bool:
    """Whether `lax.scan` hands a part of the carry through as it came, a Python number maybe."""
    leaves = jax.tree.leaves(init)
    return traced.num_carry < len(leaves) and not all(isinstance(v, jax.Array) for v in leaves)


def has_weak_reference(f: Any) -> bool:
    """Whether something can be kept for as long as `f` lives."""
    try:
        return hash(weakref.ref(f)) is not None
    except TypeError:
        return False


def find(f: Any, key: Hashable | None) -> Ready | None:
    """The program of a call, if its like has run before."""
    if key is None or not LOOPS or not has_weak_reference(f):
        return None
    return LOOPS.get(f, {}).get(key)


def keep(f: Any, key: Hashable, ready: Ready) -> None:
    """Keep a program for as long as its function lives."""
    LOOPS.setdefault(f, {})[key] = ready


def with_constants(again: Callable[[Any, Any], Traced], init: Any, xs: Any) -> tuple[list, Callable[..., Traced]]:
    """(the arrays that a body closes over, `traced(consts, (init, xs))` with them as arguments).

    `again` traces the call on other arrays; the constants come in the same order each time.
    """
    found: list = []

    def probe(given: Any) -> None:
        found.extend(v for v in constants(again(*given)).values() if not isinstance(v, jax.core.Tracer))

    jax.eval_shape(probe, (init, xs))

    def traced(consts: list, given: Any) -> Traced:
        one, it = again(*given), zip(found, consts, strict=True)
        assert one.graph is not None
        values = {}
        for name, value in constants(one).items():
            old, new = (None, None) if isinstance(value, jax.core.Tracer) else next(it, (None, None))
            values[name] = new if old is value else value  # another array, under another configuration, stays as it is
        return dataclasses.replace(one, graph=dataclasses.replace(one.graph, consts=values))

    return found, traced


def constants(traced: Traced) -> dict:
    """The constants of a traced body."""
    return {} if traced.graph is None else traced.graph.consts

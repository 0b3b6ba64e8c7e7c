"""The floor of a row: the time of its products alone, at the rate this machine reaches for exactly these shapes.

    forward pass    x @ W for all T at once (or in the loop, where that is faster), h @ U step by step
    training step   those, dz @ U^T step by step, and one product over T*B rows for each weight's gradient

Each product is a program of its own, timed beside the sides in the same run. Products in a loop run as XLA runs them in a
loop: mostly on one core. What starting a program costs is taken off each. No elementwise operation counts, and no memory
but the products' own; so the floor is not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import jax
import jax.numpy as jnp

from rnnjax.bench import GATES, Shape, stopwatch

FLOPS = 3 * 10**9  # of one timed loop: long enough that starting it does not count, no longer than it must be

Turn = Callable[[], float]


def in_loop(cell: str, h: int) -> list[tuple[int, int]]:
    """The products [B, k] @ [k, n] of one step that need the carry, as (k, n).

    >>> in_loop("odd", 8)
    [(8, 16), (8, 8), (8, 8)]
    """
    return [(h, GATES[cell] * h), *([(h, h)] * 2 if cell == "odd" else [])]


def pieces(cell: str, shape: Shape, mode: str) -> dict[str, Turn]:
    """What to time for the floor of a row: names for `floor_ms`, and turns for `take_turns`."""
    t, b, i, h = shape
    n = GATES[cell] * h
    turns = {
        "floor: start": nothing(),
        "floor: x @ W": once(t * b, i, n),
        "floor: x @ W in the loop": steps(t, b, i, n, False),
    }
    for k, m in in_loop(cell, h):
        turns[f"floor: loop {k}, {m}"] = steps(t, b, k, m, mode == "train")
        if mode == "train":
            turns[f"floor: gradient {k}, {m}"] = once(k, t * b, m)
    if mode == "train":
        turns[f"floor: gradient {i}, {n}"] = once(i, t * b, n)
    return turns


def floor_ms(cell: str, shape: Shape, mode: str, ms: Mapping[str, float]) -> float:
    """The sum of the products, from the milliseconds of `pieces`."""
    i, h = shape[2:]
    n = GATES[cell] * h
    terms = [min(ms["floor: x @ W"], ms["floor: x @ W in the loop"])]
    terms += [ms[f"floor: loop {k}, {m}"] for k, m in in_loop(cell, h)]
    if mode == "train":
        terms += [ms[f"floor: gradient {k}, {m}"] for k, m in [*in_loop(cell, h), (i, n)]]
    return sum(max(term - ms["floor: start"], 0.0) for term in terms)


@cache
def nothing() -> Turn:
    """A program that does nothing worth a name."""
    return stopwatch(jax.jit(lambda x: x + 1), jnp.ones(()))


@cache
def once(m: int, k: int, n: int) -> Turn:
    """One `[m, k] @ [k, n]`, into memory that is there already: fresh pages are not the product's."""
    f = jax.jit(lambda out, a, w: a @ w, donate_argnums=0, keep_unused=True)
    a, w, held = jnp.ones((m, k)), jnp.full((k, n), 1 / k), [jnp.zeros((m, n))]

    def into(a, w):
        held[0] = f(held[0], a, w)
        return held[0]

    return stopwatch(into, a, w)


@cache
def steps(t: int, b: int, k: int, n: int, back: bool) -> Turn:
    """`[b, k] @ [k, n]` in a loop of t steps (with `back` also `[b, n] @ [n, k]`, in the same loop); of a long loop a part."""
    length = max(1, min(t, FLOPS // (2 * b * k * n * (1 + back))))
    w, wt = jnp.full((k, n), 1 / k), jnp.full((n, k), 1 / n)  # means: ones stay ones, nothing becomes denormal

    @jax.jit
    def loop(z, w, wt):
        step = lambda z, _: ((z @ w) @ wt if back else widen(z, k) @ w, None)
        return jax.lax.scan(step, z, None, length=length)[0]

    turn = stopwatch(loop, jnp.ones((b, k if back else n)), w, wt)
    return turn if length == t else lambda: turn() * t / length


def widen(z: jax.Array, k: int) -> jax.Array:
    """The first k columns, repeated where there are fewer: the result of one step as the operand of the next."""
    return jnp.tile(z, (1, -(-k // z.shape[1])))[:, :k]

"""Timing: `rnnjax.scan` against `jax.lax.scan` for cells that a user writes, and the tools every benchmark shares.

All sides get the same inputs, must give equal outputs and gradients before anything is timed, and take turns; medians
are compared. Ratios above 1 say how many times as fast the second side is. `rnnjax bench` prints `run()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.engine import scan

Shape = tuple[int, int, int, int]  # T, B, I, H
GRID: tuple[Shape, ...] = (
    (100, 1, 256, 256),
    (200, 8, 128, 128),
    (1000, 16, 64, 64),
    (128, 32, 128, 128),
    (784, 32, 1, 128),
    (128, 32, 256, 256),
    (64, 64, 512, 512),
)
QUICK: tuple[Shape, ...] = ((100, 1, 64, 64), (100, 8, 64, 64), (50, 32, 64, 64))
GATES = {"lstm": 4, "gru": 3, "elman": 1, "odd": 2}


def lstm(p: Any, carry: Any, x: jax.Array) -> Any:
    """An LSTM as one writes it from the paper."""
    h, c = carry
    i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(p: Any, h: jax.Array, x: jax.Array) -> Any:
    """A GRU with its gates sliced out, as many write it."""
    n = h.shape[-1]
    gx, gh = x @ p["w"] + p["b"], h @ p["u"]
    r = jax.nn.sigmoid(gx[..., :n] + gh[..., :n])
    z = jax.nn.sigmoid(gx[..., n : 2 * n] + gh[..., n : 2 * n])
    new = jnp.tanh(gx[..., 2 * n :] + r * gh[..., 2 * n :])
    h = (1 - z) * new + z * h
    return h, h


def elman(p: Any, h: jax.Array, x: jax.Array) -> Any:
    """The simple network."""
    h = jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"])
    return h, h


def odd(p: Any, carry: Any, x: jax.Array) -> Any:
    """A cell of no paper: inputs joined to the state, a tied weight, a normalised candidate, a trace of the past."""
    h, trace = carry
    u, v = jnp.split(p["u"], 2, axis=-1)
    a, b = jnp.split(jnp.concatenate([x, h], axis=-1) @ jnp.concatenate([p["w"], p["u"]]) + p["b"], 2, axis=-1)
    b = b - jnp.mean(b, axis=-1, keepdims=True)
    trace = 0.9 * trace + 0.1 * jax.nn.sigmoid(a)
    h = jnp.tanh(b + (trace * h) @ v + h @ u.T)
    return (h, trace), h


CELLS: dict[str, Callable] = {"lstm": lstm, "gru": gru, "elman": elman, "odd": odd}


def make_problem(cell: str, shape: Shape) -> tuple[Any, jax.Array, Any, jax.Array]:
    """(parameters, inputs, first carry, weights of the outputs in the loss)."""
    t, b, i, h = shape
    keys = jax.random.split(jax.random.key(0), 4)
    n = GATES[cell] * h
    p = {
        "w": jax.random.normal(keys[0], (i, n)) / np.sqrt(i),
        "u": jax.random.normal(keys[1], (h, n)) / np.sqrt(h) / (8 if cell == "odd" else 1),
        "b": 0.1 * jax.random.normal(keys[2], (n,)),
    }
    zero = jnp.zeros((b, h))
    xs = jax.random.normal(keys[3], (t, b, i))
    return p, xs, (zero, zero) if cell in ("lstm", "odd") else zero, jax.random.normal(keys[2], (t, b, h))


def make_step(cell: str, scan: Callable, mode: str) -> Callable:
    """A compiled training step (value and gradient for the parameters) or forward pass."""

    def ys(p, xs, carry):
        return scan(lambda c, x: CELLS[cell](p, c, x), carry, xs)[1]

    if mode == "forward":
        return jax.jit(lambda p, xs, carry, up: ys(p, xs, carry))
    return jax.jit(jax.value_and_grad(lambda p, xs, carry, up: jnp.sum(ys(p, xs, carry) * up)))


def assert_equal(sides: Mapping[str, Callable], args: Sequence[Any], tolerance: float = 2e-3) -> None:
    """All sides give what the first gives, up to float rounding (relative to each array's largest entry)."""
    first, *others = sides
    theirs = jax.tree.leaves(sides[first](*args))
    for name in others:
        for a, b in zip(theirs, jax.tree.leaves(sides[name](*args)), strict=True):
            error = float(jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(a)) + 1e-6))
            if not error <= tolerance:
                raise AssertionError(f"bench: {name} differs from {first} by {error:.1e} of the largest entry")


def interleave(
    sides: Mapping[str, Callable], args: Sequence[Any], repeats: int = 9, *, settle: bool = False
) -> dict[str, float]:
    """Median milliseconds of each side, the sides taking turns; all are called with the same arguments.

    settle: each turn first runs once untimed, see `stopwatch`.
    """
    turns = {name: stopwatch(f, *args, settle=settle) for name, f in sides.items()}
    return {name: median(t) for name, t in take_turns(turns, repeats).items()}


def take_turns(turns: Mapping[str, Callable[[], float]], repeats: int = 9) -> dict[str, list[float]]:
    """The milliseconds that each side reports, `repeats` of each, side after side; a first turn of all is not counted.

    >>> take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, repeats=2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    for turn in turns.values():
        turn()
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            times[name].append(turn())
    return times


def stopwatch(f: Callable, *args: Any, settle: bool = False) -> Callable[[], float]:
    """A turn for `take_turns`: runs ``f(*args)`` to its end and returns the milliseconds.

    settle: first runs it once untimed. Needed beside a library whose idle threads spin on after its own turn (torch's
    OpenMP), or the side after it pays for that.
    """

    def turn() -> float:
        if settle:
            time.sleep(0.02)
            jax.block_until_ready(f(*args))
        start = time.perf_counter()
        jax.block_until_ready(f(*args))
        return (time.perf_counter() - start) * 1e3

    return turn


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return float(np.exp(np.mean(np.log(values))))


def measure(cell: str, shape: Shape, mode: str = "train", repeats: int = 9) -> dict[str, Any]:
    """One row: `lax.scan` and `rnnjax.scan` on one cell and shape."""
    args = make_problem(cell, shape)
    sides = {"lax.scan": make_step(cell, jax.lax.scan, mode), "rnnjax": make_step(cell, scan, mode)}
    assert_equal(sides, args)
    ms = interleave(sides, args, repeats)
    return {"cell": cell, "shape": list(shape), "mode": mode, **ms, "ratio": ms["lax.scan"] / ms["rnnjax"]}


def run(
    cells: Sequence[str] = ("lstm", "gru", "elman"),
    shapes: Sequence[Shape] = QUICK,
    repeats: int = 5,
    console: Any = None,
    *,
    quick: bool = True,
) -> list[dict[str, Any]]:
    """Measure naive cells under `lax.scan` and `rnnjax.scan`, print a table, return its rows.

    cells: names from `CELLS`. shapes: `(T, B, I, H)`; ``quick=False`` measures all of `GRID` instead.
    console: a `rich.console.Console`; a new one by default.
    """
    from rich.progress import Progress

    shapes = shapes if quick else GRID
    rows = []
    # Drawn between measurements only: a thread that refreshes would be measured too.
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("measuring", total=len(cells) * len(shapes))
        for cell in cells:
            for shape in shapes:
                progress.update(task, description=f"{cell} {shape}", refresh=True)
                rows.append(measure(cell, shape, repeats=repeats))
                progress.advance(task)
    print_rows(rows, ("cell", "shape", "lax.scan", "rnnjax", "ratio"), "Training step, milliseconds", console)
    return rows


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str, console: Any = None) -> None:
    """A table on the terminal, and the geometric mean of the ratios below it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in ("cell", "mode", "what") else "right", no_wrap=name == "shape")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in columns))
    console = console or Console()
    console = Console(width=max(console.width, 18 + 13 * len(columns)), file=console.file)  # no figure is cut short
    console.print(table)
    ratios = [row["ratio"] for row in rows if row.get("ratio")]
    if ratios:
        console.print(f"geometric mean of ratio: {geometric_mean(ratios):.2f}   (above 1: rnnjax is faster)")


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:.2f}" if isinstance(value, float) else str("" if value is None else value)

"""Question 5: temporary memory (from the compiled program), compile time, with and without `checkpoint`, and an eager call.

    python benchmarks/memory.py [--quick] [--cells lstm,gru] [--compiles 3]

Bars: temporaries at most 1.2 times those of `lax.scan`; compile time at most 1.5 times where time is whole, 2 where it is cut
into blocks; a call outside `jit` at most 3 times as long, with the same body as before and with a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from common import arguments, cells_of, machine_line, print_bar, save, save_figure, shapes_of

import rnnjax as rj
from rnnjax.bench import CELLS, GRID, QUICK, make_problem, make_step, print_rows, stopwatch, take_turns
from rnnjax.engine import scan

SIDES = {"lax.scan": jax.lax.scan, "rnnjax": scan, "sqrt": partial(scan, checkpoint="sqrt")}
CALLS = (("the same body", False), ("a new body", True))


def compiler(cell: str, side: Callable, args: tuple) -> Callable[[], Any]:
    """Traces and compiles a training step, from nothing."""
    return lambda: make_step(cell, side, "train").lower(*args).compile()


def is_cut(cell: str, args: tuple) -> bool:
    """Whether the engine cuts time into blocks here."""
    p, xs, carry, _ = args
    return " blocks" in rj.explain(lambda c, x: CELLS[cell](p, c, x), carry, xs).decision


def measure(cell: str, shape: Any, compiles: int) -> dict[str, Any]:
    """One row: MiB of temporaries and seconds to trace and compile a training step."""
    args = make_problem(cell, shape)
    makers = {name: compiler(cell, side, args) for name, side in SIDES.items()}
    mib = {name: make().memory_analysis().temp_size_in_bytes / 2**20 for name, make in makers.items()}
    turns = {name: stopwatch(lambda make=make: make() and None) for name, make in makers.items()}
    seconds = {name: median(times) / 1e3 for name, times in take_turns(turns, compiles).items()}
    row = {"cell": cell, "shape": list(shape), "what": "cut" if is_cut(cell, args) else "whole", **mib}
    row |= {f"{name} compile s": s for name, s in seconds.items()}
    return row | {"memory": mib["rnnjax"] / mib["lax.scan"], "compile": seconds["rnnjax"] / seconds["lax.scan"]}


def measure_eager(shape: Any, new: bool, repeats: int) -> dict[str, Any]:
    """One row: milliseconds of a call outside `jit`, forward, of one body or of one that is made anew for each call."""
    p, xs, carry, _ = make_problem("lstm", shape)

    def body(c, x):
        return CELLS["lstm"](p, c, x)

    def call(side: Callable) -> Any:
        return side((lambda c, x: body(c, x)) if new else body, carry, xs)[1]

    turns = {name: stopwatch(call, SIDES[name]) for name in ("lax.scan", "rnnjax")}
    ms = {name: median(times) for name, times in take_turns(turns, repeats).items()}
    return {"cell": "lstm", "shape": list(shape), **ms, "eager": ms["rnnjax"] / ms["lax.scan"]}


def main() -> None:
    compiles = lambda parser: parser.add_argument(
        "--compiles", type=int, default=3, help="of each side; the median counts"
    )
    options = arguments(__doc__, compiles)
    print(machine_line())
    jax.config.update("jax_enable_compilation_cache", False)
    cells = cells_of(options, ("lstm", "gru", "elman"))
    rows = [measure(cell, shape, options.compiles) for cell in cells for shape in shapes_of(options)]
    columns = ("cell", "shape", "what", *SIDES, "memory", "lax.scan compile s", "rnnjax compile s", "compile")
    print_rows(rows, columns, "training step: MiB of temporaries, and compile time")
    calls = [measure_eager(s, new, options.repeats) | {"what": what}
             for what, new in CALLS for s in (*QUICK[:2], GRID[3])[: 1 if options.quick else None]]  # fmt: skip
    print_rows(calls, ("what", "shape", "lax.scan", "rnnjax", "eager"), "a call outside jit, milliseconds")
    verdicts(rows, calls)
    growth = grow(options)
    save("memory", rows + calls + growth, options)


def verdicts(rows: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    """The worst rows beside the bars of the project."""
    worst = partial(print_bar, worst=True, most=True)
    worst("temporaries, rnnjax / lax.scan, the worst row", [r["memory"] for r in rows], 1.2)
    for what, bar in (("whole", 1.5), ("cut", 2.0)):
        some = [r["compile"] for r in rows if r["what"] == what]
        worst(f"compile time, {what}, rnnjax / lax.scan, the worst row", some, bar)
        print_bar(f"compile time, {what}, mean", some, bar, most=True)
    for what, _ in CALLS:
        worst(f"a call outside jit, {what}, the worst row", [r["eager"] for r in calls if r["what"] == what], 3.0)


def last_state_mib(shape: Any, side: Any) -> float:
    """MiB of temporaries where only the last state enters the loss, so that no output over time is kept."""
    p, xs, carry, _ = make_problem("lstm", shape)
    loss = lambda p, xs: jnp.sum(side(lambda c, x: CELLS["lstm"](p, c, x), carry, xs)[0][0])
    return jax.jit(jax.grad(loss)).lower(p, xs).compile().memory_analysis().temp_size_in_bytes / 2**20


def grow(options: Any) -> list[dict[str, Any]]:
    """Memory as T grows, for a loss on the last state."""
    lengths = (64, 256, 1024) if options.quick else (64, 256, 1024, 4096, 16384)
    rows = [{"cell": "lstm", "shape": [t, 8, 32, 32], "what": "T",
             **{k: last_state_mib((t, 8, 32, 32), s) for k, s in SIDES.items()}} for t in lengths]  # fmt: skip
    print_rows(rows, ("shape", *SIDES), "MiB of temporaries as T grows")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for name in SIDES:
        ax.loglog(lengths, [r[name] for r in rows], marker="o", label=name if name != "sqrt" else 'checkpoint="sqrt"')
    ax.set_xlabel("T")
    ax.set_ylabel("MiB of temporaries")
    ax.legend()
    save_figure(fig, "memory", options)
    return rows


if __name__ == "__main__":
    main()

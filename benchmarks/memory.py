"""Question 5: temporary memory (from the compiled program) and compile time, with and without `checkpoint`.

python benchmarks/memory.py [--quick] [--cells lstm,gru]
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from common import arguments, cells_of, save, save_figure, shapes_of

from rnnjax.bench import CELLS, make_problem, make_step, print_rows
from rnnjax.engine import scan

SIDES = {"lax.scan": jax.lax.scan, "rnnjax": scan, "sqrt": partial(scan, checkpoint="sqrt")}


def compiled(cell: str, shape: Any, side: Any) -> tuple[float, float]:
    """(MiB of temporaries, seconds to trace and compile) of a training step."""
    args = make_problem(cell, shape)
    step = make_step(cell, side, "train")
    start = time.perf_counter()
    program = step.lower(*args).compile()
    return program.memory_analysis().temp_size_in_bytes / 2**20, time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__)
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for cell in cells_of(options, ("lstm", "gru")):
        for shape in shapes_of(options):
            found = {name: compiled(cell, shape, side) for name, side in SIDES.items()}
            rows.append({"cell": cell, "shape": list(shape), **{k: v[0] for k, v in found.items()},
                         **{f"{k} compile s": v[1] for k, v in found.items()},
                         "memory": found["rnnjax"][0] / found["lax.scan"][0],
                         "compile": found["rnnjax"][1] / found["lax.scan"][1]})  # fmt: skip
    columns = ("cell", "shape", "lax.scan", "rnnjax", "sqrt", "memory", "lax.scan compile s", "rnnjax compile s",
               "compile")  # fmt: skip
    print_rows(rows, columns, "training step: MiB of temporaries, and compile time")
    growth = grow(options)
    save("memory", rows + growth, options)


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

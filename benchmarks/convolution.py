"""Question: how fast is a training step of a convolutional cell on the engine, beside `lax.scan` and a loop written out?

A step is the gradient of a sum of squares for params and inputs; all answers are equal before anything is timed.

    python benchmarks/convolution.py [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from common import arguments, machine_line, save

import rnnjax as rj
from rnnjax.bench import assert_equal, interleave, print_rows

SHAPES = (
    (8, 8, 16, 8),
    (20, 8, 16, 8),
    (8, 4, 32, 16),
    (20, 4, 32, 16),
    (10, 8, 16, 32),
)  # T, B, height = width, features
QUICK = ((3, 2, 5, 2),)
SIDES = {"lax.scan": dict(fuse=False), "rnnjax": {}, "written out": dict(method="loop")}
CELLS = {"ConvGRU": rj.ConvGRU, "ConvLSTM": rj.ConvLSTM}


def measure(cell: str, shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """One row: milliseconds and MiB of temporaries of each side."""
    t, b, size, features = shape
    model = CELLS[cell](features)
    xs = jax.random.normal(jax.random.key(0), (t, b, size, size, 3))
    params = model.init(jax.random.key(1), xs[0])

    def side(how: dict[str, Any]) -> Callable[[Any, jax.Array], Any]:
        loss = lambda params, xs: jnp.sum(rj.unroll(model, params, xs, **how)[1] ** 2)
        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    sides = {name: side(how) for name, how in SIDES.items()}
    assert_equal(sides, (params, xs))
    ms = interleave(sides, (params, xs), repeats)
    memory = {n: f.lower(params, xs).compile().memory_analysis().temp_size_in_bytes / 2**20 for n, f in sides.items()}
    sizes = {f"{name}, MiB": round(size, 1) for name, size in memory.items()}
    return {"cell": cell, "shape": list(shape), **ms, "ratio": ms["lax.scan"] / ms["rnnjax"], **sizes}


def main() -> None:
    options = arguments(__doc__)
    print(machine_line())
    shapes = QUICK if options.quick else SHAPES
    rows = [measure(cell, shape, options.repeats) for cell in CELLS for shape in shapes]
    columns = ("cell", "shape", *SIDES, "ratio", *(f"{name}, MiB" for name in SIDES))
    print_rows(rows, columns, "convolutional cells, training step, milliseconds; shape T, B, size, features")
    save("convolution", rows, options)


if __name__ == "__main__":
    main()

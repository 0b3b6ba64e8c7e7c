"""Question 2: the built-in LSTM and GRU against flax.linen, flax.nnx, haiku, equinox, keras (on JAX)
and torch, same weights.

Where a library has another variant of a cell its column stays empty (haiku's GRU).

    python benchmarks/builtin.py [--quick] [--cells lstm] [--rows 0,1]
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, bars, cells_of, save, shapes_of
from peers import make

import rnnjax as rj
from rnnjax.bench import Shape, interleave, print_rows

CELLS = {"lstm": rj.LSTM, "gru": rj.GRU}


def check(sides: dict[str, Any], args: Any) -> None:
    """Equal outputs, and gradients of equal length (each library names and splits its weights in its own way)."""

    def facts(result):
        if not isinstance(result, tuple):
            return [np.asarray(result)]
        loss, gradient = result
        weights = [
            np.asarray(g, np.float64) for g in jax.tree.leaves(gradient) if np.ndim(g) > 1 and np.shape(g)[0] != 2
        ]  # keras keeps two biases as one matrix [2, n]
        return [np.asarray(loss), np.sqrt(sum((w**2).sum() for w in weights))]

    ours = facts(sides["rnnjax"](*args))
    for name, f in sides.items():
        loose = 100 if "bf16" in name else 1
        for a, b in zip(ours, facts(f(*args)), strict=True):
            size = np.abs(a).max() if a.ndim else max(np.abs(a), np.sqrt(args[0].size))  # a loss may be near 0
            np.testing.assert_allclose(a, b, rtol=3e-3 * loose, atol=2e-4 * loose * size, err_msg=name)


def measure(cell: str, shape: Shape, mode: str, repeats: int) -> dict[str, Any]:
    t, b, i, h = shape
    kind = CELLS[cell](h)
    params = kind.init(jax.random.key(0), jnp.zeros((b, i)))
    args = jax.random.normal(jax.random.key(1), (t, b, i)), jax.random.normal(jax.random.key(2), (t, b, h))
    sides = make(kind, params, mode)
    check(sides, args)
    ms = interleave(sides, args, repeats, settle=True)
    best = min((v, k) for k, v in ms.items() if k not in ("rnnjax", "rnnjax bf16", "torch"))
    row = {"cell": cell, "shape": list(shape), "mode": mode, **ms, "best jax peer": best[1]}
    torch = ms.get("torch", float("nan"))
    ratios = {"ratio": best[0] / ms["rnnjax"], "torch ratio": torch / ms["rnnjax"]}
    return row | ratios | {"torch / bf16": torch / ms["rnnjax bf16"]}


def main() -> None:
    options = arguments(__doc__)
    rows = []
    for mode in options.modes.split(","):
        for cell in cells_of(options, tuple(CELLS)):
            rows += [measure(cell, shape, mode, options.repeats) for shape in shapes_of(options)]
        columns = ("cell", "shape", "rnnjax", "rnnjax bf16", "flax.linen", "flax.nnx", "haiku", "equinox", "keras", "torch",
                   "ratio", "torch ratio", "torch / bf16")  # fmt: skip
        print_rows([r for r in rows if r["mode"] == mode], columns, f"built-in cells, {mode}, milliseconds")
    save("builtin", rows, options)
    bars("builtin", [r for r in rows if r["mode"] == "train"], "training step: times as fast as the best peer", options)


if __name__ == "__main__":
    main()

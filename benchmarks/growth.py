"""Question 4: how does a training step grow with T, B and H, and which fraction of the floor does it reach?

The floor is the time of the products alone at the rate this machine reaches for them: the input product and both weight
gradients as one large product each, the recurrent products step by step.

    python benchmarks/growth.py [--quick]
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from common import arguments, save, save_figure

from rnnjax.bench import GATES, Shape, interleave, measure, print_rows

# Far from the grid: very long, very wide, a prime number of steps, few inputs, a batch larger than the state.
EXTREMES: tuple[Shape, ...] = ((100000, 1, 8, 8), (20000, 4, 16, 32), (4096, 16, 64, 128), (1009, 32, 64, 128), (784, 32, 3, 128),
                               (50, 512, 64, 64), (100, 256, 32, 256), (256, 64, 256, 256), (16, 1, 256, 2048),
                               (16, 32, 512, 2048), (300, 1, 32, 32), (30, 4, 16, 16))  # fmt: skip


@cache
def product_ms(m: int, k: int, n: int, steps: int = 0) -> float:
    """Milliseconds of one `[m, k] @ [k, n]`; with `steps`, of one inside a loop."""
    a, w = jnp.ones((m, k)), jnp.ones((k, n)) * 1e-3
    if not steps:
        return interleave({"f": jax.jit(jnp.matmul)}, (a, w), 7)["f"]
    wide = lambda z: jnp.tile(z, (1, -(-k // n)))[:, :k]
    loop = jax.jit(lambda a, w: jax.lax.scan(lambda c, _: (wide(c @ w), None), a, None, length=steps)[0])
    return interleave({"f": loop}, (a, w), 5)["f"] / steps


def floor_ms(cell: str, shape: Shape) -> float:
    t, b, i, h = shape
    n = GATES[cell] * h
    once = product_ms(t * b, i, n) + product_ms(i, t * b, n) + product_ms(h, t * b, n)
    return once + t * (product_ms(b, h, n, 64) + product_ms(b, n, h, 64))


def main() -> None:
    options = arguments(__doc__)
    base: Shape = (50, 8, 32, 32) if options.quick else (128, 16, 128, 128)
    top = 2 if options.quick else 4
    rows: list[dict[str, Any]] = []
    for what, axes in (("T", (0,)), ("B", (1,)), ("H", (2, 3))):
        for n in range(-1, top):
            shape = tuple(int(s * 2.0**n) if d in axes else s for d, s in enumerate(base))
            row = measure("lstm", shape, "train", options.repeats)  # type: ignore[arg-type]
            floor = floor_ms("lstm", shape)  # type: ignore[arg-type]
            rows.append(row | {"what": what, "floor": floor, "of floor": floor / row["rnnjax"]})
    columns = ("what", "shape", "lax.scan", "rnnjax", "floor", "of floor", "ratio")
    print_rows(rows, columns, "naive LSTM, training step, milliseconds")
    shapes = EXTREMES[-2:] if options.quick else EXTREMES
    far = [measure(cell, s, mode, 5) for mode in ("train", "forward") for cell in ("lstm", "gru") for s in shapes]
    print_rows(far, ("cell", "mode", "shape", "lax.scan", "rnnjax", "ratio"), "far from the grid, milliseconds")
    save("growth", rows + [row | {"what": "extremes"} for row in far], options)
    plot(rows, options)


def plot(rows: list[dict[str, Any]], options: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", sharey=True)
    for ax, (what, axis) in zip(axes, {"T": 0, "B": 1, "H": 3}.items(), strict=True):
        some = [r for r in rows if r["what"] == what]
        for name in ("lax.scan", "rnnjax", "floor"):
            ax.loglog([r["shape"][axis] for r in some], [r[name] for r in some], marker="o", label=name)
        ax.set_xlabel(what)
    axes[0].set_ylabel("training step, ms")
    axes[0].legend()
    save_figure(fig, "growth", options)


if __name__ == "__main__":
    main()

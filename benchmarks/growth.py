"""Question 4: how does a training step grow with T, B and H, and which fraction of the floor does it reach?

The floor is the time of the products alone at the rate this machine reaches for them, measured beside each row: see floor.py.

    python benchmarks/growth.py [--quick]
"""

from __future__ import annotations

from typing import Any

from common import arguments, machine_line, print_bar, save, save_figure
from naive import SHARE, measure

from rnnjax.bench import Shape, print_rows

# Far from the grid: very long, very wide, a prime number of steps, few inputs, a batch larger than the state.
EXTREMES: tuple[Shape, ...] = ((100000, 1, 8, 8), (20000, 4, 16, 32), (4096, 16, 64, 128), (1009, 32, 64, 128), (784, 32, 3, 128),
                               (50, 512, 64, 64), (100, 256, 32, 256), (256, 64, 256, 256), (16, 1, 256, 2048),
                               (16, 32, 512, 2048), (300, 1, 32, 32), (30, 4, 16, 16))  # fmt: skip


def main() -> None:
    options = arguments(__doc__)
    print(machine_line())
    base: Shape = (50, 8, 32, 32) if options.quick else (128, 16, 128, 128)
    top = 2 if options.quick else 4
    rows: list[dict[str, Any]] = []
    for what, axes in (("T", (0,)), ("B", (1,)), ("H", (2, 3))):
        for n in range(-1, top):
            shape = tuple(int(s * 2.0**n) if d in axes else s for d, s in enumerate(base))
            rows.append(measure("lstm", shape, "train", options.repeats) | {"what": what})  # type: ignore[arg-type]
    columns = ("what", "shape", "lax.scan", "rnnjax", "ratio", "floor", "of floor")
    print_rows(rows, columns, "naive LSTM, training step, milliseconds")
    print_bar("share of the floor, mean", [r["of floor"] for r in rows], SHARE)
    shapes = EXTREMES[-2:] if options.quick else EXTREMES
    far = [measure(cell, s, mode, 5) for mode in ("train", "forward") for cell in ("lstm", "gru") for s in shapes]
    columns = ("cell", "mode", "shape", "lax.scan", "rnnjax", "ratio", "floor", "of floor")
    print_rows(far, columns, "far from the grid, milliseconds")
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

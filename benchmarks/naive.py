"""Question 1: what does `rnnjax.scan` do for a cell that a user wrote, against `jax.lax.scan`?

python benchmarks/naive.py [--quick] [--cells lstm,gru] [--rows 0,1]
"""

from __future__ import annotations

from common import arguments, bars, cells_of, save, shapes_of

from rnnjax.bench import measure, print_rows


def main() -> None:
    options = arguments(__doc__)
    rows = []
    for mode in options.modes.split(","):
        for cell in cells_of(options, ("lstm", "gru", "elman", "odd")):
            rows += [measure(cell, shape, mode, options.repeats) for shape in shapes_of(options)]
        columns = ("cell", "shape", "lax.scan", "rnnjax", "ratio")
        print_rows([r for r in rows if r["mode"] == mode], columns, f"naive cells, {mode}, milliseconds")
    save("naive", rows, options)
    bars("naive", [r for r in rows if r["mode"] == "train"], "training step: times as fast as lax.scan", options)


if __name__ == "__main__":
    main()

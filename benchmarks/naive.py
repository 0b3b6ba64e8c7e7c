"""Question 1: what does `rnnjax.scan` do for a cell that a user wrote, against `jax.lax.scan`, and how near is it to the floor?

    python benchmarks/naive.py [--quick] [--cells lstm,gru] [--rows 0,1] [--runs 3] [--no-kernels]

`floor`: the row's products alone at the rates measured beside it (benchmarks/floor.py); `of floor`: the share reached.
`kernels`: what XLA starts per time step, rnnjax / lax.scan (benchmarks/kernels.py); 0 where a whole loop is one kernel. With
`--runs 3` every row is measured three times, far apart, and its run with the median ratio is what counts: not below 1.0 where
that is at least 0.97.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import jax
from common import SLOWER, arguments, bars, cells_of, machine_line, medians, print_bar, runs_argument, save, shapes_of
from floor import floor_ms, pieces
from kernels import per_step

from rnnjax.bench import Shape, assert_equal, geometric_mean, make_problem, make_step, print_rows, stopwatch, take_turns
from rnnjax.engine import scan

PAPERS = ("lstm", "gru", "elman")  # what the bars are about; the cell "odd" is measured beside them
SHARE = 0.7  # of the floor, in the mean


def measure(cell: str, shape: Shape, mode: str, repeats: int, count: bool = False) -> dict[str, Any]:
    """One row: `lax.scan`, `rnnjax.scan` and the pieces of the floor, all taking turns."""
    args = make_problem(cell, shape)
    sides = {"lax.scan": make_step(cell, jax.lax.scan, mode), "rnnjax": make_step(cell, scan, mode)}
    assert_equal(sides, args)
    turns = {name: stopwatch(f, *args) for name, f in sides.items()} | pieces(cell, shape, mode)
    ms = {name: median(times) for name, times in take_turns(turns, repeats).items()}
    floor = floor_ms(cell, shape, mode, ms)
    row = {"cell": cell, "shape": list(shape), "mode": mode, **ms, "floor": floor, "of floor": floor / ms["rnnjax"]}
    if count:
        found = [per_step(sides[name], args, shape[0]) for name in ("rnnjax", "lax.scan")]
        row |= {"kernels": " / ".join(f"{n:.0f}" for n in found), "kernels per step": found}
    return row | {"ratio": ms["lax.scan"] / ms["rnnjax"]}


def verdicts(rows: list[dict[str, Any]], mode: str) -> None:
    """The means of one mode beside the bars of the project."""
    rows = [r for r in rows if r["mode"] == mode]
    print_bar(f"{mode}: share of the floor, mean", [r["of floor"] for r in rows], SHARE)
    some = [r for r in rows if r["cell"] in PAPERS]
    ratio = lambda rows: [r["ratio"] for r in rows]
    if mode == "train":
        print_bar("train: lax.scan / rnnjax, geometric mean (lstm, gru, elman)", ratio(some), 2.0)
        print_bar("train: the same for B <= 8", ratio([r for r in some if r["shape"][1] <= 8]), 2.5)
    if odd := ratio([r for r in rows if r["cell"] not in PAPERS]):
        print(f"{mode}: the cell of no paper: {geometric_mean(odd):.2f}")
    print_bar(f"{mode}: the worst row", ratio(rows), SLOWER, worst=True)
    for r in rows:
        if r["ratio"] < SLOWER:
            print(f"  below 1: {r['cell']} {tuple(r['shape'])} {r['ratio']:.3f}, runs {r['runs']['ratio']}")


def main() -> None:
    plain = lambda parser: parser.add_argument(
        "--no-kernels", action="store_true", help="count no kernels: half the compiling"
    )
    options = arguments(__doc__, runs_argument, plain)
    print(machine_line())
    modes, cells = options.modes.split(","), cells_of(options, (*PAPERS, "odd"))
    wanted = [(cell, shape, mode) for mode in modes for cell in cells for shape in shapes_of(options)]
    every = []
    for n in range(options.runs):
        count = n == 0 and not options.no_kernels
        every.append([measure(*row, options.repeats, count) for row in wanted])
    counts = [{k: row[k] for k in row if k.startswith("kernels")} for row in every[0]]
    rows = [row | found for row, found in zip(medians(every, ("ratio", "of floor", "lax.scan", "rnnjax")), counts)]
    columns = ("cell", "shape", "lax.scan", "rnnjax", "ratio", "floor", "of floor", "kernels")
    for mode in modes:
        title = f"naive cells, {mode}, milliseconds, runs: {options.runs}"
        print_rows([r for r in rows if r["mode"] == mode], columns, title)
        verdicts(rows, mode)
    save("naive", rows, options)
    bars("naive", [r for r in rows if r["mode"] == "train"], "training step: times as fast as lax.scan", options)


if __name__ == "__main__":
    main()

"""Question 6: what do all cores give? One training step of one batch over N CPU devices, against one device and the limit.

    python benchmarks/cores.py [--builtin] [--devices 2] [--quick] [--cells lstm] [--rows 1,2] [--runs 3] [--no-limit]

lax.scan, rnnjax   the whole batch on one device
explicit           the user's plain code, the batch split over `jax.make_mesh` as it comes
automatic          the same over a mesh with automatic axes
shard_map          by hand: each device its part, loss and gradient summed once, as one vector
make_step          `rj.train.make_step(mesh=...)`, the update included
limit              N processes, each pinned to a core, each with 1/N of the batch, no word between them; all at once, and in
                   turn with the other sides

All give the same gradient before anything is timed. `of limit` is limit / explicit; `ratio` is lax.scan / explicit.
With `--builtin` the built-in cells, against torch, which uses all cores: `ratio` is torch / explicit (without torch: one
device / explicit).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import sharded
from common import SLOWER, arguments, bars, cells_of, machine_line, medians, print_bar, runs_argument, save, shapes_of
from jax.sharding import AxisType
from peers import torch
from team import Team

from rnnjax.bench import Shape, assert_equal, print_rows, stopwatch, take_turns

GAIN = 1.2  # where the limit is so many times as fast as one device there is something to be had
MESHES = ("explicit", "automatic", "shard_map", "make_step")


def sides_of(what: tuple) -> tuple[dict[str, sharded.Run], dict[str, Any]]:
    """(what to time, by name; what each gives as (loss, gradient)). what: as for `sharded.problem`."""
    cell, shape, _, builtin = what
    loss, args = sharded.problem(*what)
    sides = {} if builtin else {"lax.scan": sharded.compiled(*sharded.problem(cell, shape, "lax.scan"))}
    sides["rnnjax"] = sharded.compiled(loss, args)
    sides["explicit"] = sharded.plain(loss, args, AxisType.Explicit)
    sides["automatic"] = sharded.plain(loss, args, AxisType.Auto)
    sides["shard_map"] = sharded.by_hand(loss, args)
    answers = {name: run() for name, run in sides.items()}
    if sharded.trains_on_a_mesh():
        sides["make_step"] = sharded.trained(loss, args)
        answers["make_step"] = sharded.trained_gradient(loss, args)
    return sides, answers


def check(answers: dict[str, Any]) -> None:
    """All (loss, gradient) are equal, wherever they lie."""
    here = {name: jax.device_get(answer) for name, answer in answers.items()}
    assert_equal({name: (lambda a=a: a) for name, a in here.items()}, ())


def torch_side(cell: str, shape: Shape) -> dict[str, sharded.Run]:
    """The same cell in torch, where it is installed."""
    loss, args = sharded.problem(cell, shape, "rnnjax", True)
    try:
        f = torch(sharded.BUILTIN[cell](shape[3]), args.params, "train")
    except ImportError as missing:
        print(f"torch: not installed ({missing.name})")
        return {}
    check({"rnnjax": loss(*args), "torch": f(args.xs, args.up)[0]})  # torch names and splits its weights in its own way
    return {"torch": lambda: f(args.xs, args.up)}


def measure(cell: str, shape: Shape, options: Any, team: Team | None) -> dict[str, Any]:
    """One row: all sides and the team, taking turns."""
    what = (cell, shape, "rnnjax", options.builtin)
    sides, answers = sides_of(what)
    sides |= torch_side(cell, shape) if options.builtin else {}
    turns = {name: stopwatch(run, settle="torch" in sides) for name, run in sides.items()}
    if team:
        parts = team.prepare(sharded.part, *what)
        answers["limit"] = jax.tree.map(lambda *a: sum(a), *parts)
        turns["limit"] = team.turn if "torch" not in sides else settled(team.turn)
    check(answers)
    ms = {name: median(times) for name, times in take_turns(turns, options.repeats).items()}
    return {"cell": cell, "shape": list(shape), "mode": "train", "devices": jax.device_count(), **ms, **shares(ms)}


def settled(turn: Callable[[], float]) -> Callable[[], float]:
    """A turn that runs once untimed first, as `stopwatch(settle=True)` does."""
    return lambda: (turn(), turn())[1]


def shares(ms: dict[str, float]) -> dict[str, float]:
    """What a row's milliseconds come to."""
    rival = ms.get("torch", ms.get("lax.scan", ms["rnnjax"]))
    found = {"ratio": rival / ms["explicit"], "two to one": ms["rnnjax"] / ms["explicit"]}
    found["best ratio"] = rival / min(ms["rnnjax"], ms["explicit"])  # what a chooser between the two would have
    if "limit" in ms:
        found |= {"gain": ms["rnnjax"] / ms["limit"], "of limit": ms["limit"] / ms["explicit"]}
        found |= {f"of limit: {name}": ms["limit"] / ms[name] for name in MESHES if name in ms}
    return found


def verdicts(rows: list[dict[str, Any]]) -> None:
    """The means beside the bars of the project, for naive cells."""
    column = lambda name, rows: [r[name] for r in rows if name in r]
    some = [r for r in rows if r.get("gain", 0) >= GAIN]
    print(f"rows where the limit is {GAIN} times as fast as one device: {len(some)} of {len(rows)}")
    for name in MESHES:
        print_bar(f"of the limit, {name}, mean over those", column(f"of limit: {name}", some), 0.8)
    print_bar("lax.scan on one device / explicit, mean over those", column("ratio", some), 2.0)
    print_bar("lax.scan on one device / explicit, mean over all rows", column("ratio", rows), 2.0)
    print_worst("lax.scan on one device / explicit", "ratio", rows)
    print_worst("rnnjax on one device / explicit", "two to one", rows)


def verdicts_builtin(rows: list[dict[str, Any]]) -> None:
    """The same for built-in cells against torch."""
    for cell, bar in (("lstm", 1.3), ("gru", 3.0)):
        mine = [r for r in rows if r["cell"] == cell and "torch" in r]
        print_bar(f"{cell}: torch / explicit, mean", [r["ratio"] for r in mine], bar)
        print_bar(f"{cell}: torch / the better of one device and explicit, mean", [r["best ratio"] for r in mine], bar)
        print_worst(f"{cell}: torch / the better of the two", "best ratio", mine)


def print_worst(what: str, name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        worst = min(rows, key=lambda r: r[name])
        where = f"{worst['cell']} {tuple(worst['shape'])}"
        print_bar(f"{what}, the worst row, {where}", [worst[name]], SLOWER)


def fitting(shapes: tuple[Shape, ...], devices: int) -> list[Shape]:
    """The rows with a batch to split: B >= 8, and the devices divide it."""
    return [s for s in shapes if s[1] >= 8 and s[1] % devices == 0]


def extra(parser: Any) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--devices", type=int, default=cores, help="CPU devices, and processes of the limit")
    parser.add_argument("--builtin", action="store_true", help="the built-in cells, against torch")
    parser.add_argument("--no-limit", action="store_true", help="no pinned processes")


def main() -> None:
    options = arguments(__doc__, runs_argument, extra)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.devices)
    print(f"{machine_line()}; {jax.device_count()} devices")
    name = "cores-builtin" if options.builtin else "cores"
    wanted = [(c, s) for c in cells_of(options, ("lstm", "gru")) for s in fitting(shapes_of(options), options.devices)]
    with contextlib.nullcontext() if options.no_limit else Team(options.devices) as team:
        every = [[measure(*row, options, team) for row in wanted] for _ in range(options.runs)]
    rows = medians(every, [k for k, v in every[0][0].items() if isinstance(v, float)])
    sides = ("lax.scan", "rnnjax", *MESHES, "limit", "torch")
    columns = ("cell", "shape", *(s for s in sides if s in rows[0]), "gain", "of limit", "ratio")
    print_rows(rows, columns, f"{name}: training step, milliseconds, runs: {options.runs}")
    (verdicts_builtin if options.builtin else verdicts)(rows)
    save(name, rows, options)
    bars(name, rows, f"times as fast as {'torch' if options.builtin else 'lax.scan on one device'}", options)


if __name__ == "__main__":
    main()

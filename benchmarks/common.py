"""What all benchmark scripts share: arguments, the record of the machine, medians of runs, JSON and plots.

Timing itself stands in `rnnjax.bench`: `take_turns` and `stopwatch`, which `rnnjax bench` uses too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import jax

from rnnjax.bench import GRID, QUICK, Shape, geometric_mean

RESULTS = Path(__file__).parent / "results"
SLOWER = 0.97  # a row counts as not below 1.0 where the median of its runs is at least this: lax.scan against itself varies so much
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def arguments(doc: str | None, *extra: Callable[[argparse.ArgumentParser], Any]) -> argparse.Namespace:
    """The arguments of every script, and `extra` ones: functions that add to the parser."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes, seconds instead of minutes")
    parser.add_argument("--repeats", type=int, default=9, help="timings of each side; the median counts")
    parser.add_argument("--cells", default="", help="only these, comma separated")
    parser.add_argument("--rows", default="", help="only these rows of the grid, comma separated, from 0")
    parser.add_argument("--modes", default="train,forward", help="train, forward or both")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON and the plot")
    for add in extra:
        add(parser)
    return parser.parse_args()


def runs_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=int, default=1, help="measure all rows so many times; the run with the median ratio counts"
    )


def shapes_of(options: argparse.Namespace) -> tuple[Shape, ...]:
    grid = QUICK if options.quick else GRID
    return tuple(grid[int(n)] for n in options.rows.split(",")) if options.rows else grid


def cells_of(options: argparse.Namespace, default: Sequence[str]) -> Sequence[str]:
    return options.cells.split(",") if options.cells else default


def machine() -> dict[str, Any]:
    """Device, versions and settings that the numbers depend on."""
    names = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "torch", "keras")
    versions = {name: metadata.version(name) for name in names if installed(name)}
    flags = os.environ.get("XLA_FLAGS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"device": str(jax.devices()[0]), "cpu": processor(), "cores": cores, "caches": caches(),
            "python": platform.python_version(), "versions": versions, "flags": flags}  # fmt: skip


def machine_line() -> str:
    """The machine in one line, for the head of a table."""
    found = machine()
    kib = ", ".join(f"{name} {size // 1024} KiB" for name, size in found["caches"].items())
    where = "" if jax.default_backend() == "cpu" else f"; {jax.devices()[0].device_kind}"
    return f"{found['cpu']}, {found['cores']} cores, {kib or 'caches unknown'}; JAX {jax.__version__}{where}"


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def processor() -> str:
    """The processor's name, and its family and model where the name alone says little."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = found.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {found['cpu family']}, model {found['model']})" if "cpu family" in found else name


def caches() -> dict[str, int]:
    """Bytes of each data cache as the system reports it, by name; empty where it does not."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]]
    return found or caches_by_lscpu()


def caches_by_lscpu() -> dict[str, int]:
    """The same from `lscpu`, which knows them on some machines that hide them in /sys."""
    try:
        out = subprocess.run(
            ["lscpu", "-B", "-C=NAME,ONE-SIZE,TYPE"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    rows = [line.split() for line in out.splitlines()[1:]]
    return {name.rstrip("d"): int(size) for name, size, kind in rows if kind != "Instruction"}


def medians(runs: Sequence[Sequence[dict[str, Any]]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Row by row the run whose `ratio` is the median one, with every run's value of `keys` beside it.

    >>> medians([[{"ratio": 1.0}], [{"ratio": 3.0}], [{"ratio": 2.0}]], ["ratio"])
    [{'ratio': 2.0, 'runs': {'ratio': [1.0, 3.0, 2.0]}, 'not below 1': True}]
    """
    rows = []
    for same in zip(*runs, strict=True):
        middle = sorted(same, key=lambda row: row["ratio"])[len(same) // 2]
        every = {key: [row[key] for row in same] for key in keys}
        holds = median(row["ratio"] for row in same) >= SLOWER
        rows.append({**middle, "runs": every, "not below 1": holds})
    return rows


def print_bar(what: str, values: Sequence[float], bar: float, *, worst: bool = False, most: bool = False) -> bool:
    """Prints a mean (or the worst) of ratios beside the bar it must reach (`most`: must not pass). Nothing without values.

    >>> print_bar("mean", [1.0, 4.0], 2.5)
    mean: 2.00   bar 2.5, missed
    False
    """
    if not values:
        return True
    value = (max(values) if most else min(values)) if worst else geometric_mean(values)
    holds = value <= bar if most else value >= bar
    print(f"{what}: {value:.2f}   bar {bar:g}, {'reached' if holds else 'missed'}")
    return holds


def save(name: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> Path:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}{'-quick' if options.quick else ''}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    return path


def bars(name: str, rows: list[dict[str, Any]], label: str, options: argparse.Namespace) -> None:
    """One bar of `ratio` per row, coloured by cell."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(9, 0.28 * len(rows) + 1.2), layout="constrained")
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    names = [f"{row['cell']}  {tuple(row['shape'])}" for row in rows]
    ax.barh(names, [row["ratio"] for row in rows], color=[f"C{cells.index(row['cell'])}" for row in rows])
    ax.axvline(1.0, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.set_xlabel(label)
    save_figure(fig, name, options)


def save_figure(fig: Any, name: str, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    fig.savefig(options.out / f"{name}{'-quick' if options.quick else ''}.png", dpi=110)

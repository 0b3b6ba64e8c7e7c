"""What all benchmark scripts share: arguments, the record of the machine, JSON and plots."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from rnnjax.bench import GRID, QUICK, Shape

RESULTS = Path(__file__).parent / "results"


def arguments(doc: str | None) -> argparse.Namespace:
    """`--quick`, `--repeats`, `--cells`, `--out`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes, seconds instead of minutes")
    parser.add_argument("--repeats", type=int, default=9, help="timings of each side; the median counts")
    parser.add_argument("--cells", default="", help="only these, comma separated")
    parser.add_argument("--rows", default="", help="only these rows of the grid, comma separated, from 0")
    parser.add_argument("--modes", default="train,forward", help="train, forward or both")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON and the plot")
    return parser.parse_args()


def shapes_of(options: argparse.Namespace) -> tuple[Shape, ...]:
    grid = QUICK if options.quick else GRID
    return tuple(grid[int(n)] for n in options.rows.split(",")) if options.rows else grid


def cells_of(options: argparse.Namespace, default: Sequence[str]) -> Sequence[str]:
    return options.cells.split(",") if options.cells else default


def machine() -> dict[str, Any]:
    """Device, versions and settings that the numbers depend on."""
    names = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "torch", "keras")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    flags = os.environ.get("XLA_FLAGS", "")
    return {"device": str(jax.devices()[0]), "cpu": cpu, "cores": os.cpu_count(), "versions": versions, "flags": flags}


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

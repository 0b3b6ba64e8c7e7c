"""The pictures of a run: its losses over the steps, and which classes it mixes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw_losses(history: list[dict[str, Any]], unit: str, baselines: dict[str, float], path: Path) -> bool:
    """Training and held-out numbers with the baselines as lines; False, and nothing drawn, without matplotlib."""
    try:
        from matplotlib.figure import Figure  # without pyplot: needs no display and leaves no global state
    except ImportError:
        return False
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    for label, valid in (("training", False), ("held out", True)):
        lines = [line for line in history if (line.get("split") == "valid") == valid and unit in line]
        lines = [line for line in lines if not line.get("kept")]
        axes.plot([a["step"] for a in lines], [a[unit] for a in lines], marker="o" if valid else None, label=label)
    for i, (name, value) in enumerate(baselines.items()):
        axes.axhline(value, linestyle="--", linewidth=1, color=f"C{i + 2}", label=name)
    axes.set(xlabel="step", ylabel=unit.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    return True


def confusion_table(counts: np.ndarray, classes: list[str], most: int = 12) -> str:
    """Counts ``[classes, classes]`` as lines: what it is down, what the network says across; the largest classes where many.

    >>> print(confusion_table(np.array([[5, 1], [0, 12]]), ["no", "yes"]))
    is \\ said  no  yes
            no   5    1
           yes   0   12
    """
    shown = np.sort(np.argsort(-counts.sum(1), kind="stable")[:most])
    names = [_short(classes[i]) for i in shown]
    corner = "is \\ said"
    first = max(len(corner), *map(len, names))
    widths = [max(len(name), len(str(counts[:, i].max()))) for name, i in zip(names, shown)]
    line = lambda head, cells: f"{head:>{first}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(cells, widths))
    rows = [line(corner, names)] + [line(name, counts[i, shown]) for name, i in zip(names, shown)]
    more = [f"({len(classes) - most} smaller classes are not shown)"] if len(classes) > most else []
    return "\n".join(rows + more)


def draw_confusion(counts: np.ndarray, classes: list[str], path: Path) -> bool:
    """Shares of each class as a picture, with the counts where they can be read; False, and nothing drawn, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    size = min(3 + 0.45 * len(classes), 14)
    axes = (figure := Figure(figsize=(size + 1, size), layout="constrained")).subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (i, j), count in np.ndenumerate(counts if len(classes) <= 20 else np.zeros((0, 0))):
        axes.text(j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    names = [_short(name) for name in classes]
    axes.set(xlabel="the network says", ylabel="it is")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    figure.colorbar(picture, label="share of the row")
    figure.savefig(path, dpi=120)
    return True


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"

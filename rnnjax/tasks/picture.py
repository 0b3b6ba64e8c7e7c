"""The table of results as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnnjax.tasks.listing import recipes

TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
LEAST = 1e-4  # an error of nothing is drawn as this
MISSING = 'the picture of the results is drawn by matplotlib, which is not installed; pip install "rnnjax[plot]"'


def ratio(run: dict[str, Any]) -> float:
    """Ours over the floor, below 1 where ours is better: of errors, of what shares miss to 1, upside down where more than 1 can be reached.

    >>> ratio({"better": "lower", "floor": 2.0, "ours": 1.5}), ratio({"better": "higher", "floor": 0.5, "ours": 0.75})
    (0.75, 0.5)
    >>> ratio({"better": "higher", "floor": 100.0, "ours": 400.0})
    0.25
    """
    floor, ours = run["floor"], run["ours"]
    if run["better"] == "higher":
        floor, ours = (1 - floor, 1 - ours) if max(floor, ours) <= 1 else (1 / floor, 1 / ours)
    return max(ours, LEAST) / max(floor, LEAST)


def rows(content: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    """For each task that was run, longer runs apart: its name, its numbers in words, and the `ratio` of every seed."""
    found = []
    for name, full in [(name, full) for name in recipes() for full in (False, True)]:
        runs = [r for r in content["runs"] if r["task"] == name and r["full"] == full]
        if runs:
            mean = lambda what: sum(run[what] for run in runs) / len(runs)
            words = f"{recipes()[name].metric}: floor {mean('floor'):.4g}, ours {mean('ours'):.4g}"
            ratios = [ratio(run) for run in runs]
            found.append((f"{name}{' --full' if full else ''}", words, ratios))
    return found


def draw(content: dict[str, Any], path: Path) -> None:
    """A row a task: the mean over seeds, a bar from the least to the most, and the floor as a line at 1. Raises: ImportError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(MISSING) from None
    found = rows(content)
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="0.4", linestyle="--", linewidth=1)
    for y, (_, words, ratios) in enumerate(found):
        mean = sum(ratios) / len(ratios)
        colour = "tab:blue" if mean < 1 else "tab:red"
        axes.plot([mean, 1], [y, y], color=colour, linewidth=1)
        axes.plot([min(ratios), max(ratios)], [y, y], color=colour, linewidth=4, alpha=0.4, solid_capstyle="butt")
        axes.plot(ratios, [y] * len(ratios), "|", color=colour, markersize=8)
        axes.plot(mean, y, "o", color=colour)
        axes.annotate(
            words, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False
        )
    axes.set_yticks(range(len(found)), [name for name, _, _ in found])
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [tick for tick in TICKS if tick >= 0.7 * min(min(ratios) for _, _, ratios in found)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("error left, as a multiple of the floor's (below 1: beaten)")
    axes.set_title("What the recipes reach on their test splits; a tick for each seed", loc="left", fontsize=10)
    figure.savefig(path, dpi=100)

"""The progress line of a run, drawn by rich on standard error when that is a terminal."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """``with Progress(steps, shown) as progress:`` then ``progress.at(step, line)`` with the newest metrics line."""

    def __init__(self, steps: int, shown: bool | None = None):
        self._bar: Any = None
        if sys.stderr.isatty() if shown is None else shown:
            self._bar, self._task = _bar(steps)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, step: int, line: dict[str, Any] | None = None) -> None:
        """Moves the bar to ``step``; a new metrics line changes the words beside it."""
        if self._bar is None:
            return
        self._bar.update(self._task, completed=step)
        if line is not None:
            unit, number = _newest(line)
            which = "valid" if line.get("split") == "valid" else "train"
            self._bar.update(self._task, **{which: number, "unit": unit})


def _newest(line: dict[str, Any]) -> tuple[str, str]:
    """The unit and the number of a metrics line, the most telling one first."""
    for name in ("bits_per_char", "mse", "accuracy", "loss"):
        if line.get(name) is not None:
            return name.replace("_", " "), f"{line[name]:.3f}"
    return "loss", "not finite"


def _bar(steps: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    words = TextColumn("{task.fields[unit]} {task.fields[train]}, held out {task.fields[valid]}")
    bar = Bar(BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), words, console=Console(stderr=True))
    return bar, bar.add_task("", total=steps, unit="loss", train="-", valid="-")

"""The metrics file of a run: one JSON object a line, appended as the run goes, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


class Metrics:
    """Lines kept in memory (``history``) and, if ``path`` is given, in a file.

    `size` is what a checkpoint remembers: lines written after it are cut off by `resume`, since the steps behind them
    run again.
    """

    def __init__(self, path: str | Path | None = None):
        self.history: list[dict[str, Any]] = []
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.write_text("")

    @classmethod
    def resume(cls, path: str | Path | None, lines: int, write: bool = True) -> Metrics:
        """Opens an existing file and keeps its first ``lines`` lines; without ``write`` in memory only.

        Raises: ValueError if it has fewer, or if one of them is no JSON.
        """
        metrics = cls()
        if path is None:
            return metrics
        kept = Path(path).read_bytes().split(b"\n")[:lines]
        if len(kept) < lines:
            raise ValueError(f"{path} has {len(kept)} lines, the checkpoint was written after {lines}; was it edited?")
        metrics.history = [json.loads(line) for line in kept]
        if not write:
            return metrics
        metrics.path = Path(path)
        with metrics.path.open("rb+") as file:
            file.truncate(sum(len(line) + 1 for line in kept))
        return metrics

    @property
    def size(self) -> int:
        """Number of lines so far."""
        return len(self.history)

    def write(self, line: dict[str, Any]) -> None:
        """Appends one line and hands it to the operating system at once."""
        line = {name: _plain(value) for name, value in line.items()}
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.history.append(line)


def _plain(value: Any) -> Any:
    """NaN and infinities are no JSON: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

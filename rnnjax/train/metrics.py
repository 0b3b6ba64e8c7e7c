"""The metrics file of a run: one JSON object a line, appended as the run goes, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from rnnjax.train.digest import Damaged


class Metrics:
    """Lines kept in memory (``history``) and, if ``path`` is given, in a file.

    `size` is what a checkpoint remembers: lines written after it are cut off by `resume`, since the steps behind them
    run again.
    """

    def __init__(self, path: str | Path | None = None):
        self.history: list[dict[str, Any]] = []
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.write_bytes(b"")

    @classmethod
    def resume(cls, path: str | Path | None, lines: int, write: bool = True) -> Metrics:
        """Opens an existing file and keeps its first ``lines`` lines; without ``write`` in memory only.

        Raises: Damaged if it has fewer, or if one of them is not what `write` writes.
        """
        metrics = cls()
        if path is None:
            return metrics
        kept = Path(path).read_bytes().splitlines()[:lines]
        if len(kept) < lines:
            raise Damaged(
                f"{path} has {len(kept)} lines, the checkpoint was written after {lines}; was it edited? Put it back, or "
                "train anew"
            )
        metrics.history = parsed(kept, path)
        if not write:
            return metrics
        metrics.path = Path(path)
        with metrics.path.open("rb+") as file:
            whole = b"".join(line + b"\n" for line in kept)  # the end of the last may have been torn off
            file.truncate(file.write(whole))
        return metrics

    @property
    def size(self) -> int:
        """Number of lines so far."""
        return len(self.history)

    def write(self, line: dict[str, Any]) -> None:
        """Appends one line and hands it to the operating system at once."""
        line = {name: _plain(value) for name, value in line.items()}
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
        self.history.append(line)

    def sync(self) -> None:
        """Waits until all lines are on the disk: a checkpoint that counts them may be there after the power has gone."""
        if self.path is not None:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def read(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; what a kill left of a last one is none. Raises: Damaged, OSError."""
    lines = Path(path).read_bytes().splitlines(keepends=True)
    return parsed([line for line in lines if line.endswith(b"\n")], path)


def parsed(lines: list[bytes], path: str | Path) -> list[dict[str, Any]]:
    """Lines of the file at ``path`` as objects. Raises: Damaged naming the first that is none."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            found.append(None)
        if not isinstance(found[-1], dict) or "step" not in found[-1]:
            raise Damaged(f"line {number} of {path} is not what was written; put the file back, or train anew")
    return found


def _plain(value: Any) -> Any:
    """NaN and infinities are no JSON: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

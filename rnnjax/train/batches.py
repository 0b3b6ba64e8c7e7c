"""Where `fit` gets its batches from: a function of the step, a list, or anything that can be iterated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def by_step(batches: Any) -> Callable[[int], Any]:
    """``batches`` as a function of the step number. Raises: TypeError for a single batch, ValueError for an empty list."""
    if callable(batches):
        return batches
    if isinstance(batches, list):
        if not batches:
            raise ValueError(
                "fit: batches must be a function of the step or hold one or more batches, got an empty list"
            )
        return lambda step: batches[step % len(batches)]
    if isinstance(batches, (tuple, Mapping, str)) or hasattr(batches, "shape") or not isinstance(batches, Iterable):
        raise TypeError(
            f"fit: batches must be a function batches(step), a list of batches or an iterable of them, got "
            f"{type(batches).__name__}; for one batch at every step write batches=[batch]"
        )
    return _Stream(batches)


class _Stream:
    """An iterable read in order: what comes before the step asked for is read and left out, as when a run is resumed."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches, self.source, self.read = batches, iter(batches), 0

    def __call__(self, step: int) -> Any:
        if step < self.read:
            raise ValueError(
                f"fit: batches was read up to step {self.read} and cannot go back to {step}; pass a fresh one"
            )
        while self.read < step:
            self._next()
        return self._next()

    def _next(self) -> Any:
        for _ in range(2):
            for batch in self.source:
                self.read += 1
                return batch
            if isinstance(self.batches, Iterator):
                break
            self.source = iter(self.batches)
        raise ValueError(
            f"fit: batches ended after {self.read} steps; pass fewer steps, or a list or a function batches(step), which do not end"
        )

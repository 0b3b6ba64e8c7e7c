"""Several processes of one program (`jax.distributed`): what they tell each other beside the training step itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

OFTEN = 0.5  # seconds between two questions whether any process was asked to stop
WORDS = 16  # of 4 bytes, in which a fact is compared


def several() -> bool:
    """Whether this program runs in more than one process."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def together(name: str) -> None:
    """Waits until every process is here."""
    if several():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def gather(words: Any) -> np.ndarray:
    """``[processes, n]``: the unsigned 32-bit words of every process, on every process."""
    words = np.asarray(words, np.uint32)
    if not several():
        return words[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(words)).reshape(jax.process_count(), -1)


def of_first(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that process 0 has, to the last bit, on every process: decisions hang on them."""
    if not several():
        return dict(numbers)
    words = gather(np.array([*numbers.values()], np.float64).view(np.uint32))[0]
    return dict(zip(numbers, words.view(np.float64).tolist(), strict=True))


def same(who: str, **facts: str) -> None:
    """Raises: ValueError on every process, naming the first fact that is not the same on all.

    >>> same("train", jax="0.12.0")
    """
    for name, fact in facts.items():
        said = [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in gather(_words(fact))]
        other = next((i for i, value in enumerate(said) if value != said[0]), None)
        if other is not None:
            raise ValueError(
                f"{who}: {name} is {said[0]} in process 0 and {said[other]} in process {other}; start all of them alike"
            )


def texts(text: str) -> list[str]:
    """A short text of every process, on every process."""
    rows = gather(np.frombuffer(text.encode()[:1024].ljust(1024, b"\0"), np.uint32))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


def _words(fact: str) -> np.ndarray:
    raw = fact.encode()
    if len(raw) > 4 * WORDS:  # too long to be told whole: its beginning and a digest
        raw = raw[: 3 * WORDS] + b" " + hashlib.sha256(raw).hexdigest()[: WORDS - 1].encode()
    return np.frombuffer(raw.ljust(4 * WORDS, b"\0"), np.uint32)


class Asked:
    """The signal that came to any process, told to all before the same step; for one process, its own."""

    def __init__(self, interrupt: Any) -> None:
        self._interrupt, self._next, self._last, self._at = interrupt, 0, 0.0, 0

    def before(self, step: int) -> int | None:
        """The signal, or None. With several processes the question takes a message, so it is put twice a second."""
        if not several():
            return self._interrupt.asked
        if step < self._next:
            return None
        now = time.monotonic()
        pause = int(OFTEN * (step - self._at) / max(now - self._last, 1e-3)) if self._at < step else 1
        heard = gather([self._interrupt.asked or 0, min(max(pause, 1), 1000)])
        self._last, self._at, self._next = now, step, step + int(heard[0, 1])
        return int(heard[:, 0].max()) or None

"""Ctrl-C as a request: the step at hand is finished, the run is saved, and only one pressed again later breaks off."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
AGAIN = 2.0  # seconds: pressed twice or five times within them is pressed once


class Interrupt:
    """``with Interrupt() as interrupt:`` then look at ``interrupt.asked``, the signal that came, or None; main thread only.

    A further signal after two seconds raises KeyboardInterrupt, unless `saving` was said before. A SIGHUP that is ignored
    (nohup) stays so.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._since = 0.0
        self._saving = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for which in SIGNALS:
                before = signal.getsignal(which)
                if which == signal.SIGINT or before != signal.SIG_IGN:
                    self._before[which] = before
                    signal.signal(which, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def saving(self) -> None:
        """From now on nothing breaks off: what is left to do is short, and done."""
        self._saving = True

    def _ask(self, which: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked, self._since = which, time.monotonic()
        elif not self._saving and time.monotonic() - self._since > AGAIN:
            raise KeyboardInterrupt(which)

"""A checkpoint that cannot be written is one error: what orbax and tensorstore say of it besides is held back, however late."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

LOGGERS = [logging.getLogger(name) for name in ("asyncio", "absl")]
PATIENCE = 2.0  # seconds that orbax' other threads have to end after the first has failed


@contextlib.contextmanager
def only_the_error(redirect: bool) -> Iterator[None]:
    """What fails is raised; tensorstore's threads and orbax' loggers would print tracebacks of their own beside it.

    redirect: standard error is this thread's to redirect; what is written there meanwhile comes afterwards.
    """
    levels, said = [logger.level for logger in LOGGERS], io.StringIO()
    for logger in LOGGERS:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with contextlib.redirect_stderr(said) if redirect else contextlib.nullcontext():
            try:
                yield
            except Exception:
                _wait_for_orbax_threads()
                _hold_back_what_comes_late()
                raise
        sys.stderr.write(said.getvalue())
    finally:
        for logger, level in zip(LOGGERS, levels, strict=True):
            logger.setLevel(level)


def _wait_for_orbax_threads() -> None:
    """Of several that write the arrays the first that fails ends the save; the others are about to."""
    until = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax") and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))


def _hold_back_what_comes_late() -> None:
    """After a failure its echoes come in their own time: futures that nobody asked, callbacks into a loop that is gone."""
    for logger in LOGGERS:
        logger.addFilter(_not_of_orbax)  # a second time it is there already
    before = sys.unraisablehook
    if getattr(before, "__module__", None) == __name__:
        return

    def hook(told: Any) -> None:
        if not (isinstance(told.exc_value, RuntimeError) and str(told.exc_value) == "Event loop is closed"):
            before(told)

    sys.unraisablehook = hook


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Whether what is logged is no error of a checkpoint: those are raised.

    They come through orbax' frames, or, of a future that was still waiting when the save ended, straight from tensorstore:
    native code sets a ValueError that no Python frame has raised.
    """
    if not record.exc_info:
        return True
    error, frames = record.exc_info[1], list(traceback.walk_tb(record.exc_info[2]))
    if not frames:
        return type(error) is not ValueError
    return not any(frame.f_globals.get("__name__", "").startswith("orbax.") for frame, _ in frames)

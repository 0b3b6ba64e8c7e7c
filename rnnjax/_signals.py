"""Signals end the command in one line, from its first moment on: this file is imported before anything heavy.

Where this process is the command (``rnnjax``, ``python -m rnnjax``), Ctrl-C, SIGTERM and SIGHUP end it at once with one line
and status 128 + signal. No exception travels through half imported modules; a thread sees to it where the main one is
deep in a compilation. While there is something to keep, `rnnjax.train.fit` has handlers of its own in place of these. When
nobody reads standard output any more (``rnnjax train | head -1``), the command ends with status 0.

Where this process is not the command, nothing here does anything.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from types import FrameType
from typing import Any

SAYS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
if hasattr(signal, "SIGHUP"):
    SAYS[signal.SIGHUP] = "ended by SIGHUP"
AGAIN = 2.0  # seconds after which a further signal is another one, not the same pressed twice
GRACE = 2.0  # seconds that the main thread has to end at such a one

remove_on_leave: set[str] = set()  # files that are nothing once this process has gone
received: list[int] = []  # what came while this process was the command
_taken: list[float] = []  # when signals came that another handler took, such as that of `rnnjax.train.fit`
_leaving: dict[str, int] = {}  # the thread that ends the process, and where it has the last word


def is_the_command(argv: list[str], original: list[str]) -> bool:
    """Whether Python was started for the command.

    >>> is_the_command(["-m", "train"], ["python", "-m", "rnnjax", "train"]), is_the_command(["/bin/rnnjax"], ["python"])
    (True, True)
    >>> is_the_command(["-m", "rnnjax"], ["python", "-m", "pytest", "rnnjax"]), is_the_command([""], ["python"])
    (False, False)
    """
    if argv[:1] == ["-m"]:  # as it is while the package of `python -m PACKAGE` is imported
        called = next((i for i, word in enumerate(original) if word.startswith("-") and word.endswith("m")), -1)
        return "-mrnnjax" in original or original[called + 1 : called + 2] == ["rnnjax"]
    return os.path.basename(argv[0] if argv else "") in ("rnnjax", "rnnjax.exe", "rnnjax-script.py")


def watch() -> None:
    """Takes the signals over, but for a SIGHUP that is ignored, as under nohup."""
    _fill_the_standard_streams()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for which in SAYS:
        if which == signal.SIGINT or signal.getsignal(which) != signal.SIG_IGN:
            signal.signal(which, _at_once)
    signal.set_wakeup_fd(ours.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(theirs,), daemon=True, name="signals").start()


def _fill_the_standard_streams() -> None:
    """A closed one (``>&-``) lends its number to the next file that is opened, and what is said would go into that file."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            free = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(free, True)
            if number:
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))


def over(status: int) -> None:
    """The command has done its work: one that did not go well leaves here, another ends undisturbed."""
    if not watching():
        return
    if status:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        leave(status)
    _hear_no_more()


def watching() -> bool:
    """Whether this process is the command and its signals are ours."""
    return any(thread.name == "signals" for thread in threading.enumerate())


def leave(status: int, says: str = "") -> None:
    """Ends the process here and now; of several threads that ask, the first does it.

    Which is first is one step that nothing comes in between. A signal may come in the middle of all that follows: its
    handler then does the rest, until signals are heard no more.
    """
    if _leaving.setdefault("thread", threading.get_ident()) != threading.get_ident():
        while True:
            time.sleep(1.0)
    _hear_no_more()
    for path in [*remove_on_leave]:
        with contextlib.suppress(OSError):
            os.unlink(path)
    if says:
        with contextlib.suppress(OSError):  # the terminal may be gone
            to = _alone()
            shown = "\x1b[?25h\n" if os.isatty(to) else ""  # a progress line hides the cursor
            os.write(to, f"{shown}rnnjax: {says}\n".encode())
    os._exit(status)


def _alone() -> int:
    """Where standard error went: a thread of JAX's runtime that has a last word of its own says it to nobody."""
    with contextlib.suppress(OSError):  # too many open files
        if "to" not in _leaving:
            _leaving["to"] = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return _leaving.get("to", 2)


def _hear_no_more() -> None:
    """From now on signals are nothing, where handlers run in this thread."""
    if threading.current_thread() is threading.main_thread():
        for which in SAYS:
            signal.signal(which, signal.SIG_IGN)


def _at_once(which: int, frame: FrameType | None) -> None:
    if _taken and time.monotonic() - _taken[0] < AGAIN:
        return  # the same pressed twice: whoever took it is about to end the process
    leave(128 + which, SAYS[signal.Signals(which)])


def _watch(wake: socket.socket) -> None:
    """Reads the signals as they come, whatever the main thread does; and whether a pipe is still read."""
    first, until = None, None
    for which in _events(wake, lambda: until):
        now = time.monotonic()
        if which is None:
            leave(128 + received[-1], SAYS[signal.Signals(received[-1])])
        elif which in SAYS:
            received.append(which)
            if signal.getsignal(which) is _at_once:
                _at_once(which, None)
            elif signal.getsignal(which) != signal.SIG_IGN:
                first = first or now
                _taken.append(now)
                until = now + GRACE if until is None and now - first > AGAIN else until


def _events(wake: socket.socket, until: Any) -> Any:
    """Signals, and None when it is later than ``until()``; ends the process when its pipe has no reader."""
    out = _pipe()
    if not hasattr(select, "poll"):  # Windows: signals only
        while True:
            yield from wake.recv(64)
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    if out is not None:
        poll.register(out, 0)  # POLLERR or POLLHUP: nobody reads it
    while True:
        late = until()
        ready = [fd for fd, _ in poll.poll(None if late is None else max(0.0, late - time.monotonic()) * 1000)]
        if out in ready:
            leave(0)
        yield from wake.recv(64) if ready else (None,)


def _pipe() -> int | None:
    """Standard output where it is a pipe."""
    try:
        return 1 if stat.S_ISFIFO(os.fstat(1).st_mode) else None
    except OSError:  # closed
        return None


if is_the_command(sys.argv, sys.orig_argv):
    watch()

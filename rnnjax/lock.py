"""One at a time: a run in its folder, a download of a file. The kernel releases the lock when its owner ends, however it ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from rnnjax import _signals

LOCK = ".lock"
PAUSE = 0.05  # seconds between two tries to have a lock that another has

# The files that are locked here, and the process: one forked from it has none of them.
_held: dict[tuple[int, int], int] = {}


class Busy(OSError):
    """Another process is writing to the folder."""


class Lock:
    """``with Lock(folder):`` no other process gets it meanwhile. A process that has it gets it again.

    name: of the file in the folder that is locked, and removed when the lock is given back. wait: until it is free,
    in place of an error; then each thread of a process waits for the others too.
    Raises: Busy naming the folder and the process that has it; OSError if the folder cannot be written. Where the system
    knows no such locks (Windows, some network file systems) nothing is locked.
    """

    def __init__(self, folder: str | Path, name: str = LOCK, wait: bool = False):
        self.folder, self.path, self.wait = Path(folder), Path(folder) / name, wait
        self._file: IO[str] | None = None

    def __enter__(self) -> Lock:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = self.path.open("a+", encoding="utf-8")
            try:
                had = _take(file)
            except BlockingIOError:
                if self.wait:
                    file.close()
                    time.sleep(PAUSE)
                    continue
                self._refuse(file)
                return self
            if not had:
                file.close()
                return self
            if _is_still(file, self.path):
                file.write(str(os.getpid()))
                file.flush()
                self._file = file
                _held[_which(file)] = os.getpid()
                _signals.remove_on_leave.add(str(self.path))
                return self
            file.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            _signals.remove_on_leave.discard(str(self.path))
            _held.pop(_which(self._file), None)
            self._file.close()  # and with it the lock

    def _refuse(self, file: IO[str]) -> None:
        """Raises: Busy unless this process itself has the lock. The number in the file may be its own in another container."""
        with file:
            file.seek(0)
            owner, mine = file.read().strip(), _held.get(_which(file)) == os.getpid()
        if not mine:
            raise Busy(
                f"{self.folder} is being written by another run (process {owner or 'unknown'}); wait until it has ended, "
                "or give another folder"
            )


def _which(file: IO[str]) -> tuple[int, int]:
    """The file, whatever it is called."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _is_still(file: IO[str], path: Path) -> bool:
    """Whether the file that was opened lies there: its last owner may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _take(file: IO[str]) -> bool:
    """Whether the lock is had now; False where there are no such locks. Raises: BlockingIOError where another has it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    file.truncate(0)
    return True

"""Before JAX's runtime starts: are all processes there, each once, with one JAX? It would end a late one or a double by abort.

Process 0 listens where the runtime will; each other says who it is in a line of JSON and reads a line, empty or what is wrong.
The connections stay: the kernel closes them when a process dies, however it dies, and so the others hear of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jaxlib

import rnnjax
from rnnjax import _signals
from rnnjax.cli.errors import BadInput
from rnnjax.train.checkpoint import Damaged, OtherFormat, OtherShape

PATIENCE = 60  # seconds that a process waits for the others
GRACE = 3.0  # seconds in which what a process met may come to the others by other ways, in better words
LINE = 4096  # bytes of a line, at most
ALIKE = (BadInput, Damaged, OtherFormat, OtherShape, FloatingPointError)  # what all processes meet where one does
SILENT = (
    "JAX's runtime has ended this process, in the words above; where another process of the run was silent for too long, start "
    "all of them again with --resume"
)
WHY = (
    "another process of this run has gone, and none goes on without it; what the last checkpoint holds is safe, "
    "start all of them again with --resume"
)


def roll_call(coordinator: str, processes: int, process: int) -> list[socket.socket]:
    """Lines to the others: of process 0 to all, of each other to process 0. Or raises BadInput in all, with the same sentence."""
    host, port = coordinator.rsplit(":", 1)
    if process == 0:
        return called(int(port), processes)
    return [answered(host.removeprefix("[").removesuffix("]"), int(port), processes, process)]


@contextlib.contextmanager
def kept(lines: list[socket.socket], grace: float) -> Iterator[None]:
    """Meanwhile this process ends, with a sentence, when one at the other end of a line has gone without a word.

    grace: seconds in which what this process met itself may be told in its own words.
    """
    over, gone = threading.Event(), threading.Event()
    for line in lines:
        line.settimeout(None)
        threading.Thread(target=_attend, args=(line, over, gone, grace), daemon=True, name="roll call").start()
    try:
        with _abort_told(gone):
            yield
        _farewell(lines)
    except ALIKE:
        _farewell(lines)
        raise
    except Exception:
        over.set()
        # what was raised is what JAX made of it, whose runtime would wait for the dead, or abort
        if lines and gone.wait(GRACE):
            _signals.leave(2, WHY)
        raise
    finally:
        over.set()


@contextlib.contextmanager
def _abort_told(gone: threading.Event) -> Iterator[None]:
    """JAX's runtime may hear first that process 0 has died, which had its service, and aborts: then the sentence is the last word.

    A handler of Python's would come too late: it waits for the main thread, and abort for nobody. This one is called by the thread
    that aborts. Where nobody has gone it adds a word and returns, for the abort to go on.
    """
    if os.name != "posix":
        yield
        return
    take = ctypes.CDLL(None).signal
    take.argtypes, take.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p

    def aborted(which: int) -> None:
        if gone.wait(GRACE):
            _signals.leave(2, WHY)
        os.write(2, f"rnnjax: {SILENT}\n".encode())

    told = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    before = take(signal.SIGABRT, ctypes.cast(told, ctypes.c_void_p))
    try:
        yield
    finally:
        take(signal.SIGABRT, before)


def _farewell(lines: list[socket.socket]) -> None:
    for line in lines:
        with contextlib.suppress(OSError):
            line.sendall(b"bye\n")


def _attend(line: socket.socket, over: threading.Event, gone: threading.Event, grace: float) -> None:
    """Reads what comes at the end: a farewell, or nothing."""
    try:
        said = line.recv(LINE)
    except OSError:
        said = b""
    if said:
        return
    gone.set()
    if not over.wait(grace):
        _signals.leave(2, WHY)


def told(process: int, processes: int) -> dict[str, Any]:
    """What a process says of itself."""
    versions = f"rnnjax {rnnjax.__version__}, JAX {jax.__version__}, jaxlib {jaxlib.__version__}"
    return {"process": process, "processes": processes, "versions": versions}


# -- process 0 ---------------------------------------------------------------------------------------------------------


def called(port: int, processes: int) -> list[socket.socket]:
    """Lines to all, once they have come and have been told that all is well. Raises: BadInput."""
    try:
        both = socket.has_dualstack_ipv6()
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except (OSError, OverflowError) as error:
        raise BadInput(f"process 0 cannot listen at port {port} ({error}); give another --coordinator") from None
    there, lines = {0: told(0, processes)}, []
    with server:
        fault = gathered(server, there, lines, processes)
        for line in lines:
            with contextlib.suppress(OSError):
                line.sendall(fault.encode() + b"\n")
    if fault:
        for line in lines:
            line.close()
        raise BadInput(fault)
    return lines


def gathered(
    server: socket.socket, there: dict[int, dict[str, Any]], lines: list[socket.socket], processes: int
) -> str:
    """Who comes, until all are there or something is wrong, which is returned."""
    until, fault = time.monotonic() + PATIENCE, ""
    while len(there) < processes:
        server.settimeout(max(until - time.monotonic(), 0.01))
        try:
            line = server.accept()[0]
        except TimeoutError:
            return fault or missing(there, processes)
        said = heard(line)
        if said is None:  # somebody who looked whether the port is open
            line.close()
            continue
        lines.append(line)
        if not fault and (fault := wrong(said, there)):
            until = min(until, time.monotonic() + GRACE)  # others who are on their way are told too
        there[said["process"]] = said
    return fault


def heard(line: socket.socket) -> dict[str, Any] | None:
    """What a process says of itself; None if it is none of ours."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(line_of(line, 5.0))
        return {"process": int(said["process"]), "processes": int(said["processes"]), "versions": str(said["versions"])}
    return None


def wrong(said: dict[str, Any], there: dict[int, dict[str, Any]]) -> str:
    """What is wrong with who came, beside those who are there; nothing if all is well."""
    if said["process"] in there:
        return f"process {said['process']} was started twice; give each its own --process, from 0 to {there[0]['processes'] - 1}"
    for name in ("processes", "versions"):
        if said[name] != there[0][name]:
            return (
                f"train: {name} is {there[0][name]} in process 0 and {said[name]} in process {said['process']}; "
                "start all of them alike"
            )
    return ""


def missing(there: dict[int, Any], processes: int) -> str:
    """Who did not come."""
    away = [i for i in range(processes) if i not in there]
    return f"{len(away)} of {processes} processes did not come within {PATIENCE} s, process {away[0]} among them; start all of them"


# -- the others --------------------------------------------------------------------------------------------------------


def answered(host: str, port: int, processes: int, process: int) -> socket.socket:
    """The line to process 0, which says that all is well. Raises: BadInput if it does not, or is somebody else."""
    line = connected(host, port)
    try:
        line.sendall(json.dumps(told(process, processes)).encode() + b"\n")
        answer = line_of(line, PATIENCE + 10).decode()
    except (OSError, UnicodeDecodeError):
        answer = ""
    if answer == "\n":
        return line
    line.close()
    if not answer.endswith("\n") or not answer[:-1].isprintable():
        raise BadInput(
            f"what listens at {host}:{port} does not wait for process {process}: another program, or a run that has begun already; "
            "was this process started late, or twice?"
        )
    raise BadInput(answer[:-1])


def connected(host: str, port: int) -> socket.socket:
    """A line to process 0, which may start later. Raises: BadInput if nobody answers."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except (OSError, OverflowError) as error:
            if time.monotonic() > until:
                raise BadInput(
                    f"nobody answers at {host}:{port} ({error}); start process 0 there, and the others within {PATIENCE} s"
                ) from None
            time.sleep(0.2)


def line_of(line: socket.socket, seconds: float) -> bytes:
    """Up to the end of the line, or of what comes. Raises: OSError."""
    line.settimeout(seconds)
    got = b""
    while len(got) < LINE and not got.endswith(b"\n") and (more := line.recv(LINE)):
        got += more
    return got

"""The limit of several cores: one process pinned to each, with its part of the batch and no word between them.

`Team(n)` starts the processes; `prepare` has each build and compile its part; a turn has all of them run it once, from one
moment on, and reports the milliseconds until the last is done. Between turns they wait in a read and use no core.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

AHEAD = 0.005  # seconds from the word to the start: time for all to wake up
LATE = 0.0002  # a process that starts later than this spoils the turn
TRIES = 20

Part = Callable[[int, int], Callable[[], Any]]  # (which, of how many) -> what to run; its result is the part's answer


class Team:
    """N processes, each on a core of its own. A context manager: they end with it."""

    def __init__(self, n: int):
        if not hasattr(os, "sched_setaffinity"):
            raise RuntimeError("Team: this system does not pin a process to a core; run with --no-limit")
        cores = sorted(os.sched_getaffinity(0))
        if n > len(cores):
            raise ValueError(f"Team: {n} processes need {n} cores, this machine gives {len(cores)}; pass --devices")
        spawn = multiprocessing.get_context("spawn")
        self.ends: list[Connection] = []
        self.processes = []
        for rank, core in enumerate(cores[:n]):
            here, there = spawn.Pipe()
            process = spawn.Process(target=work, args=(there, rank, n), daemon=True)
            with pinned(core):  # inherited: JAX never sees another core
                process.start()
            there.close()
            self.ends.append(here)
            self.processes.append(process)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: Any) -> None:
        for end in self.ends:
            end.close()
        for process in self.processes:
            process.join()

    def ask(self, *word: Any) -> list[Any]:
        """Sends a word to all and collects the answers; an error in one is raised here."""
        for end in self.ends:
            end.send(word)
        answers = [end.recv() for end in self.ends]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def prepare(self, part: Part, *args: Any) -> list[Any]:
        """``part(rank, n, *args)`` in each process gives what its turns run; returns what the first runs give.

        part: a function at the top of a module, so that its name can be sent.
        """
        return self.ask("prepare", part, args)

    def turn(self) -> float:
        """Milliseconds that all take together, started at one moment."""
        for _ in range(TRIES):
            start = time.perf_counter() + AHEAD
            times = self.ask("go", start)
            if max(began for began, _ in times) <= start + LATE:
                break
        return (max(ended for _, ended in times) - start) * 1e3


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What this thread starts runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def work(end: Connection, rank: int, n: int) -> None:
    """One process of a team: does what the parent's words say until the pipe closes."""
    import jax

    run = None
    with contextlib.suppress(EOFError):
        while True:
            word, *args = end.recv()
            try:
                if word == "prepare":
                    part, extra = args
                    run = part(rank, n, *extra)
                    end.send(jax.device_get(run()))
                elif run is not None:
                    end.send(timed(run, *args))
            except Exception as error:
                end.send(RuntimeError(f"process {rank} of {n}: {type(error).__name__}: {error}"))


def timed(run: Callable[[], Any], start: float) -> tuple[float, float]:
    """When the run began and ended, on the clock that all processes share; it does not begin before `start`."""
    import jax

    while time.perf_counter() < start:
        pass
    began = time.perf_counter()
    jax.block_until_ready(run())
    return began, time.perf_counter()

"""One run in several processes: how they find each other, and what they agree on before the first step."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from rnnjax.cli.devices import Devices
from rnnjax.cli.errors import BadInput
from rnnjax.cli.kinds import count, natural
from rnnjax.cli.launchers import Place, place
from rnnjax.cli.roll_call import ALIKE, GRACE, PATIENCE, kept, roll_call
from rnnjax.cli.settings import Settings
from rnnjax.data import DataError
from rnnjax.lock import Busy
from rnnjax.train import hosts

GONE = 30  # seconds of silence after which a process counts as dead

Prepared = TypeVar("Prepared")


def add_arguments(parser: Any) -> None:
    """The flags of ``rnnjax train`` for several processes."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes of one run, which SLURM, Open MPI or a cloud TPU started; each is given the same command",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens, on other systems")
    parser.add_argument("--processes", type=count, metavar="N", help="how many there are")
    parser.add_argument("--process", type=natural, metavar="I", help="which of them this is, from 0")


def asked(args: argparse.Namespace) -> bool:
    """Whether this is one of several. Raises: BadInput where the flags do not go together."""
    given = {name: getattr(args, name) for name in ("coordinator", "processes", "process")}
    some = [name for name, value in given.items() if value is not None]
    if some and len(some) < 3:
        lacking = next(name for name in given if name not in some)
        raise BadInput(f"--{some[0]} goes with --coordinator, --processes and --process; --{lacking} is missing")
    if not some and not args.distributed:
        return False
    if some and args.process >= args.processes:
        raise BadInput(f"--process {args.process} is none of {args.processes} processes; they count from 0")
    if some and not (":" in args.coordinator and args.coordinator.rsplit(":", 1)[1].isdigit()):
        raise BadInput(f"--coordinator must be HOST:PORT, got {args.coordinator!r}")
    if args.out is None:
        raise BadInput("several processes need --out, a folder that all of them see")
    if args.devices is not None:
        raise BadInput("--devices is for one process; several take all devices that they have")
    return True


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[None]:
    """This process as one of those of the run; only process 0 prints. Raises: BadInput if they do not find each other."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    mine = place(os.environ) if args.coordinator is None else Place(args.coordinator, args.processes, args.process)
    lines, started = [] if mine is None else roll_call(*mine), False
    try:
        # with process 0 the runtime ends, and aborts the others
        with kept(lines, GRACE if mine is not None and mine.process == 0 else 0.0):
            _initialize(mine)
            started = True
            with _silent_but_for_the_first():
                yield
                hosts.together("done")  # process 0 measures and draws alone, maybe for longer than a shutdown waits
    except ALIKE:
        if started:
            jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def _initialize(mine: Place | None) -> None:
    """JAX's runtime. Raises: BadInput if the processes do not find each other."""
    try:
        jax.distributed.initialize(
            *(mine or (None, None, None)),  # None: as JAX finds
            initialization_timeout=PATIENCE,
            heartbeat_timeout_seconds=GONE,
            shutdown_timeout_seconds=GONE,
        )
    except (RuntimeError, ValueError) as error:
        where = f" at {mine.coordinator}" if mine else "; give --coordinator, --processes and --process"
        raise BadInput(f"the processes did not find each other ({str(error).splitlines()[0]}){where}") from None


@contextlib.contextmanager
def _silent_but_for_the_first() -> Iterator[None]:
    """Only process 0 prints."""
    if hosts.first():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def agreed(prepare: Callable[[], Prepared]) -> Prepared:
    """What ``prepare`` gives, once it went well in every process. Raises: BadInput in all where one of them failed."""
    try:
        prepared, fault = prepare(), ""
    except (BadInput, DataError, Busy) as error:
        prepared, fault = None, str(error)
    faults = hosts.texts(fault)
    wrong = next((i for i, fault in enumerate(faults) if fault), None)
    if wrong is not None or prepared is None:
        raise BadInput(faults[wrong or 0] if hosts.first() else f"process {wrong}: {faults[wrong or 0]}")
    return prepared


def same(**facts: str) -> None:
    """Raises: BadInput in all processes where a fact is not the same in all."""
    try:
        hosts.same("train", **facts)
    except ValueError as error:
        raise BadInput(str(error)) from None


def devices(settings: Settings) -> Devices:
    """All devices of all processes. Raises: BadInput if they do not divide the batch."""
    if settings.is_labelled or settings.is_ahead:
        raise BadInput("several processes train on texts, and on tables one row ahead; labels and --horizon take one")
    found = jax.devices()
    if settings.batch % len(found):
        raise BadInput(
            f"--batch {settings.batch} is not divided by the {len(found)} devices of {jax.process_count()} processes; "
            f"give a multiple of {len(found)}"
        )
    return Devices(len(found), Mesh(np.array(found), ("batch",)))


def own_rows(batches: Callable[[int], Any], axes: dict[str, int]) -> Callable[[int], Any]:
    """Of every batch the rows of this process."""
    share, me = jax.process_count(), jax.process_index()

    def part(step: int) -> dict[str, Any]:
        cut = lambda name, a: np.split(np.asarray(a), share, axes[name])[me]
        return {name: cut(name, a) for name, a in batches(step).items()}

    return part

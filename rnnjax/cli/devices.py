"""How many devices a run is on. The command owns its process, so it can ask for one CPU device a core before JAX starts."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings
from rnnjax.train.placement import largest_divisor
from rnnjax.wording import counted

# Where one batch over several cores is faster than on one. Measured on two cores (JAX 0.12, steps as `rnnjax train` has them;
# one device uses the second core too, for large products): LSTM and GRU, 16 rows of 256 features 1.4 times as fast, 32 of 128
# 1.3, 16 of 128 1.1, 16 of 64 or of 512 1.05, Elman 1.0. Where other programs keep the cores busy, all of these are 0.8 to 0.9:
# so what would gain little stays on one.
ROWS = 8  # of the batch, at least, on each device: starting kernels takes a time that does not shrink with the rows
WORK = 10_000_000  # multiply-adds of a gate, at least, in a training step on each device, beside which handing it out is little
WIDEST = 256  # features: the weights of more leave the caches, and cores share what lies behind those


class Devices(NamedTuple):
    """Where a run takes place: how many devices, the mesh for `rnnjax.train.fit`, and what the user should know of it."""

    count: int = 1
    mesh: Mesh | None = None
    remark: str = ""

    def __str__(self) -> str:
        return counted(self.count, "device")


def cores() -> int:
    """The cores this process may use."""
    if newer := getattr(os, "process_cpu_count", None):  # Python 3.13
        return newer() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worthwhile(settings: Settings, most: int) -> int:
    """On how many of at most ``most`` CPU devices a run is fastest; they divide its batch.

    >>> worthwhile(Settings(), 2), worthwhile(Settings(batch=8), 2), worthwhile(Settings(hidden=512), 2)
    (2, 1, 1)
    """
    if settings.dropout or settings.hidden > WIDEST:  # noise is drawn for a whole batch, which is not split by rows
        return 1
    work = settings.layers * settings.time * settings.batch * settings.hidden**2
    return largest_divisor(settings.batch, max(1, min(most, settings.batch // ROWS, work // WORK)))


def choose(asked: int | None, settings: Settings, before: int | None = None) -> Devices:
    """The devices of a run; to be called before anything else uses JAX.

    asked: what ``--devices`` says, the most it may be on. before: on how many the run began that is gone on with.
    With neither, as many cores as are worth it; where JAX finds an accelerator, one.

    Raises: BadInput if there are fewer than ``asked`` or ``before``.
    """
    few = min(asked, cores()) if asked else None
    count = before or (largest_divisor(settings.batch, few) if few else worthwhile(settings, cores()))
    found = request(count)
    accelerated = found[0].platform != "cpu"
    check_asked(asked, len(found) if accelerated else cores(), "device" if accelerated else "core")
    if accelerated and not before:
        count = largest_divisor(settings.batch, asked or 1)
    if count > len(found):
        if not (asked or before):
            return Devices()
        raise BadInput(too_few(count, len(found), accelerated))
    mesh = Mesh(np.array(found[:count]), ("batch",)) if count > 1 else None
    return Devices(count, mesh, remark(count, asked, settings, accelerated))


def request(count: int) -> list[Any]:
    """The devices JAX has after being asked for so many on the CPU: fewer if it was in use already."""
    if count > 1:
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError:  # in use: what it has may still do
            pass
    return jax.devices()


def check_asked(asked: int | None, most: int, what: str) -> None:
    """Raises: BadInput if there are fewer than asked for."""
    if asked is not None and asked > most:
        there = f"the {most} {what}s" if most > 1 else f"the one {what}"
        raise BadInput(
            f"--devices {asked} is more than {there} of this machine; give at most {most}, or leave it out: "
            "the run then takes what it gains by"
        )


def too_few(count: int, found: int, accelerated: bool) -> str:
    """The sentence where JAX has fewer devices than a run needs."""
    need = f"the run needs {counted(count, 'device')} and JAX has {found}"
    if accelerated:
        return f"{need} here; go on where it began, or train anew into another --out"
    return (
        f"{need}, as it was in use in this process before they were asked for; run the command in a process of its own "
        f'(python -m rnnjax train), or write jax.config.update("jax_num_cpu_devices", {count}) before JAX is first used'
    )


def remark(count: int, asked: int | None, settings: Settings, accelerated: bool) -> str:
    """What is worth a line about the number of devices, or nothing."""
    if asked is not None and asked != count:
        return f"--devices {asked} does not divide --batch {settings.batch}: {counted(count, 'device')} it is"
    if not accelerated and count > cores():
        there = counted(cores(), "core")
        return f"The run began on {count} devices and goes on so, to the same numbers, though this machine has {there}."
    return ""

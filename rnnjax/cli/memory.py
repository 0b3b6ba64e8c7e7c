"""``rnnjax train --memory``: what a step takes at its peak, for each way of storing what the gradient needs."""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from typing import Any, NamedTuple

import jax
import optax

import rnnjax as rj
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings
from rnnjax.cli.work import make_task

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Way(NamedTuple):
    """One setting of ``--checkpoint``: bytes at the peak of a step, and its seconds."""

    checkpoint: str | None
    peak: int
    seconds: float


def size(text: str) -> int:
    """Bytes.

    >>> size("2GB"), size("1.5 MiB"), size("800")
    (2000000000, 1572864, 800)
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?)?b?\s*", text.lower())
    try:
        return int(float(found[1]) * UNITS[found[2] or ""])  # type: ignore[index]
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"must be a size such as 2GB or 500MiB, got {text!r}") from None


def tell(settings: Settings, budget: int) -> int:
    """Prints the ways, and the fastest whose peak is within ``budget`` (0: whatever it takes). Trains nothing."""
    if settings.is_labelled or settings.is_ahead:
        raise BadInput("--memory measures texts, and tables one row ahead; not labels or --horizon")
    ways = []
    print(f"A step of {settings.batch} windows of {settings.time}, {settings.cell} of {settings.hidden} features:\n")
    print(f"{'--checkpoint':>14} {'peak, MiB':>10} {'ms a step':>10}", flush=True)
    for checkpoint in choices(settings.time):
        way = measured(settings, checkpoint)
        ways.append(way)
        print(f"{checkpoint or 'none':>14} {way.peak / 2**20:>10.1f} {way.seconds * 1e3:>10.1f}", flush=True)
    if (best := fastest(ways, budget)) is None:
        least = min(way.peak for way in ways)
        raise BadInput(
            f"no way fits into {budget / 2**20:.1f} MiB, the least is {least / 2**20:.1f}; a smaller --batch, --hidden or --time does"
        )
    within = f" within {budget / 2**20:.1f} MiB" if budget else ""
    print(f"\nThe fastest{within}: --checkpoint {best.checkpoint or 'none'}")
    return 0


def choices(steps: int) -> list[str | None]:
    """None, segments from long to short, and the square root.

    >>> choices(64)
    [None, '32', '16', 'sqrt', '4']
    """
    lengths = sorted({steps // 2, steps // 4, steps // 16} - {0, 1}, reverse=True)
    root = [str(n) for n in lengths if n * n > steps], [str(n) for n in lengths if n * n < steps]
    return [None, *root[0], "sqrt", *root[1]]


def fastest(ways: list[Way], budget: int) -> Way | None:
    """Of those that fit."""
    return min((way for way in ways if not budget or way.peak <= budget), key=lambda way: way.seconds, default=None)


def measured(settings: Settings, checkpoint: str | None) -> Way:
    """The peak as the compiled step says, and the median of five steps."""
    task = make_task(dataclasses.replace(settings, checkpoint=checkpoint))
    params = task.cell.init(jax.random.key(settings.seed), jax.numpy.zeros(task.example.shape, task.example.dtype))
    optimizer = optax.adamw(settings.rate, b2=0.99, weight_decay=1e-4)
    step = rj.train.make_step(task.loss_fn, optimizer, clip=settings.clip)
    state: Any = rj.train.start(params, optimizer, task.cell.initial_carry(params, task.example))
    key = jax.random.key(0) if settings.dropout else None
    peak, times = rj.train.memory(step, state, task.batches(0), key), []
    for i in range(6):
        began = time.perf_counter()
        state, report = step(state, task.batches(i), key)
        jax.block_until_ready(report)
        times.append(time.perf_counter() - began)
    return Way(checkpoint, peak, sorted(times[1:])[2])

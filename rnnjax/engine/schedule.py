"""Step 4b, schedule: how a gradient goes through time, by an estimate of what each way costs on this kind of machine.

whole    all steps at once: every array over time is made whole
blocks   time is cut: hoisted inputs and cotangents are made block by block, what the forward loop stores is kept
replay   only the carries are kept: all else is computed again, for all steps of a block (or of the whole) at once

What differs most is memory. A compiled program on a CPU takes all its temporaries in one allocation; above 32 MiB glibc maps
it anew at every call, and each of its pages faults. Blocks copy what they keep once more each way; a replay repeats the
products. In small networks the kernels that store are what is saved. Off the CPU there is no such cliff: whole. All constants are measured, see benchmarks/NOTES.md.
"""

from __future__ import annotations

import dataclasses

import jax

CLIFF = 31 * 2**20  # bytes in one allocation above which every page faults at every call (glibc's limit is 32 MiB)
FAULT, COPY = 0.4, 0.27  # nanoseconds per byte: of a fresh page, and to write and read a stack once more
FLOP = 1 / 300  # nanoseconds, of a product over many rows
CUT = 0.25  # what a product over all of time loses when it is made block by block
CURVE = 0.05  # nanoseconds per byte of tanh and the like, on all cores
KERNEL, AGAIN = 190.0, 40000.0  # nanoseconds: to store one array at one step, and to start a replay
BLOCK = 2 * 2**20  # bytes of a block's arrays that stay in the cache
SPARE = 3 * 2**20  # transposed weights, gradients, one step


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Bytes per step: what is hoisted, the cotangents, what is stored, what a replay keeps, what it makes again, and how
    much of that is costly elementwise. Floating-point operations per step: of the products outside the loop, and of those
    that a replay repeats (None where there can be no replay)."""

    hoisted: int
    taps: int
    stored: int
    flops: int = 0
    kept: int = 0
    again: int = 0
    curves: int = 0
    repeated: int | None = None
    saved: int = 0  # how many arrays a replay does not store


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How to go through time."""

    blocks: int = 1
    replay: bool = False


def choose(length: int, sizes: Sizes) -> Schedule:
    """The cheapest way of `length` steps."""
    if jax.default_backend() != "cpu":
        return Schedule()
    arena = length * (sizes.hoisted + sizes.taps + sizes.stored)
    ways = {Schedule(): faults(arena)}
    wide, cut = sizes.hoisted + sizes.taps, CUT * FLOP * length * sizes.flops
    if (blocks := count_blocks(wide, length)) > 1:
        kept = length * sizes.stored
        ways[Schedule(blocks)] = faults(kept + SPARE + wide * length // blocks) + COPY * kept + cut
    if sizes.repeated is None:
        return min(ways, key=lambda way: ways[way])
    work = length * (FLOP * sizes.repeated + CURVE * sizes.curves - KERNEL * sizes.saved) + AGAIN
    if arena <= CLIFF:
        ways[Schedule(1, True)] = faults(arena + length * sizes.again) + work
    wide += sizes.again
    if (blocks := count_blocks(wide // 2, length)) > 1:
        kept = length * sizes.kept
        ways[Schedule(blocks, True)] = faults(kept + SPARE + wide * length // blocks) + COPY * kept + cut + work
    return min(ways, key=lambda way: ways[way])


def faults(size: int) -> float:
    """Nanoseconds that a program's temporaries of `size` bytes cost before anything is computed."""
    return FAULT * size if size > CLIFF else 0.0


def count_blocks(wide: int, length: int) -> int:
    """Blocks of equal length with `wide` bytes per step in the cache; 1 where no length near the best fits evenly."""
    steps = max(8, BLOCK // max(wide, 1))
    near = [k for k in range(max(4, steps // 2), min(length // 2, 2 * steps) + 1) if length % k == 0]
    return length // min(near, key=lambda k: abs(k - steps)) if near else 1

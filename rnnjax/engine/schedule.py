"""Step 4b, schedule: how a gradient goes through time, by an estimate of what each way costs on this kind of machine.

whole    all steps at once: every array over time is made whole, hoisted inputs too unless they are better made step by step
blocks   time is cut: hoisted inputs and cotangents are made block by block, what the forward loop stores is kept
written  all steps stand one after the other, without a loop; never by estimate, only where `rnnjax.tune` measured it
replay   only the carries are kept: all else is computed again, for all steps of a block (or of the whole) at once

What differs most is memory. A compiled program on a CPU takes all its temporaries in one allocation; above 32 MiB glibc
maps it anew at every call, and each of its pages faults. Blocks copy what they keep once more each way; a replay repeats
the products. In small networks the kernels that store are what is saved. Off the CPU there is no such cliff: whole. All
constants are measured, see benchmarks/NOTES.md.
"""

from __future__ import annotations

import dataclasses

import jax

CLIFF = 31 * 2**20  # bytes in one allocation above which every page faults at every call (glibc's limit is 32 MiB)
FAULT, COPY = 0.4, 0.27  # nanoseconds per byte: of a fresh page, and to write and read a stack once more
FLOP = 1 / 300  # nanoseconds, of a product over many rows
NEAR, FAR = 0.06, 0.25  # nanoseconds per byte to write and read back hoisted inputs whose steps fit L1, or do not
L1, CACHE = 48 * 2**10, 4 * 2**20  # bytes; all of them together cost nothing while they fit the second
CUT = 0.25  # what a product over all of time loses when it is made block by block
STEP = 1 / 400  # nanoseconds per operation that a product loses when it is made step by step
CURVE = 0.07  # nanoseconds per byte of tanh and the like, on all cores
KERNEL, START = 190.0, 40000.0  # nanoseconds: to store one array at one step, and to start a block or a replay
BLOCK = 2 * 2**20  # bytes of a block's arrays that stay in the cache
SMALL = 2**20  # bytes that nobody misses: up to here a replay of the whole may take twice as much
SPARE = 3 * 2**20  # transposed weights, gradients, one step


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Bytes per step: what is hoisted, the cotangents, what is stored, how much of that is copied once more (a carry as the
    operand of a product), what a replay keeps, what it makes again, and how much of that is costly elementwise.
    Floating-point operations per step: of the hoisted products, of those in the loop, and of all that are made outside it.
    How many arrays a replay does not store. Whether there can be a replay, and a whole without hoisting.
    """

    hoisted: int
    taps: int
    stored: int
    ahead: int = 0
    loop: int = 0
    outside: int = 0
    shifted: int = 0
    kept: int = 0
    again: int = 0
    curves: int = 0
    saved: int = 0
    can_replay: bool = False
    can_stay: bool = False


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How to go through time."""

    blocks: int = 1
    replay: bool = False
    hoist: bool = True
    written: bool = False  # all steps out, without a loop: `rnnjax.tune` alone asks for it


@dataclasses.dataclass(frozen=True)
class Ways:
    """How a forward pass alone and how a gradient go through time; None: as `choose` says."""

    forward: Schedule | None = None
    gradient: Schedule | None = None


WHOLE = Ways(Schedule(), Schedule())


def choose(length: int, sizes: Sizes) -> Schedule:
    """The cheapest way of `length` steps."""
    if jax.default_backend() != "cpu":
        return Schedule()
    arena = length * (max(sizes.hoisted, sizes.shifted) + sizes.taps + sizes.stored)
    ways = {Schedule(): faults(arena) + traffic(length, sizes.hoisted)}
    if sizes.can_stay:
        slower = length * (STEP * sizes.ahead + 2 * KERNEL)
        ways[Schedule(hoist=False)] = faults(length * (sizes.shifted + sizes.taps + sizes.stored)) + slower
    wide, cut = sizes.hoisted + sizes.taps, CUT * FLOP * length * sizes.outside
    if (blocks := count_blocks(wide, length)) > 1:
        kept = length * sizes.stored
        ways[Schedule(blocks)] = faults(kept + SPARE + wide * length // blocks) + COPY * kept + cut + START * blocks
    if not sizes.can_replay:
        return min(ways, key=lambda way: ways[way])
    work = length * (FLOP * (sizes.ahead + sizes.loop) + CURVE * sizes.curves - KERNEL * sizes.saved) + START
    if arena <= SMALL:
        ways[Schedule(1, True)] = work
    wide += sizes.again  # by half of it for the length of a block: not all of that is alive at a time
    if (blocks := count_blocks(wide // 2, length)) > 1:
        kept = length * sizes.kept
        ways[Schedule(blocks, True)] = (
            faults(kept + SPARE + wide * length // blocks) + COPY * kept + cut + START * blocks + work
        )
    return min(ways, key=lambda way: ways[way])


def faults(size: int) -> float:
    """Nanoseconds that a program's temporaries of `size` bytes cost before anything is computed."""
    return FAULT * size if size > CLIFF else 0.0


def traffic(length: int, hoisted: int) -> float:
    """Nanoseconds that hoisted inputs of so many bytes per step cost in memory traffic."""
    return (NEAR if hoisted <= L1 else FAR) * length * hoisted if length * hoisted > CACHE else 0.0


def count_blocks(wide: int, length: int) -> int:
    """Blocks of equal length with `wide` bytes per step in the cache; 1 where no length near the best fits evenly."""
    steps = max(8, BLOCK // max(wide, 1))
    near = [k for k in range(max(4, steps // 2), min(length // 2, 2 * steps) + 1) if length % k == 0]
    return length // min(near, key=lambda k: abs(k - steps)) if near else 1

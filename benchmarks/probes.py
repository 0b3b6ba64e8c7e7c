"""Small programs that isolate one constant of the engine's cost model each; `constants.py` prints them as a table.

Each probe takes the number of repeats and returns nanoseconds per byte, operation, array or block, or a size in bytes.
Programs that are compared take turns, and their medians are subtracted or divided; what the two share falls out.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from functools import cache
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from floor import once, steps
from jax import lax

from rnnjax.bench import geometric_mean, stopwatch, take_turns

KIB, MIB = 2**10, 2**20
MANY = ((128, 32, 128, 512), (128, 32, 256, 1024), (1000, 16, 64, 256))  # T, B, K, N of products as an LSTM has them
STATE = (32, 128)  # [B, H] of the loops that store and read
LENGTH = 128

Turn = Callable[[], float]


def ns(repeats: int, *turns: Turn) -> list[float]:
    """Median nanoseconds of each turn."""
    taken = take_turns({str(n): turn for n, turn in enumerate(turns)}, repeats)
    return [median(times) * 1e6 for times in taken.values()]


def run(f: Callable, *args: Any) -> Turn:
    """A turn of a function, compiled."""
    return stopwatch(jax.jit(f), *args)


def floats(size: int) -> jax.Array:
    """An array of so many bytes."""
    return jnp.full((size // 4,), 0.5)


def loop(body: Callable, c: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """`lax.scan` with a small product beside the body, as a recurrent loop has one: XLA may compile a loop that has none, or
    one of one row, into a single kernel (JAX 0.12 does), and then nothing in it costs what it costs in a real one."""
    w = np.full((64, 64), 1 / 64, np.float32)

    def step(cz, x):
        c, y = body(cz[0], x)
        return (c, cz[1] @ w), y

    (c, z), ys = lax.scan(step, (c, jnp.ones((8, 64))), xs, length=length, reverse=reverse)
    return jax.tree.map(lambda a: a + z[0, 0], c), ys  # or the product would be dropped


def largest(sizes: Sequence[int], costs: Sequence[float], most: float) -> int:
    """The largest size up to which no cost is above `most`; 0 where the first is.

    >>> largest([1, 2, 4, 8], [0.1, 0.2, 0.9, 0.1], 0.5)
    2
    """
    good = 0
    for size, cost in zip(sizes, costs, strict=True):
        if cost > most:
            break
        good = size
    return good


# --- memory: the allocation that faults, and what a page costs


def stacked(size: int) -> tuple[Callable, tuple]:
    """A loop whose stacked output, `size` bytes of temporaries, is read at one place alone."""
    row = 16 * KIB

    def f(x, n):
        return lax.scan(lambda c, _: (c * 0.999, c), x, None, length=size // row)[1][n]

    return jax.jit(f), (floats(row), jnp.asarray(1))


def faults(size: int) -> bool:
    """Whether the pages of so many bytes of temporaries fault at every call."""
    f, args = stacked(size)
    for _ in range(5):  # glibc learns from what is given back
        jax.block_until_ready(f(*args))
    return median(pages_of(f, args) for _ in range(5)) * resource.getpagesize() > size / 2


def pages_of(f: Callable, args: tuple) -> int:
    """The pages that fault in one call, whoever else uses the machine."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(f(*args))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@cache
def cliff(repeats: int, low: int = 4 * MIB, high: int = 128 * MIB) -> int:
    """The largest allocation, to a MiB, whose pages do not fault at every call; `low` or `high` where there is no such edge."""
    while high - low > MIB:
        middle = (low + high) // (2 * MIB) * MIB
        low, high = (low, middle) if faults(middle) else (middle, high)
    return low


def fault(repeats: int) -> float:
    """What a byte more costs above the cliff than below."""
    edge = cliff(repeats)
    sizes = [edge * 3 // 4, edge * 5 // 4]
    below, above = ns(repeats, *(stopwatch(f, *args) for f, args in map(stacked, sizes)))
    return above / sizes[1] - below / sizes[0]


# --- loops that store and read back


def forth(c: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    c = c * 0.999
    return c, c


def back(c: jax.Array, y: jax.Array) -> tuple[jax.Array, None]:
    return c + y, None


def there_and_back(x: jax.Array, length: int) -> jax.Array:
    """One loop stacks its state, another reads the stack."""
    c, ys = loop(forth, x, None, length)
    return loop(back, c, ys, reverse=True)[0]


def by_blocks(x: jax.Array, length: int, blocks: int) -> jax.Array:
    """The same with all blocks stacked first, then read, block by block: each stack is copied once more each way."""
    c, ys = lax.scan(lambda c, _: loop(forth, c, None, length // blocks), x, None, length=blocks)
    return lax.scan(lambda c, y: loop(back, c, y, reverse=True), c, ys, reverse=True)[0]


def copy(repeats: int) -> float:
    """Blocks against the whole, per byte, the start of a block apart."""
    length, blocks = 16 * MIB // (16 * KIB), 8
    x, small = floats(16 * KIB), floats(2 * KIB)
    turns = [run(lambda x: there_and_back(x, length), a) for a in (x, small)]
    turns += [run(lambda x: by_blocks(x, length, blocks), a) for a in (x, small)]
    whole, whole_small, cut, cut_small = ns(repeats, *turns)
    return ((cut - cut_small) - (whole - whole_small)) / (14 * MIB)


def start(repeats: int) -> float:
    """A block's two loops and three products where neither bytes nor operations count."""
    length, n = 512, 32
    w, xs = jnp.eye(n), jnp.full((length, 8, n), 0.5)

    def one(c, x):  # hoist, loop forth, loop back, gradient
        h = (x.reshape(-1, n) @ w).reshape(x.shape)
        c, ys = loop(lambda c, h: (c * 0.9 + h, c), c, h)
        _, ds = loop(lambda c, y: (c * 0.9 + y, c), c, ys, reverse=True)
        x, d = x.reshape(-1, n), ds.reshape(-1, n)
        return c + (x.T @ d)[:8] + (d.T @ x)[:8], None

    def blocks(k: int) -> Callable:
        return lambda c, xs: lax.scan(one, c, xs.reshape(k, -1, 8, n))[0]

    few, many = ns(repeats, *(run(blocks(k), xs[0], xs) for k in (1, 64)))
    return (many - few) / 63


def block(repeats: int) -> int:
    """Written and read back at once, block by block, the same bytes in all: up to which block is that cheap?"""
    sizes, row, total = [MIB // 2 * 2**n for n in range(6)], 16 * KIB, 32 * MIB

    def program(size: int) -> Turn:
        step = lambda c, _: (there_and_back(c * 1e-3, size // row), None)
        return run(lambda x: lax.scan(step, x, None, length=total // size)[0], floats(row))

    costs = ns(repeats, *map(program, sizes))
    return largest(sizes, costs, 1.15 * min(costs))


def kernel(repeats: int) -> float:
    """Eight arrays of 128 bytes more to store, per array and step."""
    length, more = 2000, 8

    def program(k: int) -> Turn:
        step = lambda c, _: (c * 0.999, [c * (1 + j) for j in range(k)])
        return run(lambda c: loop(step, c, None, length), floats(128))

    none, all_ = ns(repeats, program(0), program(more))
    return (all_ - none) / (length * more)


# --- products


def flop(repeats: int) -> float:
    """A product over T*B rows, per operation."""
    times = ns(repeats, *(once(t * b, k, n) for t, b, k, n in MANY))
    return geometric_mean([a / flops(*shape) for a, shape in zip(times, MANY, strict=True)])


def step(repeats: int) -> float:
    """The same product step by step in a loop, against that over T*B rows, per operation."""
    slow = ns(repeats, *(steps(t, b, k, n, False) for t, b, k, n in MANY))
    fast = ns(repeats, *(once(t * b, k, n) for t, b, k, n in MANY))
    return median((a - b) / flops(*shape) for a, b, shape in zip(slow, fast, MANY, strict=True))


def flops(t: int, b: int, k: int, n: int) -> int:
    return 2 * t * b * k * n


def cut(repeats: int) -> float:
    """A weight's gradient summed over blocks of 512 rows, against one product; the share that is lost."""
    lost = []
    for t, b, k, n in MANY[:2]:
        a, d = jnp.full((t * b, k), 0.5), jnp.full((t * b, n), 1e-3)
        pieces = lambda a, d: (a.reshape(-1, 512, a.shape[1]), d.reshape(-1, 512, d.shape[1]))
        add = lambda total, ad: (total + ad[0].T @ ad[1], None)
        blocks = run(lambda a, d: lax.scan(add, jnp.zeros((a.shape[1], d.shape[1])), pieces(a, d))[0], a, d)
        whole, some = ns(repeats, run(lambda a, d: a.T @ d, a, d), blocks)
        lost.append(some / whole - 1)
    return sum(lost) / len(lost)


def wide(repeats: int) -> int:
    """One product [rows, 128] @ [128, 512] cut into four, against four narrow ones: up to which output is it as fast?"""
    sizes = [MIB // 2 * 2**n for n in range(5)]
    w = jnp.full((128, 512), 1e-3)
    cost = []
    for size in sizes:
        x = jnp.full((size // 2048, 128), 0.5)
        one = run(lambda x, w: jnp.split(x @ w, 4, axis=1), x, w)
        four = run(lambda x, *ws: [x @ w for w in ws], x, *jnp.split(w, 4, axis=1))
        together, apart = ns(repeats, one, four)
        cost.append(together / apart)
    return largest(sizes, cost, 1.05)


# --- hoisted inputs


def hoisted(repeats: int, total: int, size: int) -> float:
    """Nanoseconds per byte: made for all steps at once and read in the loop, against made in the loop; `size` bytes a step."""
    a, b = floats(total // size * 4), floats(size)
    ahead = lambda a, b: loop(lambda c, x: (c * 0.5 + x, None), b, a[:, None] + b)[0]
    inside = lambda a, b: loop(lambda c, x: (c * 0.5 + (x + b), None), b, a)[0]
    slow, fast = ns(repeats, run(ahead, a, b), run(inside, a, b))
    return (slow - fast) / total


@cache
def near(repeats: int) -> float:
    return hoisted(repeats, 16 * MIB, 16 * KIB)


@cache
def far(repeats: int) -> float:
    return hoisted(repeats, 16 * MIB, 256 * KIB)


def l1(repeats: int) -> int:
    """Where the cost of a byte passes from the near one to the far one."""
    sizes = [8 * KIB * 2**n for n in range(6)]
    middle = math.sqrt(max(near(repeats), 1e-3) * max(far(repeats), 1e-3))
    return largest(sizes, [hoisted(repeats, 16 * MIB, size) for size in sizes], middle)


def cache_size(repeats: int) -> int:
    """How many bytes of hoisted inputs in all cost less than half the near cost."""
    sizes = [MIB * 2**n for n in range(5)]
    return largest(sizes, [hoisted(repeats, size, 16 * KIB) for size in sizes], near(repeats) / 2)


# --- elementwise


def curve(repeats: int) -> float:
    """tanh and logistic over 4 MiB, all cores, per byte."""
    x = floats(4 * MIB).reshape(-1, 128)
    return sum(ns(repeats, run(jnp.tanh, x), run(jax.nn.sigmoid, x))) / 2 / x.nbytes


def slope(repeats: int, program: Callable[[int], Callable], more: int, *args: Any) -> float:
    """Picoseconds per byte and array of [T, 32, 128]: 1 + `more` of what `program` does, against 1."""
    one, many = ns(repeats, *(run(program(k), *args) for k in (1, 1 + more)))
    return 1e3 * (many - one) / (more * LENGTH * 4 * math.prod(STATE))


def state() -> jax.Array:
    return jnp.full(STATE, 0.5)


def store(repeats: int) -> float:
    """A loop stacks an array more, another reads it back."""

    def program(k: int) -> Callable:
        out = lambda c, _: (c * 0.999, [c * (1 + j) for j in range(k)])

        def f(x):
            c, ys = loop(out, x, None, LENGTH)
            return loop(lambda c, y: (sum(y, c), None), c, ys, reverse=True)[0]

        return f

    return slope(repeats, program, 4, state())


def read(repeats: int) -> float:
    """A loop reads an array more, of what lies there anyway."""

    def program(k: int) -> Callable:
        return lambda x, *ys: loop(lambda c, y: (sum(y, c), None), x, ys[:k], reverse=True)[0]

    return slope(repeats, program, 4, state(), *(jnp.full((LENGTH, *STATE), 1.0 + j) for j in range(5)))


def stack(repeats: int) -> float:
    """An array more is made for all steps at once and read in a loop."""

    def program(k: int) -> Callable:
        def f(x, a):
            ys = [a[:, None, None] * (1 + j) + x for j in range(k)]
            return loop(lambda c, y: (sum(y, c), None), x, ys)[0]

        return f

    return slope(repeats, program, 4, state(), jnp.ones(LENGTH))


def element(repeats: int) -> float:
    """A multiplication more in the loop, beside others on the same numbers."""
    return chain(repeats, lambda c: c * 0.999, 16)


def curve_in_loop(repeats: int) -> float:
    """A tanh more in the loop, on one core."""
    return chain(repeats, jnp.tanh, 4)


def chain(repeats: int, f: Callable, more: int) -> float:
    def program(k: int) -> Callable:
        def body(c, _):
            for _ in range(k):
                c = f(c)
            return c, None

        return lambda x: loop(body, x, None, LENGTH)[0]

    return slope(repeats, program, more, state())

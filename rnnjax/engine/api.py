"""The public pair: `scan` and `explain`."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax

from rnnjax import _jax
from rnnjax.engine.capture import Traced, lowered, trace
from rnnjax.engine.devices import find_apart, run_apart
from rnnjax.engine.eager import (
    Ready,
    constants,
    find,
    hands_on,
    has_weak_reference,
    is_traced,
    keep,
    key_of,
    with_constants,
)
from rnnjax.engine.execute.run import run
from rnnjax.engine.execute.segments import scan_segments, segment_length
from rnnjax.engine.execute.time import Time
from rnnjax.engine.explain import Explanation, make_explanation
from rnnjax.engine.plan import Plan, Tuned, check_fuse, make_plan

PyTree = Any
Carry = TypeVar("Carry")
X = TypeVar("X")
Y = TypeVar("Y")


def scan(
    f: Callable[[Carry, X], tuple[Carry, Y]],
    init: Carry,
    xs: X | None = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: int | str | None = None,
    matmul_dtype: Any = None,
    fuse: bool | str | Tuned = True,
) -> tuple[Carry, Y]:
    """`jax.lax.scan` that trains recurrent bodies faster; same arguments, same values, same gradients.

    ``carry, y_t = f(carry, x_t)`` for t = 0 .. T-1. The body is traced once and taken apart:

        z_t = x_t @ W + h @ U + b        x @ W runs before the loop, for all t at once
        dU  = sum_t h_t^T dz_t           runs after the reverse loop, as one product over T*B; so do dW and db

    and what the reverse loop needs is chosen by a minimum cut between storing and recomputing.
    All of JAX's transformations work on it, to any order; outputs equal those of `lax.scan` up to the order of sums.

    Args:
      f: the body, any function of pytrees that `lax.scan` takes.
      init: the carry before the first step.
      xs: inputs with time first, leaves ``[T, ...]``; None for a loop over `length` steps.
      length, reverse, unroll: as for `lax.scan`.
      checkpoint: keep only the carries at the ends of segments and recompute within them. An int is the length of
        a segment, ``"sqrt"`` is ``sqrt(T)``: memory then grows as ``sqrt(T)`` at the price of one more forward pass.
      matmul_dtype: run products with constants (hoisted, in the loop, and their gradients) on operands of this dtype,
        with float32 sums. Everything else keeps its dtype.
      fuse: True follows the plan below; ``"all"`` hoists and defers whatever can be, ``"hoist"`` or ``"defer"`` that
        half alone; False is `lax.scan`. Or a plan of `rnnjax.tune`: what was fastest on this machine. On other shapes
        than it was tuned for (floating leaves of the carry and of xs, and the length; with `checkpoint` that of a segment)
        it acts as True, with one RuntimeWarning.

    The plan depends on shapes and dtypes only. Hoisted: what depends on x and constants alone; cheap elementwise steps
    stay in the loop unless they make what it reads smaller. Joined: products of one operand with several weights. Deferred:
    gradients of constants that meet the carry in a product. After the loop: products that feed no next carry. On a CPU a
    gradient goes through time whole, in blocks, or in blocks that keep the carries alone and compute the rest again,
    whichever an estimate of memory traffic says is cheapest (`rnnjax.engine.schedule`). Otherwise, and for bodies with
    effects, `lax.scan` runs as it is. `explain` shows the plan.

    Returns:
      ``(carry, ys)`` as `lax.scan`.

    Raises:
      What `lax.scan` raises, with its message. ValueError for an unknown `fuse` or `checkpoint`. A RuntimeWarning says
      where JAX has made something that this release does not know: then `lax.scan` runs as it is.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> w, u = jnp.full((3, 4), 0.1), jnp.eye(4)
    >>> step = lambda h, x: (jnp.tanh(x @ w + h @ u),) * 2
    >>> h, ys = rj.scan(step, jnp.zeros((2, 4)), jnp.ones((5, 2, 3)))
    >>> ys.shape
    (5, 2, 4)
    """
    check_fuse("scan", fuse)
    options = dict(matmul_dtype=matmul_dtype, fuse=fuse)
    if fuse is not False and _jax.splitting_axis(jax.tree.leaves((init, xs))) is not None:
        traced = trace(f, init, xs, length, reverse, unroll)
        apart = None if suits(fuse, traced) else find_apart(traced)

        def on_one(body, carry, x):
            return scan(body, carry, x, traced.length, reverse, unroll, checkpoint=checkpoint, **options)

        if apart is not None and traced.finish is not None:
            return traced.finish(run_apart(apart, traced.init, traced.xs, on_one))
    steps = steps_of(xs, length) if checkpoint is not None else None
    if checkpoint is not None and (segment := segment_length(checkpoint, max(steps or 1, 1))) < (steps or 1):

        def piece(carry, x, n):
            return scan(f, carry, x, n, reverse, unroll, **options)

        return scan_segments(piece, init, xs, steps or 0, segment, reverse)
    how = Options(length, reverse, unroll, fuse, matmul_dtype)
    key = None if jax.config.jax_disable_jit else key_of(how, init, xs)
    if (ready := find(f, key)) is not None:
        say(ready.says)
        return ready.compiled(ready.consts, (init, xs))
    traced = trace(f, init, xs, *how[:3])
    plan = make_plan(traced, fuse, matmul_dtype)
    say(plan.says)
    if key is None or not may_keep(f, traced, plan, init, matmul_dtype):
        return run_plan(f, traced, plan, init, xs, how)
    ready = prepare(f, plan, init, xs, how)
    keep(f, key, ready)
    return ready.compiled(ready.consts, (init, xs))


def suits(fuse: bool | str | Tuned, traced: Traced) -> bool:
    """Whether a plan was tuned for the whole batch: then it is not divided among devices."""
    return isinstance(fuse, Tuned) and traced.graph is not None and fuse.fits(traced)


class Options(NamedTuple):
    """The options of a call that its program depends on."""

    length: int | None
    reverse: bool
    unroll: int | bool
    fuse: bool | str | Tuned
    matmul_dtype: Any


def run_plan(f: Callable, traced: Traced, plan: Plan, init: PyTree, xs: PyTree, how: Options) -> tuple[PyTree, PyTree]:
    """What a call gives."""
    if plan.sorted is None or plan.taps is None or traced.finish is None:
        if how.matmul_dtype is None:
            return traced.plain()
        return jax.lax.scan(lowered(f, how.matmul_dtype), init, xs, *how[:3])
    time = Time(traced.length, traced.reverse, traced.unroll)
    return traced.finish(run(plan.sorted, plan.taps, traced.init, traced.xs, time, plan.ways))


def may_keep(f: Callable, traced: Traced, plan: Plan, init: PyTree, matmul_dtype: Any) -> bool:
    """Whether an eager call may run next time as it is decided now."""
    if plan.unknown or not has_weak_reference(f) or is_traced(list(constants(traced).values())):
        return False
    return not hands_on(traced, init) if plan.fused else matmul_dtype is None


def prepare(f: Callable, plan: Plan, init: PyTree, xs: PyTree, how: Options) -> Ready:
    """The program of an eager call. It holds `f` by a weak reference: both end together."""
    ref: Any = weakref.ref(f)
    if not plan.fused:
        return Ready(lambda _, given: jax.lax.scan(ref(), *given, *how[:3]), [], plan.says)

    def again(init, xs):
        return trace(ref(), init, xs, how.length, how.reverse, how.unroll)

    def loop(consts, given):
        one, (init, xs) = traced(consts, given), given
        return run_plan(ref(), one, make_plan(one, how.fuse, how.matmul_dtype), init, xs, how)

    consts, traced = with_constants(again, init, xs)

    return Ready(jax.jit(loop), consts, plan.says)


def say(text: str) -> None:
    """A warning at the line that called `scan`."""
    if text:
        warnings.warn(text, RuntimeWarning, 3)


def steps_of(xs: PyTree, length: int | None) -> int | None:
    """The number of steps where the arguments agree on it; None leaves the complaint to `lax.scan`."""
    leaves = jax.tree.leaves(xs)
    if not isinstance(length, int | None) or not all(hasattr(x, "shape") for x in leaves):
        return None
    sizes = {tuple(x.shape[:1]) for x in leaves} | ({(length,)} if length is not None else set())
    return next(iter(sizes))[0] if len(sizes) == 1 and () not in sizes else None


def explain(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    *,
    fuse: bool | str | Tuned = True,
) -> Explanation:
    """What `scan` does with each product of a body: hoisted, deferred or left in the loop, and why.

    Arguments as for `scan`; nothing is run. The result prints as a table, and has `.rows`, `.decision` and `.fused`. With a
    plan of `rnnjax.tune` it says where the way through time comes from; the warning where shapes differ is that of `scan`.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> w, u = jnp.ones((3, 4)), jnp.eye(4)
    >>> step = lambda h, x: (jnp.tanh(x @ w + h @ u),) * 2
    >>> [row.fate for row in rj.explain(step, jnp.zeros((2, 4)), jnp.ones((5, 2, 3))).rows]
    ['hoisted', 'deferred']
    """
    check_fuse("explain", fuse)
    traced = trace(f, init, xs, length, False, 1)
    plan = make_plan(traced, fuse)
    say(plan.says if plan.misfit else "")
    return make_explanation(traced, plan)

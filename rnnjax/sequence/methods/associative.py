"""``method="associative"``: cells linear in time in O(log T) steps, with masks, resets and any start.

The steps of a linear cell are affine maps of the carry, and maps compose: ``jax.lax.associative_scan`` forms all their
prefixes. A step left out is the identity; a step before which the carry is replaced is a constant map, marked by a
flag, and selection (not a product with zero) drops whatever came before it. Cells whose state is a matrix would have
to keep T such matrices: they go in chunks, in parallel inside a chunk and one chunk after the other. That rests on the low rank of
what a chunk writes, ``S_t = a S_0 + sum_s w_s k_s v_s^T``, which a mask or noise on every number of the matrix between two
steps breaks: there the steps of such a cell go in order, with the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, call_step, name_of
from rnnjax.carry_maps import lead
from rnnjax.engine import scan
from rnnjax.protocols import CarriesInChunks, InChunks, is_linear
from rnnjax.sequence.arguments import one_step
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run, backward, outputs_along
from rnnjax.sequence.step import held, select, shown, typed_as


def run(its: Run, options: Options) -> Rolled:
    """One linear cell over all steps."""
    _refuse(its)
    time = jax.tree.leaves(its.steps.x)[0].shape[0]
    if time == 0:
        return _nothing(its)
    if isinstance(its.cell, InChunks) and its.change is not None:
        return _step_by_step(its, options)
    forward = dataclasses.replace(
        its, steps=backward(its.steps, options.reverse), change=backward(its.change, options.reverse)
    )
    size = _chunk_size(its, time, options.checkpoint)
    if options.over is not None:
        begun, last = _handed_over(forward, options.over)
        _, ys, carries = _segment(dataclasses.replace(forward, start=begun))
    elif size is None:
        last, ys, carries = _segment(forward)
    else:
        last, ys, carries = _by_chunks(forward, time, size, options.checkpoint is not None)
    ys, carries = backward((ys, carries), options.reverse)
    return Rolled(last, outputs_along(its, carries, options.reverse) if its.change is not None else ys, carries)


def _refuse(its: Run) -> None:
    whole, cell = name_of(its.whole), name_of(its.cell)
    if not is_linear(its.cell):
        raise ValueError(
            f"{whole}: method='associative' needs a cell that is linear in time, {cell} is not; "
            "rj.cells.catalogue() says which are; use method='scan', or 'deer' for Newton's method"
        )
    if isinstance(its.cell, InChunks) and its.steps.cut is not None:
        raise ValueError(
            f"{whole}: method='associative' takes no truncate for a cell whose state is a matrix; use method='scan'"
        )


def _nothing(its: Run) -> Rolled:
    """No steps: the start, and no outputs."""
    _, y = jax.eval_shape(
        lambda p, c, s: call_step(its.cell, p, c, s.x, s.key), its.params, its.start, one_step(its.steps)
    )
    none = lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype)
    return Rolled(its.start, jax.tree.map(none, y), jax.tree.map(none, its.start))


# -- a whole segment at once -------------------------------------------------------------------------------------------


def _segment(its: Run) -> tuple[Carry, Any, Any]:
    """The last carry, the outputs (None where wrappers change the carry), the carries if wanted; in the order of the run."""
    steps = its.steps
    if isinstance(its.cell, InChunks):
        start = its.start if steps.reset is None else select(steps.reset[0], its.fresh, its.start)  # no NaN gets in
        last, ys = its.cell.run_chunk(its.params, start, its.fresh, steps.x, steps.valid, steps.reset)
        return last, ys, _carries_of_chunk(its, start, last) if its.carries else None
    carries = _carries(its)
    last = jax.tree.map(lambda a: a[-1], carries)
    ys = its.cell.output_of_carry(its.params, carries, steps.x) if its.change is None else None
    return last, ys, carries if its.carries or its.change is not None else None


def _carries_of_chunk(its: Run, start: Carry, last: Carry) -> Carry:
    if not isinstance(its.cell, CarriesInChunks):
        return jax.tree.map(lambda a: a[None], last)  # the chunk is one step
    steps = its.steps
    return its.cell.chunk_carries(its.params, start, its.fresh, steps.x, steps.valid, steps.reset)


def _maps(its: Run) -> Any:
    """What each step does to the carry, steps left out included."""
    maps = its.cell.linear_maps(its.params, its.steps.x).fit(its.start)
    maps = maps if its.change is None else maps.changed(its.change)
    return maps if its.steps.valid is None else maps.widen().hold(its.steps.valid)


def _carries(its: Run) -> Carry:
    """The carry after each step."""
    maps, start, fresh, reset = _maps(its), its.start, its.fresh, its.steps.reset
    cut = _if_valid(its.steps.cut, its.steps.valid)
    if cut is None:
        return prefixes(maps, start, reset, fresh)
    # The same values without gradients first: they are the constants from which each piece starts.
    still, origin = jax.lax.stop_gradient((maps, start))
    seen = jax.lax.stop_gradient(prefixes(still, origin, reset, fresh))
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, seen)
    if reset is None:
        return prefixes(maps, start, cut, jax.lax.stop_gradient(before))
    before = select(reset, _spread(fresh, before), before)
    origin = select(cut, jax.lax.stop_gradient(before), _spread(fresh, before))
    return prefixes(maps, start, jnp.logical_or(*_level(cut, reset)), origin)


def prefixes(elements: Any, start: Carry, restart: jax.Array | None = None, origin: Carry | None = None) -> Carry:
    """The carry after each step from ``start``, with ``origin`` in place of the carry before steps with ``restart``.

    elements: one composable map a step (`rnnjax.carry_maps`), leading axis T. restart: bool ``[T, ...]``.
    """
    first = jax.tree.map(lambda a: a[0], elements)
    if restart is None:
        return _scan(_begin(elements, first.apply(start)), None)
    elements = elements.widen()
    begun = _spread(origin, elements.increment)
    fixed = elements._replace(increment=select(restart, elements.apply(begun), elements.increment))
    start = select(restart[0], jax.tree.map(lambda a: a[0], begun), start)  # first: no NaN gets in, nor into gradients
    return _scan(_begin(fixed, first.apply(start)), restart)


def _begin(elements: Any, opening: Carry) -> Any:
    return elements._replace(increment=jax.tree.map(lambda b, c: b.at[0].set(c), elements.increment, opening))


def _scan(elements: Any, restart: jax.Array | None) -> Carry:
    if restart is None:
        return jax.lax.associative_scan(lambda first, second: first.then(second), elements).increment
    return jax.lax.associative_scan(_then_unless_restarted, (restart, elements))[1].increment


def _then_unless_restarted(first: Any, second: Any) -> Any:
    """Flagged composition: nothing of ``first``, NaN included, goes through a restart in ``second``."""
    (flag_1, map_1), (flag_2, map_2) = first, second
    map_1 = select(flag_2, jax.tree.map(jnp.zeros_like, map_1), map_1)
    return flag_1 | flag_2, map_1.then(map_2)


# -- over devices ------------------------------------------------------------------------------------------------------


def _handed_over(its: Run, axis: str) -> tuple[Carry, Carry]:
    """The carry before this device's steps and the one after the steps of all: each device gives what its steps, as one map, do."""
    restart, maps = its.steps.reset, _maps(its)
    if restart is not None:
        maps = maps.widen()
        from_fresh = maps.apply(_spread(its.fresh, maps.increment))
        maps = maps._replace(increment=select(restart, from_fresh, maps.increment))
    flags = jnp.zeros(len(jax.tree.leaves(its.steps.x)[0]), bool) if restart is None else restart
    whole = jax.tree.map(lambda a: a[-1], jax.lax.associative_scan(_then_unless_restarted, (flags, maps)))
    flags, maps = jax.lax.all_gather(whole, axis)
    carries = [its.start]
    for n in range(len(flags)):
        one, before = jax.tree.map(lambda a: a[n], maps), carries[-1]
        if restart is None:
            carries.append(one.apply(before))
        else:  # what a restart replaces gets into no product, nor into its gradients
            kept = one.apply(select(flags[n], its.fresh, before))
            carries.append(select(flags[n], one.increment, kept))
    begun = jax.tree.map(lambda *leaves: jnp.stack(leaves)[jax.lax.axis_index(axis)], *carries[:-1])
    return begun, carries[-1]


def _if_valid(flags: jax.Array | None, valid: jax.Array | None) -> jax.Array | None:
    """Gradients are not cut at a step left out."""
    return flags if flags is None or valid is None else jnp.logical_and(*_level(valid, flags))


def _spread(carry: Carry, like: Carry) -> Carry:
    return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), carry, like)


def _level(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both with as many axes as the other: flags may have fewer batch axes than one another."""
    return lead(a, max(a.ndim, b.ndim)), lead(b, max(a.ndim, b.ndim))


# -- chunk by chunk ----------------------------------------------------------------------------------------------------


def _chunk_size(its: Run, time: int, checkpoint: int | str | None) -> int | None:
    """None: all at once. One step where carries are wanted of a cell that knows only the last of a chunk."""
    if isinstance(its.cell, InChunks) and its.carries and not isinstance(its.cell, CarriesInChunks):
        return 1
    if checkpoint is None:
        return its.cell.chunk_size if isinstance(its.cell, InChunks) and time > its.cell.chunk_size else None
    return max(1, math.isqrt(time)) if checkpoint == "sqrt" else int(checkpoint)


def _by_chunks(its: Run, time: int, size: int, checkpoint: bool) -> tuple[Carry, Any, Any]:
    """A sequential scan over chunks of ``size`` steps, the last one filled up with steps left out."""
    count = -(-time // size)
    per_step = (its.steps if its.change is None else its.steps._replace(key=None)), its.change
    if count * size > time:
        per_step = _fill(*per_step, time, count * size - time)
    split = jax.tree.map(lambda a: a.reshape(count, size, *a.shape[1:]), per_step)

    def body(carry: Carry, chunk: Any) -> tuple[Carry, Any]:
        last, *out = _segment(dataclasses.replace(its, start=carry, steps=chunk[0], change=chunk[1]))
        return last, tuple(out)

    last, out = jax.lax.scan(jax.checkpoint(body) if checkpoint else body, its.start, split)
    return last, *jax.tree.map(lambda y: y.reshape(count * size, *y.shape[2:])[:time], out)


def _fill(steps: Any, change: Any, time: int, extra: int) -> Any:
    valid = jnp.ones(time, bool) if steps.valid is None else steps.valid
    steps = steps._replace(valid=valid, key=None)
    return jax.tree.map(lambda a: jnp.pad(a, ((0, extra),) + ((0, 0),) * (a.ndim - 1)), (steps, change))


# -- step by step ------------------------------------------------------------------------------------------------------


def _step_by_step(its: Run, options: Options) -> Rolled:
    """The loop with the change of the carry round each step."""

    def body(old: Carry, of_step: Any) -> tuple[Carry, Carry]:
        step, change = of_step
        before = held(old, step, its.fresh)
        carry = shown(before, step, its.fresh)
        new, _ = call_step(its.cell, its.params, change.seen(carry), step.x, step.key)
        new = jax.tree.map(typed_as, change.around_step(carry, new), its.start)
        new = new if step.valid is None else select(step.valid, new, before)
        return new, new

    steps = its.steps, its.change
    last, carries = scan(body, its.start, steps, reverse=options.reverse, checkpoint=options.checkpoint)
    return Rolled(last, outputs_along(its, carries, options.reverse), carries)

"""``method="associative"``: cells linear in time in O(log T) steps, with masks, resets and any start.

The steps of a linear cell are affine maps of the carry, and maps compose: ``jax.lax.associative_scan`` forms all their
prefixes. A step left out is the identity; a step before which the carry is replaced is a constant map, marked by a
flag, and selection (not a product with zero) drops whatever came before it. Cells whose state is a matrix would have
to keep T such matrices: they go in chunks, in parallel inside a chunk and one chunk after the other.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.base import cell as as_cell
from rnnjax.carry_maps import lead
from rnnjax.protocols import InChunks, SeveralLayers, is_linear
from rnnjax.unroll import Step, one_step, select, start_carry, zero_invalid
from rnnjax.unroll import roll as roll_any
from rnnjax.wrappers.learned_carry import LearnedCarry


def roll(
    cell: Any, params: Params, carry: Carry | None, steps: Step, time: int, how: dict[str, Any]
) -> tuple[Carry, Any]:
    """What `rnnjax.unroll` does for ``method="associative"``."""
    inner, inner_params = linear_part(cell, params)
    _refuse(cell, inner, steps, how)
    start, fresh = start_carry(cell, params, carry, steps)
    if time == 0:
        return start, _no_outputs(cell, params, start, steps)
    if isinstance(inner, SeveralLayers):  # a stack inside wrappers
        last, ys = roll_any(inner, inner_params, start, steps._replace(key=None), time, "associative", how)
    else:
        last, ys = _roll_linear(inner, inner_params, start, fresh, steps, time, how)
    return last, zero_invalid(cell, ys if inner is cell else _wrap_outputs(cell, params, ys, steps), steps.valid)


def _roll_linear(
    cell: Any, params: Params, start: Carry, fresh: Carry, steps: Step, time: int, how: dict[str, Any]
) -> tuple[Carry, Any]:
    steps = jax.tree.map(lambda a: jnp.flip(a, 0), steps) if how["reverse"] else steps
    size = _chunk_size(cell, time, how["checkpoint"])
    if size is None:
        last, ys = _segment(cell, params, fresh, start, steps)
    else:
        last, ys = _by_chunks(cell, params, fresh, start, steps, time, size, how["checkpoint"] is not None)
    return last, jax.tree.map(lambda y: jnp.flip(y, 0), ys) if how["reverse"] else ys


# -- inside wrappers ---------------------------------------------------------------------------------------------------


def linear_part(cell: Any, params: Params) -> tuple[Any, Params]:
    """The cell and its params inside wrappers that change neither carry nor input: those with ``inner(params)``."""
    while hasattr(cell, "inner"):
        cell, params = cell.inner(params)
    return cell, params


def _wrap_outputs(cell: Any, params: Params, ys: Any, steps: Step) -> Any:
    """What the wrappers make of the inner cell's outputs: their own step, round a stand-in that puts out what is known."""
    stand_in = _round(cell)
    return jax.vmap(lambda y, x, key: call_step(stand_in, params, (None, y), x, key)[1])(ys, steps.x, steps.key)


@as_cell
class _Known:
    """The stand-in: its "carry" is the pair that the inner step returned."""

    def init(self, key: jax.Array, x: Any) -> Params:
        return {}

    def initial_carry(self, params: Params, x: Any) -> Carry:
        return None

    def __call__(self, params: Params, carry: Any, x: Any, key: Any = None) -> Any:
        return carry


def _round(cell: Any) -> Any:
    """The same wrappers round the stand-in."""
    return dataclasses.replace(cell, cell=_round(cell.cell)) if hasattr(cell, "inner") else _Known()


# -- which cells -------------------------------------------------------------------------------------------------------


def _refuse(cell: Any, inner: Any, steps: Step, how: dict[str, Any]) -> None:
    layers = isinstance(inner, SeveralLayers)
    if layers and steps.reset is not None and inner is not cell and _has_own_start(cell):
        raise ValueError(
            f"{name_of(cell)}: method='associative' takes no reset for a learned start round several layers; "
            "put LearnedCarry round each layer, or use method='scan'"
        )
    if not (is_linear(inner) or layers):
        raise ValueError(
            f"{name_of(cell)}: method='associative' needs a cell that is linear in time, {name_of(inner)} is not; "
            "rj.cells.catalogue() says which are; use method='scan', or 'deer' for Newton's method"
        )
    if how["matmul_dtype"] is not None:
        raise ValueError(
            f"{name_of(cell)}: method='associative' takes no matmul_dtype, got {how['matmul_dtype']}; "
            "cast params and xs, or use method='scan'"
        )
    if steps.cut is not None and isinstance(inner, InChunks):
        raise ValueError(
            f"{name_of(cell)}: method='associative' takes no truncate for a cell whose state is a matrix; "
            "use method='scan'"
        )


def _has_own_start(cell: Any) -> bool:
    return isinstance(cell, LearnedCarry) or (hasattr(cell, "inner") and _has_own_start(cell.cell))


def _no_outputs(cell: Any, params: Params, start: Carry, steps: Step) -> Any:
    _, y = jax.eval_shape(lambda p, c, s: call_step(cell, p, c, s.x), params, start, one_step(steps))
    return jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), y)


# -- a whole segment at once -------------------------------------------------------------------------------------------


def _segment(cell: Any, params: Params, fresh: Carry, start: Carry, steps: Step) -> tuple[Carry, Any]:
    if isinstance(cell, InChunks):
        return cell.run_chunk(params, start, fresh, steps.x, steps.valid, _if_valid(steps.reset, steps))
    carries = _carries(cell, params, fresh, start, steps)
    return jax.tree.map(lambda a: a[-1], carries), cell.output_of_carry(params, carries, steps.x)


def _carries(cell: Any, params: Params, fresh: Carry, start: Carry, steps: Step) -> Carry:
    """The carry after each step."""
    elements = cell.linear_maps(params, steps.x).fit(start)
    reset = _if_valid(steps.reset, steps)
    if steps.valid is not None:
        elements = elements.widen().hold(steps.valid)
    cut = _if_valid(steps.cut, steps)
    if cut is None:
        return prefixes(elements, start, reset, fresh)
    # The same values without gradients first: they are the constants from which each piece starts.
    still, origin = jax.lax.stop_gradient((elements, start))
    seen = jax.lax.stop_gradient(prefixes(still, origin, reset, fresh))
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, seen)
    if reset is None:
        return prefixes(elements, start, cut, jax.lax.stop_gradient(before))
    before = select(reset, _spread(fresh, before), before)
    origin = select(cut, jax.lax.stop_gradient(before), _spread(fresh, before))
    return prefixes(elements, start, jnp.logical_or(*_level(cut, reset)), origin)


def prefixes(elements: Any, start: Carry, restart: jax.Array | None = None, origin: Carry | None = None) -> Carry:
    """The carry after each step from ``start``, with ``origin`` in place of the carry before steps with ``restart``.

    elements: one composable map a step (`rnnjax.cells.shared.recurrence`), leading axis T. restart: bool ``[T, ...]``.
    """
    first = jax.tree.map(lambda a: a[0], elements)
    if restart is None:
        return _scan(_begin(elements, first.apply(start)), None)
    elements = elements.widen()
    from_origin = elements.apply(_spread(origin, elements.increment))
    fixed = elements._replace(increment=select(restart, from_origin, elements.increment))
    opening = select(restart[0], jax.tree.map(lambda a: a[0], fixed.increment), first.apply(start))
    return _scan(_begin(fixed, opening), restart)


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


def _if_valid(flags: jax.Array | None, steps: Step) -> jax.Array | None:
    """A step left out is left out altogether, its reset and its cut too."""
    return flags if flags is None or steps.valid is None else jnp.logical_and(*_level(steps.valid, flags))


def _spread(carry: Carry, like: Carry) -> Carry:
    return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), carry, like)


def _level(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both with as many axes as the other: flags may have fewer batch axes than one another."""
    return lead(a, max(a.ndim, b.ndim)), lead(b, max(a.ndim, b.ndim))


# -- chunk by chunk ----------------------------------------------------------------------------------------------------


def _chunk_size(cell: Any, time: int, checkpoint: int | str | None) -> int | None:
    """None: all at once."""
    if checkpoint is None:
        return cell.chunk_size if isinstance(cell, InChunks) and time > cell.chunk_size else None
    if checkpoint == "sqrt":
        return max(1, math.isqrt(time))
    if not isinstance(checkpoint, int) or isinstance(checkpoint, bool) or checkpoint < 1:
        raise ValueError(f'{name_of(cell)}: checkpoint must be None, a segment length or "sqrt", got {checkpoint!r}')
    return checkpoint


def _by_chunks(
    cell: Any, params: Params, fresh: Carry, start: Carry, steps: Step, time: int, size: int, checkpoint: bool
) -> tuple[Carry, Any]:
    """A sequential scan over chunks of ``size`` steps, the last one filled up with steps left out."""
    count = -(-time // size)
    if count * size > time:
        steps = _fill(steps, time, count * size - time)
    split = jax.tree.map(lambda a: a.reshape(count, size, *a.shape[1:]), steps)

    def body(carry: Carry, chunk: Step) -> tuple[Carry, Any]:
        return _segment(cell, params, fresh, carry, chunk)

    last, ys = jax.lax.scan(jax.checkpoint(body) if checkpoint else body, start, split)
    return last, jax.tree.map(lambda y: y.reshape(count * size, *y.shape[2:])[:time], ys)


def _fill(steps: Step, time: int, extra: int) -> Step:
    valid = jnp.ones(time, bool) if steps.valid is None else steps.valid
    steps = steps._replace(valid=valid, key=None)
    return jax.tree.map(lambda a: jnp.pad(a, ((0, extra),) + ((0, 0),) * (a.ndim - 1)), steps)

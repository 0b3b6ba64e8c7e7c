"""Where a run starts: the carry before the first step, and the one that a reset restores, in the types that a loop keeps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as, place_batch_as, step_type, vary_over, varying_axes
from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.protocols import OwnStart, input_axes
from rnnjax.sequence.arguments import Steps, one_step
from rnnjax.sequence.step import typed_as


def start_carry(cell: Any, params: Params, carry: Carry | None, steps: Steps) -> tuple[Carry, Carry]:
    """The carry to start from and the one that a reset restores, both in the dtype the loop keeps."""
    has_own = isinstance(cell, OwnStart)
    if carry is None and not has_own:
        raise ValueError(f"{name_of(cell)}: a bare function has no initial carry; pass carry= to unroll")
    need_own = has_own and (carry is None or steps.reset is not None)
    own = cell.initial_carry(params, _blank_step(steps.x)) if need_own else None
    given = carry if carry is not None else own
    start = jax.tree.map(lambda a: _beside(cell, jnp.asarray(a), steps.x), given)
    start = _settle(cell, params, start, one_step(steps), steps.valid if steps.valid is not None else steps.reset)
    axes = varying_axes(*jax.tree.leaves((params, start, steps)))
    start = jax.tree.map(lambda a: vary_over(jax.lax.convert_element_type(a, a.dtype), axes), start)  # no weak types
    fresh = start if own is None else jax.tree.map(typed_as, _like_tree(cell, own, start), start)
    return start, fresh


def _beside(cell: Any, leaf: jax.Array, xs: Any) -> jax.Array:
    """A part of the carry with the batch axes of x, split over devices as those of x are."""
    x = step_type(jax.tree.leaves(xs)[0])
    batch = x.ndim - min(x.ndim, input_axes(cell))
    return place_batch_as(leaf, x, batch) if leaf.shape[:batch] == x.shape[:batch] else leaf


def _like_tree(cell: Any, own: Carry, start: Carry) -> Carry:
    if jax.tree.structure(own) != jax.tree.structure(start):
        raise ValueError(
            f"{name_of(cell)}: carry must have the structure of its initial carry, {jax.tree.structure(own)}, "
            f"got {jax.tree.structure(start)}"
        )
    return own


def _blank_step(xs: Any) -> Any:
    """One step's input of the right shape with nothing in it: the start must not depend on what x says."""

    def blank(x: jax.Array) -> jax.Array:
        return x[0] if jnp.issubdtype(x.dtype, jax.dtypes.extended) else jnp.zeros(x.shape[1:], x.dtype)

    return jax.tree.map(blank, xs)


def _settle(cell: Any, params: Params, start: Carry, step: Steps, flags: jax.Array | None) -> Carry:
    """``start`` in the dtype and the place that the step's carry has, so that the loop keeps one type; checks structure
    and shapes. One part may bring the next to a wider dtype, so until nothing changes."""
    while True:
        out = jax.eval_shape(lambda p, c, s: call_step(cell, p, c, s.x, s.key), params, start, step)
        if not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(f"{name_of(cell)}: a step must return (carry, y), got {jax.tree.structure(out)}")
        _check_same(cell, start, out[0])
        before, start = start, jax.tree.map(_moved_to, start, out[0])
        if all(a is b for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(start), strict=True)):
            break
    if flags is not None:
        _check_batched(cell, start, flags.shape[1:])
    return start


def _moved_to(a: jax.Array, b: Any) -> jax.Array:
    """``a`` as ``b`` needs it; ``a`` itself where that is so already."""
    dtype = _promoted(a, b)
    return place_as(a if a.dtype == dtype else a.astype(dtype), b)


def _promoted(a: jax.Array, b: Any) -> Any:
    if a.dtype == b.dtype or jnp.issubdtype(a.dtype, jax.dtypes.extended):
        return a.dtype
    if a.weak_type:  # a Python number as a start takes the step's dtype
        return b.dtype
    return jnp.promote_types(a.dtype, b.dtype)


def _check_same(cell: Any, start: Carry, out: Carry) -> None:
    if jax.tree.structure(start) != jax.tree.structure(out):
        raise ValueError(
            f"{name_of(cell)}: a step must return a carry of the structure it got, {jax.tree.structure(start)}, "
            f"got {jax.tree.structure(out)}; check the carry= you gave and the order (carry, y)"
        )
    for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(out), strict=True):
        if a.shape != b.shape:
            raise ValueError(
                f"{name_of(cell)}: the carry must keep its shape, started as {a.shape}, a step made it {b.shape}; "
                "check that the start carry has the batch axes of xs"
            )


def _check_batched(cell: Any, carry: Carry, batch: tuple[int, ...]) -> None:
    for leaf in jax.tree.leaves(carry):
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"{name_of(cell)}: with lengths, mask or reset of batch shape {batch} every part of the carry must lead with "
                f"these axes, got a part of shape {leaf.shape}"
            )

"""One step under resets, cuts and masks: the one definition that every method obeys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as, vary_over, varying_axes
from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.carry_maps import lead
from rnnjax.sequence.arguments import Steps


def loop_body(cell: Any, params: Params, start: Carry, fresh: Carry) -> Callable[[Carry, Steps], tuple[Carry, Any]]:
    """``(carry, step) -> (carry, y)``: a step of the cell as a loop runs it, in the dtypes and the place of ``start``."""

    def body(old: Carry, step: Steps) -> tuple[Carry, Any]:
        before = held(old, step, fresh)
        new, y = call_step(cell, params, shown(before, step, fresh), step.x, step.key)
        new = jax.tree.map(typed_as, new, start)
        return (new if step.valid is None else select(step.valid, new, before)), y

    return body


def held(old: Carry, step: Steps, fresh: Carry) -> Carry:
    """The carry before a step, which a step left out keeps: the fresh one at a reset."""
    return old if step.reset is None else select(step.reset, fresh, old)


def shown(before: Carry, step: Steps, fresh: Carry) -> Carry:
    """The carry that the cell sees. Where the step is left out that is the fresh one, if there are resets: a NaN that waits
    there for its reset reaches no gradient."""
    if step.reset is not None and step.valid is not None:
        before = select(step.valid, before, fresh)
    return before if step.cut is None else select(step.cut, jax.lax.stop_gradient(before), before)


def select(flag: jax.Array, yes: Any, no: Any) -> Any:
    """``yes`` where ``flag [*B]``, else ``no``: by selection, so that a NaN on the other side does not come through."""
    return jax.tree.map(lambda a, b: jnp.where(lead(flag, jnp.ndim(b)), a, b), yes, no)


def typed_as(a: Any, like: jax.Array) -> jax.Array:
    """``a`` in the dtype of ``like``, placed as ``like`` and differing between devices where it does."""
    a = a if getattr(a, "dtype", None) == like.dtype else jnp.asarray(a).astype(like.dtype)
    return place_as(vary_over(a, varying_axes(like)), like)


def zero_invalid(cell: Any, ys: Any, valid: jax.Array | None) -> Any:
    """Outputs of steps left out are zeros."""
    if valid is None:
        return ys
    for y in jax.tree.leaves(ys):
        if y.shape[: valid.ndim] != valid.shape:
            raise ValueError(
                f"{name_of(cell)}: with lengths or mask {valid.shape[1:]} every output must lead with these batch axes, "
                f"got an output of shape {y.shape[1:]} per step"
            )
    return select(valid, ys, jax.tree.map(jnp.zeros_like, ys))

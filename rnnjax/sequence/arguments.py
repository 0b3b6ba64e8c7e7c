"""The arguments of `unroll`, read and checked: what each step reads, with time first."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import step_type
from rnnjax.base import Key, name_of
from rnnjax.carry_maps import lead


class Steps(NamedTuple):
    """What the steps read, each with a leading time axis (without it: one step); None where the option is not used.

    reset is in the order of time: where it is set, the carry before that step, in the order of the run, becomes the fresh one.
    """

    x: Any
    key: Any = None
    valid: Any = None  # False: leave the carry as it is
    reset: Any = None  # True: start from the initial carry
    cut: Any = None  # True: no gradient into the carry


def read_steps(
    cell: Any,
    xs: Any,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    time_axis: int = 0,
    key: Key = None,
    truncate: int | None = None,
) -> tuple[Steps, int]:
    """What each step reads, and how many steps there are."""
    xs, time = read_time(cell, xs, time_axis)
    valid = read_valid(cell, xs, time, lengths, mask, time_axis)
    steps = Steps(
        x=_blank_out(xs, valid),
        key=None if key is None else jax.random.split(key, time),
        valid=valid,
        reset=_resets(cell, reset, xs, time, lengths, reverse, time_axis),
        cut=_cuts(cell, truncate, time, reverse, lengths),
    )
    return steps, time


def one_step(steps: Steps) -> Steps:
    """Types of a single step, as ShapeDtypeStructs."""
    return jax.tree.map(step_type, steps)


def read_time(cell: Any, xs: Any, time_axis: int) -> tuple[Any, int]:
    """``xs`` with time first, and the number of steps."""
    if not isinstance(time_axis, int) or isinstance(time_axis, bool) or time_axis < 0:
        raise ValueError(f"unroll: time_axis must be an int counted from the front (0 or 1), got {time_axis!r}")
    leaves = jax.tree.leaves(xs)
    if not leaves:
        raise ValueError(
            f"{name_of(cell)}: xs has no arrays, so the number of steps is unknown; use rj.scan with length="
        )
    for x in leaves:
        if not (hasattr(x, "shape") and hasattr(x, "dtype")):
            raise TypeError(f"{name_of(cell)}: xs must hold arrays [T, *B, I], got {type(x).__name__}; use jnp.asarray")
        if x.ndim <= time_axis:
            raise ValueError(
                f"{name_of(cell)}: xs of shape {x.shape} has no time axis {time_axis}; expected [T, *B, I]"
            )
    sizes = {x.shape[time_axis] for x in leaves}
    if len(sizes) > 1:
        raise ValueError(f"{name_of(cell)}: the arrays in xs disagree on the number of steps: {sorted(sizes)}")
    return jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), time_axis, 0), xs), sizes.pop()


def read_valid(cell: Any, xs: Any, time: int, lengths: Any, mask: Any, time_axis: int) -> jax.Array | None:
    """``[T, *B]``: which steps count, by the mask and the lengths both."""
    return both(_flags(cell, "mask", mask, xs, time, time_axis), _inside(cell, xs, time, lengths))


def both(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
    """Where both flags are set; one may have fewer batch axes than the other. None is set everywhere."""
    if a is None or b is None:
        return b if a is None else a
    ndim = max(a.ndim, b.ndim)
    return lead(a, ndim) & lead(b, ndim)


def _inside(cell: Any, xs: Any, time: int, lengths: Any) -> jax.Array | None:
    """``[T, *B]``: which steps lie within the lengths."""
    if lengths is None:
        return None
    lengths = _lengths(cell, lengths, xs, time)
    return lead(jnp.arange(time), 1 + lengths.ndim) < lengths[None]


def _resets(cell: Any, reset: Any, xs: Any, time: int, lengths: Any, reverse: bool, time_axis: int) -> jax.Array | None:
    """Flag t says that nothing crosses from step t-1 to step t: read backward, that is before step t-1. Beyond a length: nothing."""
    if reset is None:
        return None
    flags = both(_flags(cell, "reset", reset, xs, time, time_axis), _inside(cell, xs, time, lengths))
    assert flags is not None
    return jnp.concatenate([flags[1:], jnp.zeros_like(flags[:1])]) if reverse else flags


def _flags(cell: Any, name: str, flags: Any, xs: Any, time: int, time_axis: int) -> jax.Array | None:
    """A bool array ``[T, *B]`` from the user's ``mask`` or ``reset``."""
    if flags is None:
        return None
    flags = jnp.asarray(flags)
    if not (flags.dtype == jnp.bool_ or jnp.issubdtype(flags.dtype, jnp.integer)):
        raise TypeError(f"{name_of(cell)}: {name} must be bool [T, *B], got dtype {flags.dtype}; write `{name} > 0`")
    if flags.ndim <= time_axis or flags.shape[time_axis] != time:
        raise ValueError(
            f"{name_of(cell)}: {name} must be [T, *B] with T={time} at axis {time_axis}, got shape {flags.shape}"
        )
    flags = jnp.moveaxis(flags, time_axis, 0).astype(bool)
    _check_batch_axes(cell, name, flags.shape[1:], xs)
    return flags


def _lengths(cell: Any, lengths: Any, xs: Any, time: int) -> jax.Array:
    known = isinstance(lengths, (int, list, tuple, np.ndarray))  # on the host already: reading it costs nothing
    array = jnp.asarray(lengths)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name_of(cell)}: lengths must be integers [*B], got dtype {array.dtype}")
    _check_batch_axes(cell, "lengths", array.shape, xs)
    if known and np.size(lengths) and (np.min(lengths) < 0 or np.max(lengths) > time):
        raise ValueError(f"{name_of(cell)}: lengths must lie in 0..T={time}, got {np.min(lengths)}..{np.max(lengths)}")
    return array.astype(jnp.arange(0).dtype)  # the steps are counted in it


def _check_batch_axes(cell: Any, name: str, batch: tuple[int, ...], xs: Any) -> None:
    for x in jax.tree.leaves(xs):
        if x.shape[1 : 1 + len(batch)] != batch:
            raise ValueError(
                f"{name_of(cell)}: {name} has batch axes {batch}, which xs of shape {x.shape} (time first) does not have"
            )


def _blank_out(xs: Any, valid: jax.Array | None) -> Any:
    """Zeros in place of what lies in padding: junk there must not reach values, nor gradients as 0 * NaN."""
    if valid is None:
        return xs

    def blank(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.extended):
            return x
        return jnp.where(lead(valid, x.ndim), x, jnp.zeros_like(x))

    return jax.tree.map(blank, xs)


def _cuts(cell: Any, every: int | None, time: int, reverse: bool, lengths: Any) -> jax.Array | None:
    """Where gradients stop: before every k-th step, counted in the order in which each sequence is read."""
    if every is None:
        return None
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(f"{name_of(cell)}: truncate must be None or an int of at least 1 step, got {every!r}")
    t = jnp.arange(time)
    if reverse:
        last = jnp.asarray(time if lengths is None else lengths).astype(t.dtype) - 1
        t = last[None] - lead(t, 1 + last.ndim)
    return (t % every == 0) & (t > 0)

"""`rj.unroll`: roll a cell over time with exact sequence semantics."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import place_as, place_batch_as, step_type, vary_over, varying_axes
from rnnjax.base import Carry, Key, Params, call_step, check_choice, name_of, sequence_key
from rnnjax.engine import Tuned, check_fuse, scan
from rnnjax.protocols import SeveralLayers, input_axes, prepare

METHODS = ("scan", "loop", "associative", "deer", "quasi_deer", "elk")


class Step(NamedTuple):
    """What one step reads, each with a leading time axis in the loop; None where the option is not used."""

    x: Any
    key: Any = None
    valid: Any = None  # False: leave the carry as it is
    reset: Any = None  # True: start from the initial carry
    cut: Any = None  # True: no gradient into the carry


def unroll(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    time_axis: int = 0,
    key: Key = None,
    unroll: int = 1,
    checkpoint: int | str | None = None,
    truncate: int | None = None,
    matmul_dtype: Any = None,
    method: str = "scan",
    fuse: bool | str | Tuned = True,
) -> tuple[Carry, Any]:
    """Rolls ``cell`` over the time axis of ``xs`` and returns ``(last carry, ys)``, as `jax.lax.scan` does.

    ``carry_t, y_t = cell(params, carry_{t-1}, x_t)`` for t = 0 .. T-1.

    cell: anything with the step signature ``(params, carry, x) -> (carry, y)``; a bare function needs ``carry``.
    xs: ``[T, *B, I]`` (any pytree of such). ys: ``[T, *B, O]``.
    carry: where to start; default the cell's initial carry. Hand the returned carry on to go on with a stream.
    lengths: int ``[*B]``; steps ``t >= length`` leave the carry as it is and output zeros. Length 0 returns the start.
    mask: bool ``[T, *B]``; the same for any pattern of steps. With lengths, both must hold.
    reset: bool ``[T, *B]``; before step t the carry becomes the cell's initial carry (for a bare function: ``carry``).
        A step that is masked out is left out altogether, its reset too.
    reverse: run from the end of each sequence; with lengths the last valid step is read first. ys keep the input order.
    time_axis: 0 reads and writes ``[T, *B, I]``, 1 ``[B, T, I]``; mask and reset have their time axis at the same place.
    key: for cells with noise, split per step before the loop (and once for noise that stays the same over the sequence);
        none means deterministic.
    unroll: steps per loop iteration, as in `jax.lax.scan`.
    checkpoint: None, a segment length or "sqrt": same values and gradients, less memory, one more forward pass.
    truncate: gradients stop at every k-th step counted from where the run starts; values unchanged.
    matmul_dtype: operands of products with weights in this dtype, sums in float32; everything else unchanged.
    method: "scan", "loop" (a plain Python loop, the definition), "associative" (cells linear in time), "deer",
        "quasi_deer", "elk" (Newton's method in parallel over time, any cell: `rnnjax.parallel.newton`).
    fuse: for method="scan", as in `rnnjax.scan`: how the loop is taken apart, or a plan of `rnnjax.tune` for the bare step,
        ``rj.tune(lambda h, x: cell(params, h, x), carry, xs)``; layers of a stack that differ in size act as fuse=True, with
        a warning each.

    What lies in masked steps, NaN included, changes nothing: neither values nor gradients.
    Errors: ValueError/TypeError naming the cell, the argument, what was expected and what came, at trace time.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> def decay(params, carry, x):
    ...     carry = params["keep"] * carry + x
    ...     return carry, carry
    >>> carry, ys = rj.unroll(decay, {"keep": 0.5}, jnp.ones((3, 1)), carry=jnp.zeros(1))
    >>> ys[:, 0].tolist()
    [1.0, 1.5, 1.75]
    """
    check_choice("unroll", "method", method, METHODS)
    _check_fuse(cell, fuse, method)
    _check_checkpoint(cell, checkpoint)
    params, steps, time = prepared_steps(
        cell, params, xs, lengths=lengths, mask=mask, reset=reset, reverse=reverse, time_axis=time_axis, key=key,
        truncate=truncate,
    )  # fmt: skip
    how = dict(reverse=reverse, unroll=unroll, checkpoint=checkpoint, matmul_dtype=matmul_dtype, fuse=fuse)
    carry, ys = roll(cell, params, carry, steps, time, method, how)
    return carry, jax.tree.map(lambda y: jnp.moveaxis(y, 0, time_axis), ys) if time_axis else ys


def last_output(ys: Any, *, lengths: Any = None, mask: Any = None, time_axis: int = 0, reverse: bool = False) -> Any:
    """The output of the valid step that was read last, for every sequence; zeros where there is none.

    ``y = ys[t*]`` with ``t*`` the last t that is valid, or with ``reverse`` the first: what reads backward ends there.
    ``ys[-1]`` is that only for whole sequences that are read forward.

    ys: ``[T, *B, O]`` (any pytree of such), as `unroll` returns them. Returns ``[*B, O]``.
    lengths ``[*B]``, mask ``[T, *B]``, time_axis, reverse: as for the `unroll` that made ys. Of `Bidirectional` with
        ``merge=None`` take each half by its own direction.
    Errors: ValueError/TypeError as for `unroll`. What lies in other steps, NaN included, changes nothing.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> ys = jnp.arange(6.0).reshape(3, 2, 1)
    >>> rj.last_output(ys, lengths=jnp.array([2, 0]))[:, 0].tolist()
    [2.0, 0.0]
    >>> rj.last_output(ys, reverse=True)[:, 0].tolist()
    [0.0, 1.0]
    """
    ys, time = _read_time(last_output, ys, time_axis)
    valid = _validity(last_output, ys, time, lengths, mask, time_axis)
    if valid is None or not time:
        return jax.tree.map(lambda y: y[0 if reverse else -1] if time else jnp.zeros(y.shape[1:], y.dtype), ys)
    seen = jnp.cumsum(valid if reverse else jnp.flip(valid, 0), 0)
    last = valid & ((seen if reverse else jnp.flip(seen, 0)) == 1)  # counted from the end

    def pick(y: jax.Array) -> jax.Array:
        kept = select(last, y, jnp.zeros_like(y))
        return jnp.any(kept, 0) if y.dtype == bool else jnp.sum(kept, 0, dtype=y.dtype)

    return jax.tree.map(pick, ys)


def prepared_steps(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    time_axis: int = 0,
    key: Key = None,
    truncate: int | None = None,
) -> tuple[Params, Step, int]:
    """The arguments of `unroll` read and checked: params of this sequence, what each step reads (time first), how many."""
    xs, time = _read_time(cell, xs, time_axis)
    valid = _validity(cell, xs, time, lengths, mask, time_axis)
    steps = Step(
        x=_blank_out(xs, valid),
        key=None if key is None else jax.random.split(key, time),
        valid=valid,
        reset=_flags(cell, "reset", reset, xs, time, time_axis),
        cut=_cuts(cell, truncate, time, reverse, lengths),
    )
    return prepare(cell, params, sequence_key(key), one_step(steps).x), steps, time


def roll(
    cell: Any, params: Params, carry: Carry | None, steps: Step, time: int, method: str, how: dict[str, Any]
) -> Any:
    """Runs prepared steps: layer by layer for cells of several layers, else in one loop."""
    if isinstance(cell, SeveralLayers) and method != "loop":
        return _layer_by_layer(cell, params, carry, steps, time, method, how)
    if method == "associative":
        return importlib.import_module("rnnjax.parallel.associative").roll(cell, params, carry, steps, time, how)
    if method in ("deer", "quasi_deer", "elk"):
        return importlib.import_module("rnnjax.parallel.newton").roll(cell, params, carry, steps, time, method, how)
    start, fresh = start_carry(cell, params, carry, steps)
    body = loop_body(cell, params, fresh, start)
    if method == "loop":
        last, ys = _python_loop(body, start, steps, time, how["reverse"])
    else:
        last, ys = scan(body, start, steps, **how)  # the length is that of xs, which may be symbolic
    return last, zero_invalid(cell, ys, steps.valid)


def _layer_by_layer(
    cell: SeveralLayers, params: Params, carry: Carry | None, steps: Step, time: int, method: str, how: dict[str, Any]
) -> Any:
    """Each layer over the whole sequence in turn: the same numbers, and every layer's input products in one."""
    layers = cell.layers_inside()
    starts = (None,) * len(layers) if carry is None else cell.carries_of_layers(carry)
    keys = (None,) * len(layers) if steps.key is None else jax.vmap(cell.keys_of_layers)(steps.key)
    ends, xs = [], steps.x
    for layer, its, start, key in zip(layers, cell.params_of_layers(params), starts, keys, strict=True):
        end, xs = roll(layer, its, start, steps._replace(x=xs, key=key), time, method, how)
        ends.append(end)
    return cell.carry_of_layers(tuple(ends)), xs


# -- the loop body -----------------------------------------------------------------------------------------------------


def loop_body(cell: Any, params: Params, fresh: Carry, start: Carry) -> Any:
    """One step under resets, cuts and masks, as a body for a loop."""

    def body(old: Carry, step: Step) -> tuple[Carry, Any]:
        carry = old
        if step.reset is not None:
            carry = select(_restarts(step), fresh, carry)
        if step.cut is not None:
            carry = select(step.cut, jax.lax.stop_gradient(carry), carry)
        new, y = call_step(cell, params, carry, step.x, step.key)
        new = jax.tree.map(_typed_as, new, start)
        return (new if step.valid is None else select(step.valid, new, old)), y

    return body


def _restarts(step: Step) -> jax.Array:
    """Where the cell sees the fresh carry: at resets, and where the step is left out, so that a NaN waiting there for its
    reset reaches no gradient."""
    if step.valid is None:
        return step.reset
    ndim = max(step.reset.ndim, step.valid.ndim)
    reset, valid = (f.reshape(f.shape + (1,) * (ndim - f.ndim)) for f in (step.reset, step.valid))
    return reset | ~valid


def _python_loop(body: Any, carry: Carry, steps: Step, time: int, reverse: bool) -> tuple[Carry, Any]:
    """The slow, obvious definition that every other method is tested against."""
    ys: list[Any] = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        carry, ys[t] = body(carry, jax.tree.map(lambda a, t=t: a[t], steps))
    if time:
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)
    _, y = jax.eval_shape(body, carry, one_step(steps))
    return carry, jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), y)


def select(flag: jax.Array, yes: Any, no: Any) -> Any:
    """``yes`` where ``flag [*B]``, else ``no``: by selection, so that a NaN on the other side does not come through."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(jnp.reshape(flag, flag.shape + (1,) * (jnp.ndim(b) - flag.ndim)), a, b)

    return jax.tree.map(pick, yes, no)


def _typed_as(a: Any, like: jax.Array) -> jax.Array:
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


# -- where to start ----------------------------------------------------------------------------------------------------


def one_step(steps: Step) -> Step:
    """Types of a single step, as ShapeDtypeStructs."""
    return jax.tree.map(step_type, steps)


def start_carry(cell: Any, params: Params, carry: Carry | None, steps: Step) -> tuple[Carry, Carry]:
    """The carry to start from and the one that a reset restores, both in the dtype the loop keeps."""
    has_own = hasattr(cell, "initial_carry")
    if carry is None and not has_own:
        raise ValueError(f"{name_of(cell)}: a bare function has no initial carry; pass carry= to unroll")
    need_own = has_own and (carry is None or steps.reset is not None)
    own = cell.initial_carry(params, _blank_step(steps.x)) if need_own else None
    given = carry if carry is not None else own
    start = jax.tree.map(lambda a: _beside(cell, jnp.asarray(a), steps.x), given)
    start = _settle(cell, params, start, one_step(steps), steps.valid if steps.valid is not None else steps.reset)
    axes = varying_axes(*jax.tree.leaves((params, start, steps)))
    start = jax.tree.map(lambda a: vary_over(jax.lax.convert_element_type(a, a.dtype), axes), start)  # no weak types
    fresh = start if own is None else jax.tree.map(_typed_as, _like_tree(cell, own, start), start)
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


def _settle(cell: Any, params: Params, start: Carry, step: Step, flags: jax.Array | None) -> Carry:
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


# -- reading the arguments ---------------------------------------------------------------------------------------------


def _read_time(cell: Any, xs: Any, time_axis: int) -> tuple[Any, int]:
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


def _validity(cell: Any, xs: Any, time: int, lengths: Any, mask: Any, time_axis: int) -> jax.Array | None:
    valid = _flags(cell, "mask", mask, xs, time, time_axis)
    if lengths is None:
        return valid
    lengths = _lengths(cell, lengths, xs, time)
    inside = jnp.arange(time).reshape((time,) + (1,) * lengths.ndim) < lengths
    return inside if valid is None else inside & valid


def _lengths(cell: Any, lengths: Any, xs: Any, time: int) -> jax.Array:
    known = isinstance(lengths, (int, list, tuple, np.ndarray))  # on the host already: reading it costs nothing
    array = jnp.asarray(lengths)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name_of(cell)}: lengths must be integers [*B], got dtype {array.dtype}")
    _check_batch_axes(cell, "lengths", array.shape, xs)
    if known and np.size(lengths) and (np.min(lengths) < 0 or np.max(lengths) > time):
        raise ValueError(f"{name_of(cell)}: lengths must lie in 0..T={time}, got {np.min(lengths)}..{np.max(lengths)}")
    return array


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
        return select(valid, x, jnp.zeros_like(x))

    return jax.tree.map(blank, xs)


def _check_checkpoint(cell: Any, checkpoint: Any) -> None:
    whole = isinstance(checkpoint, int) and not isinstance(checkpoint, bool) and checkpoint >= 1
    if not (checkpoint is None or checkpoint == "sqrt" or whole):
        raise ValueError(f'{name_of(cell)}: checkpoint must be None, an int >= 1 or "sqrt", got {checkpoint!r}')


def _check_fuse(cell: Any, fuse: Any, method: str) -> None:
    check_fuse("unroll", fuse)
    if method != "scan" and fuse is not True:
        raise ValueError(
            f"{name_of(cell)}: fuse= belongs to method='scan', got fuse={fuse!r} with method={method!r}; drop one of them"
        )


def _cuts(cell: Any, every: int | None, time: int, reverse: bool, lengths: Any) -> jax.Array | None:
    """Where gradients stop: before every k-th step, counted in the order in which each sequence is read."""
    if every is None:
        return None
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(f"{name_of(cell)}: truncate must be None or an int of at least 1 step, got {every!r}")
    t = jnp.arange(time)
    if reverse:
        last = jnp.asarray(time if lengths is None else lengths) - 1
        t = last - t.reshape((time,) + (1,) * last.ndim)
    return (t % every == 0) & (t > 0)

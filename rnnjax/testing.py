"""`check_cell`: the whole contract on your own cell, in sentences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import Carry, Params, call_step, name_of
from rnnjax.protocols import CarryAround, InChunks, LinearInTime, OneInside, SeveralLayers, input_axes, prepare
from rnnjax.sequence import unroll

STEPS = 4


class ContractError(AssertionError, ValueError):
    """What a cell breaks, one sentence a line."""


class _Subject(NamedTuple):
    """The cell under test, a key, one step's input ``[*B, I]`` with at least one batch axis, and what init gave for it."""

    cell: Any
    key: jax.Array
    x: jax.Array
    params: Params
    carry: Carry


def check_cell(cell: Any, key: jax.Array, x: Any) -> None:
    """Runs the contract of `rnnjax.Cell` on ``cell`` and raises one error that names everything it breaks.

    The value: frozen, hashable, no arrays in fields. ``init``: a dict of arrays, a function of the key alone. The carry: an array
    or a NamedTuple, kept in structure, shape and dtype. The step: pure, the same for none, one and two batch axes, under
    ``vmap`` and ``jit``, deterministic without a key and by its key, with gradients that are finite and agree with finite
    differences in float64 (params without any gradient, as a reservoir's, are taken as fixed). `rnnjax.unroll`: scan equals
    loop, length 0, resets, pieces equal the whole, nothing traced twice. Of `rnnjax.protocols`, what it claims.

    cell: with ``init``, ``initial_carry`` and ``__call__``; an ``input_ndim`` above 1 for steps that are more than a vector.
    key: a PRNG key. x: one step's input ``[*B, I]``, an array or a ShapeDtypeStruct.
    Errors: ContractError (an AssertionError and a ValueError) with one sentence for each breach.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> class Sum:
    ...     def init(self, key, x):
    ...         return [jnp.ones(x.shape[-1])]
    ...     def initial_carry(self, params, x):
    ...         return jnp.zeros(x.shape)
    ...     def __call__(self, params, carry, x, key=None):
    ...         return carry + x, carry
    >>> rj.testing.check_cell(Sum(), jax.random.key(0), jnp.ones((2, 3)))
    Traceback (most recent call last):
    ...
    rnnjax.testing.ContractError: Sum breaks the contract of a cell:
    - it is not a frozen dataclass; decorate the class with @rnnjax.cell
    - init must return a dict of arrays with names that say what they are, got list
    """
    breaches = list(_breaches(cell, key, x))
    if breaches:
        name = name_of(cell) if dataclasses.is_dataclass(cell) else type(cell).__name__
        raise ContractError("\n- ".join([f"{name} breaks the contract of a cell:", *breaches]))


def _breaches(cell: Any, key: jax.Array, x: Any) -> Iterator[str]:
    yield from _guard("as a value", _value, cell)
    subject: list[_Subject] = []
    found = list(_guard("init and initial_carry", _begin, cell, key, x, subject))
    yield from found
    if not subject or any("must return a dict" in f or "bare" in f for f in found):
        return
    first = list(_guard("one step", _step, subject[0]))
    yield from first
    if not any("(carry, y)" in f or "raised" in f for f in first):
        for title, check in _LATER.items():
            yield from _guard(title, check, subject[0])


def _guard(title: str, check: Callable[..., Iterator[str]], *args: Any) -> Iterator[str]:
    """The sentences of a check; an exception becomes one."""
    try:
        yield from check(*args)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        yield f"{title} raised {type(error).__name__}: {first_line}"


# -- the value, init, the carry ----------------------------------------------------------------------------------------


def _value(cell: Any) -> Iterator[str]:
    frozen = dataclasses.is_dataclass(cell) and getattr(type(cell), "__dataclass_params__").frozen
    if not frozen:
        yield "it is not a frozen dataclass; decorate the class with @rnnjax.cell"
    fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)} if frozen else vars(cell)
    for name, value in fields.items():
        if any(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(value)):
            yield f"field {name!r} holds an array; what is learned belongs in params, what changes in the carry"
    try:
        hash(cell)
    except TypeError:
        yield "it is not hashable, so that it cannot be static under jit; use tuples for fields, not lists"
    for name in ("init", "initial_carry", "__call__"):
        if not callable(getattr(cell, name, None)):
            yield f"it has no method {name}"


def _begin(cell: Any, key: jax.Array, x: Any, subject: list[_Subject]) -> Iterator[str]:
    ndim = input_axes(cell)
    if not isinstance(x, (jax.Array, np.ndarray)):
        x = jax.random.normal(jax.random.fold_in(key, 1), x.shape, x.dtype)
    single = jnp.asarray(x)[(0,) * (x.ndim - ndim)]
    x = jax.random.normal(jax.random.fold_in(key, 2), (3, *single.shape), single.dtype)
    params = cell.init(key, x)
    leaves = jax.tree.leaves(params)
    if not isinstance(params, dict):
        yield f"init must return a dict of arrays with names that say what they are, got {type(params).__name__}"
        return
    if not all(isinstance(p, jax.Array) for p in leaves):
        yield "init must return arrays only"
        return
    if not _equal(params, cell.init(key, x)):
        yield "init gives different params for the same key; draw them from the key alone"
    if not _same_shapes(params, cell.init(key, single)):
        yield "init gives params of other shapes without a batch axis; they must not depend on the batch"
    if not all(bool(jnp.isfinite(p).all()) for p in leaves if _floating(p)):
        yield "init gives params that are not finite"
    carry = cell.initial_carry(params, x)
    if type(carry) in (tuple, list):
        yield f"the carry is a bare {type(carry).__name__}; name its parts with a NamedTuple, as LSTMCarry(h, c)"
        return
    if not all(isinstance(a, jax.Array) and a.shape[:1] == (3,) for a in jax.tree.leaves(carry)):
        yield "initial_carry must give arrays that lead with the batch axes of x"
        return
    if not _equal(carry, cell.initial_carry(params, x + 1)):
        yield "initial_carry depends on the values of x; only its shape and dtype may count"
    subject.append(_Subject(cell, key, x, params, carry))


# -- one step ----------------------------------------------------------------------------------------------------------


def _step(s: _Subject) -> Iterator[str]:
    before = jax.device_get((s.params, s.carry))
    out = s.cell(s.params, s.carry, s.x)
    if not (type(out) is tuple and len(out) == 2):
        yield f"a step must return the pair (carry, y), got {type(out).__name__}"
        return
    new, y = out
    if not _equal(before, jax.device_get((s.params, s.carry))):
        yield "a step changes its params or its carry in place; it must be pure"
    if jax.tree.structure(new) != jax.tree.structure(s.carry):
        yield f"(carry, y): the carry changes its structure from {jax.tree.structure(s.carry)} to {jax.tree.structure(new)}"
        return
    for a, b in zip(jax.tree.leaves(s.carry), jax.tree.leaves(new), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            yield f"(carry, y): a part of the carry changes from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)} in a step"
    if not all(a.shape[:1] == (3,) for a in jax.tree.leaves(y)):
        yield "the output must lead with the batch axes of x"
    if not _equal(out, s.cell(s.params, s.carry, s.x)):
        yield "two calls of a step without a key differ; without a key it must be deterministic"


def _keys(s: _Subject) -> Iterator[str]:
    step = functools.partial(call_step, s.cell, s.params, s.carry, s.x)
    if not _equal(step(s.key), step(s.key)):
        yield "two calls of a step with the same key differ; all noise must come from the key"


def _batches(s: _Subject) -> Iterator[str]:
    step = functools.partial(s.cell, s.params)
    whole = step(s.carry, s.x)
    row = lambda tree, i: jax.tree.map(lambda a: a[i], tree)
    singles = [step(row(s.carry, i), s.x[i]) for i in range(3)]
    if not _close(whole, jax.tree.map(lambda *a: jnp.stack(a), *singles)):
        yield "a batch differs from its sequences one by one; write x @ w on the last axis, let ... stand for batch axes"
    extra = lambda tree: jax.tree.map(lambda a: a[None], tree)
    if not _close(extra(whole), step(extra(s.carry), s.x[None])):
        yield "two batch axes give something else than one"
    if not _close(whole, jax.vmap(step)(s.carry, s.x)):
        yield "vmap over the batch gives something else than the batch"
    if not _close(whole, jax.jit(step)(s.carry, s.x)):
        yield "under jit a step gives something else"


def _gradients(s: _Subject) -> Iterator[str]:
    with jax.enable_x64(True):
        point = _to_float64((_floats(s.params), _floats(s.carry), [s.x]))
        there = _random_like(jax.random.fold_in(s.key, 3), point)
        point = jax.tree.map(lambda a, d: a + 0.1 * d, point, there)  # away from zeros, where kinks lie
        loss = functools.partial(_loss, s)
        grads = jax.grad(loss)(point)
        if not all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads)):
            yield "the gradient of a step is not finite"
            return
        fixed = [d if bool((g != 0).any()) else 0 * d for g, d in zip(grads[0], there[0], strict=True)]
        there = (fixed, *there[1:])  # a param without any gradient is meant to stay as it is, as a reservoir's
        pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(there), strict=True)
        slope = sum(jnp.sum(g * d).real for g, d in pairs)
        ahead, back = (jax.tree.map(lambda a, d: a + e * d, point, there) for e in (1e-5, -1e-5))
        measured = (loss(ahead) - loss(back)) / 2e-5
        if not bool(jnp.isclose(slope, measured, rtol=1e-4, atol=1e-6)):
            yield f"the gradient of a step differs from finite differences in float64: {float(slope):.6g}, not {float(measured):.6g}"


def _loss(s: _Subject, point: Any) -> jax.Array:
    params, carry, (x,) = point
    out = s.cell(_with_floats(_to_float64(s.params), params), _with_floats(_to_float64(s.carry), carry), x)
    return sum(jnp.sum(jnp.sin(a.real + 1.0) + a.imag) for a in _floats(out)) + jnp.zeros((), jnp.float64)


# -- over time ---------------------------------------------------------------------------------------------------------


def _over_time(s: _Subject) -> Iterator[str]:
    xs = jax.random.normal(jax.random.fold_in(s.key, 4), (STEPS, *s.x.shape), s.x.dtype)
    run = functools.partial(unroll, s.cell, s.params)
    whole = run(xs)
    if not _close(whole, run(xs, method="loop")):
        yield "unroll by scan differs from a loop of single steps"
    middle, first = run(xs[:2])
    last, second = run(xs[2:], carry=middle)
    if not _close(whole, (last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second))):
        yield "pieces with the carry handed on differ from the whole"
    ended, ys = run(xs, lengths=jnp.zeros(3, jnp.int32))
    if not _close(ended, s.carry) or any(bool((y != 0).any()) for y in jax.tree.leaves(ys)):
        yield "length 0 must return the initial carry and outputs of zeros"
    reset = jnp.zeros((STEPS, 3), bool).at[2].set(True)
    if not _close(run(xs, reset=reset)[0], run(xs[2:])[0]):
        yield "a reset at t differs from a new start at t"


def _traces(s: _Subject) -> Iterator[str]:
    count = 0

    def step(cell: Any, params: Params, carry: Carry, x: Any) -> Any:
        nonlocal count
        count += 1
        return cell(params, carry, x)

    jitted = jax.jit(step, static_argnums=0)
    for _ in range(2):
        jitted(s.cell, s.params, s.carry, s.x)
    if count > 1:
        yield "a second call with the same shapes traces again; check __eq__ and __hash__"


def _claims(s: _Subject) -> Iterator[str]:
    """The optional Protocols that the cell claims say what its step does."""
    s = s._replace(carry=jax.tree.map(lambda a: a + 0.3 if _floating(a) else a, s.carry))  # zeros would hide much
    for key in (None, s.key):
        params = prepare(s.cell, s.params, key, s.x)
        want = call_step(s.cell, params, s.carry, s.x, key)
        for protocol, by_parts in _CLAIMED.items():
            if isinstance(s.cell, protocol) and not _close(want, by_parts(s.cell, params, s.carry, s.x, key)):
                yield f"it claims {protocol.__name__} of rnnjax.protocols, whose methods give something else than its step"


def _by_layers(cell: Any, params: Params, carry: Carry, x: Any, key: Any) -> Any:
    ends, keys = [], cell.keys_of_layers(key)
    for layer, p, c, k in zip(
        cell.layers_inside(), cell.params_of_layers(params), cell.carries_of_layers(carry), keys, strict=True
    ):
        end, x = call_step(layer, p, c, x, k)
        ends.append(end)
    return cell.carry_of_layers(tuple(ends)), x


def _by_one_inside(cell: Any, params: Params, carry: Carry, x: Any, key: Any) -> Any:
    if isinstance(cell, CarryAround) and cell.changes_carry(key is not None):
        return _by_change(cell, params, carry, x, key)
    inner, kept = cell.keys_inside(key)
    new, y = call_step(cell.cell_inside(), cell.params_inside(params), carry, cell.input_inside(params, x, kept), inner)
    return new, cell.output_around(params, x, new if cell.output_sees_carry else None, y, kept)


def _by_change(cell: Any, params: Params, carry: Carry, x: Any, key: Any) -> Any:
    """The carry by the change; the output, which may follow the carry, is the step's own."""
    inner, kept = cell.keys_inside(key)
    change, x_inside = cell.carry_change(params, kept, carry), cell.input_inside(params, x, kept)
    new, _ = call_step(cell.cell_inside(), cell.params_inside(params), change.seen(carry), x_inside, inner)
    new = jax.tree.map(
        lambda k, old, f, new, h: k * old + f * new + h, change.keep, carry, change.scale, new, change.shift
    )
    return new, call_step(cell, params, carry, x, key)[1]


def _by_maps(cell: Any, params: Params, carry: Carry, x: Any, key: Any) -> Any:
    if not cell.linear_in_time:
        return call_step(cell, params, carry, x, key)
    new = cell.linear_maps(params, x).apply(carry)
    return new, cell.output_of_carry(params, new, x)


def _by_chunk(cell: Any, params: Params, carry: Carry, x: Any, key: Any) -> Any:
    last, ys = cell.run_chunk(params, carry, carry, x[None], None, None)
    return last, ys[0]


_CLAIMED: dict[Any, Callable[..., Any]] = {
    SeveralLayers: _by_layers,
    OneInside: _by_one_inside,
    LinearInTime: _by_maps,
    InChunks: _by_chunk,
}
_LATER = {
    "what it claims": _claims,
    "a step with a key": _keys,
    "batches": _batches,
    "gradients": _gradients,
    "unroll": _over_time,
    "jit": _traces,
}


# -- comparing ---------------------------------------------------------------------------------------------------------


def _floating(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jnp.inexact)


def _floats(tree: Any) -> list[Any]:
    return [a for a in jax.tree.leaves(tree) if _floating(a)]


def _with_floats(tree: Any, values: Any) -> Any:
    values = iter(values)
    return jax.tree.map(lambda a: next(values) if _floating(a) else a, tree)


def _to_float64(tree: Any) -> Any:
    wide = lambda a: jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)).astype(wide(a)) if _floating(a) else a, tree)


def _random_like(key: jax.Array, tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves)])


def _same_shapes(a: Any, b: Any) -> bool:
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    return shapes(a) == shapes(b)


def _equal(a: Any, b: Any) -> bool:
    return _compare(a, b, lambda x, y: np.array_equal(x, y, equal_nan=True))


def _close(a: Any, b: Any) -> bool:
    return _compare(a, b, lambda x, y: np.allclose(x, y, rtol=2e-4, atol=2e-5, equal_nan=True))


def _compare(a: Any, b: Any, same: Callable[[Any, Any], bool]) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    plain = lambda x: np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)
    return all(x.shape == y.shape and same(plain(x), plain(y)) for x, y in pairs)

"""The one suite: every cell and wrapper of `zoo.py` against a plain Python loop written here.

The oracle knows nothing of rnnjax but one step of the cell: it loops over steps in Python, selects with numpy, and goes
back in time with the vector-Jacobian product of one step. Compilation is what costs, so that per entry there are few
compiled functions, each of which computes many things at once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO, Entry

import rnnjax as rj
from rnnjax.base import sequence_key
from rnnjax.protocols import prepare

T, B = 5, 3
LENGTHS = np.array([5, 3, 0])
MASK = np.ones((T, B), bool)
MASK[1, 0] = MASK[1, 1] = False
RESET = np.zeros((T, B), bool)
RESET[3, 0] = RESET[1, 0] = True  # step 1 of sequence 0 is masked out: its reset holds all the same
RESET[0, 1] = RESET[2, 1] = True  # read forward, sequence 1 starts with NaN, which must not survive the reset
RESET[4, 1] = True  # beyond the length: nothing
INSIDE = np.arange(T)[:, None] < LENGTHS
VALID = INSIDE & MASK
RESTART = {False: RESET & INSIDE, True: np.zeros((T, B), bool)}  # by direction: before which steps the carry is fresh
RESTART[True][:-1] = (RESET & INSIDE)[1:]  # nothing crosses from t-1 to t: read backward, that is before step t-1

everything = pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.id)
quick_compile = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


# -- what every test needs of an entry ---------------------------------------------------------------------------------


class Case(NamedTuple):
    cell: Any
    params: Any
    xs: np.ndarray
    start: Any  # a carry that is not the initial one
    step: Any  # jitted, one step
    step_vjp: Any  # jitted, cotangents of one step's float inputs


def is_float(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jnp.inexact)


def floats(tree: Any) -> list[Any]:
    return [a for a in jax.tree.leaves(tree) if is_float(a)]


def complex_of(dtype: Any) -> Any:
    """There is no complex number of half precision."""
    return jnp.complex128 if dtype == jnp.float64 else jnp.complex64


def with_floats(tree: Any, values: list[Any]) -> Any:
    """``tree`` with its floating point leaves replaced, in order."""
    values = iter(values)
    return jax.tree.map(lambda a: next(values) if is_float(a) else a, tree)


def normal(seed: int, like: Any, scale: float = 1.0) -> Any:
    """Numbers of the shapes of ``like``; leaves that are not floating point as they are."""
    rng = np.random.default_rng(seed)
    draw = lambda a: (scale * rng.normal(size=a.shape)).astype(a.dtype) if is_float(a) else np.asarray(a)
    return jax.tree.map(draw, like)


@functools.cache
def case(entry: Entry) -> Case:
    cell = entry.cell
    xs = normal(0, jax.ShapeDtypeStruct((T, B, *entry.x), np.dtype("float32")))
    params = jax.device_get(cell.init(jax.random.key(0), xs[0]))
    params = jax.tree.map(lambda p, n: p + n if is_float(p) else p, params, normal(3, params, 0.1))  # no zero biases
    start = jax.tree.map(lambda a: np.asarray(a), normal(1, cell.initial_carry(params, xs[0]), 0.3))

    def vjp(params, carry, x, ct_carry, ct_y):
        def f(p, c, x):
            carry, y = cell(with_floats(params, p), with_floats(initial, c), x)
            return floats(carry), floats(y)

        initial = carry
        return jax.vjp(f, floats(params), floats(carry), x)[1]((ct_carry, ct_y))

    return Case(cell, params, xs, start, quick_compile(cell), quick_compile(vjp))


# -- the oracle --------------------------------------------------------------------------------------------------------


def where(flag: np.ndarray, yes: Any, no: Any) -> Any:
    pick = lambda a, b: np.where(flag.reshape(flag.shape + (1,) * (np.ndim(a) - flag.ndim)), a, b)
    return jax.tree.map(pick, yes, no)


def plain_loop(
    step: Any, params: Any, carry: Any, fresh: Any, xs: Any, valid: Any, restart: Any, order: Any, keys: Any
):
    """``(last carry, ys, carries that the steps saw)``."""
    ys, seen = [None] * T, [None] * T
    for t in order:
        seen[t] = where(restart[t], fresh, carry)
        args = (params, seen[t], xs[t]) if keys is None else (params, seen[t], xs[t], keys[t])
        new, y = jax.device_get(step(*args))
        carry = where(valid[t], new, seen[t])
        ys[t] = where(valid[t], y, jax.tree.map(np.zeros_like, y))
    return carry, jax.tree.map(lambda *y: np.stack(y), *ys), seen


def back_in_time(c: Case, fresh: Any, xs: Any, seen: Any, restart: Any, order: Any, ct_carry: Any, ct_ys: Any):
    """Cotangents for the float leaves of params and start, and for xs, by one step's vector-Jacobian product at a time."""
    ct_params, ct_fresh = [np.zeros_like(p) for p in floats(c.params)], [np.zeros_like(a) for a in floats(fresh)]
    ct_xs = np.zeros_like(xs)
    for t in reversed(order):
        blank = [np.zeros_like(a) for a in ct_carry]
        ct_y = where(VALID[t], [y[t] for y in ct_ys], [np.zeros_like(y[t]) for y in ct_ys])
        into = where(VALID[t], ct_carry, blank)
        d_params, d_carry, d_x = jax.device_get(c.step_vjp(c.params, seen[t], xs[t], into, ct_y))
        ct_params = [a + b for a, b in zip(ct_params, d_params)]
        ct_xs[t] = d_x
        d_seen = where(VALID[t], d_carry, ct_carry)
        ct_fresh = [a + b for a, b in zip(ct_fresh, where(restart[t], d_seen, blank))]
        ct_carry = where(restart[t], blank, d_seen)
    return ct_params, ct_carry, ct_xs, ct_fresh


def initial(c: Case, p: list[Any]) -> list[Any]:
    return floats(c.cell.initial_carry(with_floats(c.params, p), jnp.zeros_like(c.xs[0])))


# -- the suite ---------------------------------------------------------------------------------------------------------


def everything_at_once(c: Case, reverse: bool, linear: bool) -> Any:
    """One compiled function: values and gradients with lengths, holes, resets and junk, batch first when reversed."""
    axis = int(reverse)
    turn = functools.partial(jax.tree.map, lambda a: jnp.moveaxis(jnp.asarray(a), 0, axis))

    def loss(p, carry, xs, w_carry, w_ys, cell, method="scan"):
        carry, ys = rj.unroll(
            cell, with_floats(c.params, p), turn(xs), carry=with_floats(c.start, carry), time_axis=axis, reverse=reverse,
            lengths=LENGTHS, mask=turn(MASK), reset=turn(RESET), method=method,
        )  # fmt: skip
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, axis, 0), ys)
        pairs = zip(floats((carry, ys)), (*w_carry, *w_ys), strict=True)
        return sum(jnp.sum(a * w).real for a, w in pairs), (carry, ys)

    @functools.partial(quick_compile, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def run(cell, *args):
        sequential = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*args, cell)
        return sequential, loss(*args, cell, "associative")[1] if linear else None

    return run


# Compiling these takes longest of all tests: of eight runs, four entries in both directions, three are quick.
DIRECTIONS = [
    pytest.param(
        e,
        back,
        id=f"{e.id} {way}",
        marks=[] if (i % 4, back) in ((0, False), (1, True), (2, True)) else pytest.mark.slow,
    )
    for i, e in enumerate(ZOO)
    for back, way in ((False, "forward"), (True, "backward"))
]


@pytest.mark.parametrize("entry, reverse", DIRECTIONS)
def test_every_sequence_option_equals_a_plain_loop_in_values_and_gradients(entry: Entry, reverse: bool) -> None:
    c = case(entry)
    order = range(T)[::-1] if reverse else range(T)
    fresh = jax.device_get(c.cell.initial_carry(c.params, c.xs[0]))
    clean = where(VALID, c.xs, np.float32(0))
    last, ys, seen = plain_loop(c.step, c.params, c.start, fresh, clean, VALID, RESTART[reverse], order, None)
    w_carry, w_ys = normal(5, floats(last)), normal(6, floats(ys))
    ct_params, ct_start, ct_xs, ct_fresh = back_in_time(c, fresh, clean, seen, RESTART[reverse], order, w_carry, w_ys)
    from_fresh = jax.vjp(functools.partial(initial, c), floats(c.params))[1]([jnp.asarray(a) for a in ct_fresh])[0]
    ct_params = [a + b for a, b in zip(ct_params, from_fresh)]

    start = jax.tree.map(np.array, c.start)
    for a in [] if reverse else floats(start):
        a[1] = np.nan
    chex.clear_trace_counter()
    run = everything_at_once(c, reverse, entry.linear)
    args = (floats(c.params), floats(start), where(VALID, c.xs, np.float32(np.nan)), w_carry, w_ys)
    (grads, (carry, outputs)), parallel = jax.device_get(run(c.cell, *args))
    run(eval(repr(c.cell), vars(rj)), *args)  # an equal cell, the same shapes: nothing is traced again

    tolerance = dict(rtol=2e-4 * entry.tolerance, atol=2e-5 * entry.tolerance)
    chex.assert_trees_all_equal_structs(carry, c.start)
    chex.assert_trees_all_close((carry, outputs), (last, ys), **tolerance)
    chex.assert_trees_all_close(grads, (ct_params, ct_start, ct_xs), **tolerance)
    if parallel is not None:
        chex.assert_trees_all_close(parallel, (last, ys), **tolerance)


@pytest.mark.slow
@everything
def test_forward_mode_checkpoints_truncation_and_pieces_agree_with_the_plain_run(entry: Entry) -> None:
    c = case(entry)

    def out(p: Any, carry: Any, xs: Any, **how: Any) -> Any:
        start = with_floats(c.start, carry)
        return floats(rj.unroll(c.cell, with_floats(c.params, p), xs, carry=start, lengths=LENGTHS, **how))

    def pieces(p: Any, carry: Any, xs: Any) -> Any:
        params, carry, ys = with_floats(c.params, p), with_floats(c.start, carry), []
        for start, stop in ((0, 2), (2, T)):
            lengths = np.clip(LENGTHS - start, 0, stop - start)
            carry, y = rj.unroll(c.cell, params, xs[start:stop], carry=carry, lengths=lengths)
            ys.append(y)
        return floats((carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *ys)))

    @quick_compile
    def run(point: Any, way: Any, weights: Any) -> Any:
        plain, moved = jax.jvp(out, point, way)
        back = jax.vjp(out, *point)[1](weights)
        kept, kept_back = jax.vjp(functools.partial(out, checkpoint=2), *point)
        mapped = jax.vmap(lambda p: out(p, *point[1:]))(jax.tree.map(lambda a: jnp.stack([a, a]), point[0]))
        values = kept, out(*point, truncate=2), pieces(*point), jax.tree.map(lambda a: a[1], mapped)
        return plain, values, (_paired(moved, weights), _paired(back, way)), back, kept_back(weights)

    point = (floats(c.params), floats(c.start), c.xs)
    weights = normal(8, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in jax.eval_shape(out, *point)])
    plain, values, (forward, backward), back, kept_back = jax.device_get(run(point, normal(9, point), weights))
    tolerance = dict(rtol=2e-4 * entry.tolerance, atol=2e-5 * entry.tolerance)
    for other in values:
        chex.assert_trees_all_close(other, plain, **tolerance)
    chex.assert_trees_all_close(kept_back, back, **tolerance)
    np.testing.assert_allclose(forward, backward, rtol=1e-3 * entry.tolerance, atol=1e-3)


def _paired(a: Any, b: Any) -> Any:
    """What a linear map and its transpose agree on."""
    return sum(jnp.sum(x * y).real for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@everything
def test_batch_axes_and_vmap_are_the_same_as_single_sequences(entry: Entry) -> None:
    c = case(entry)
    x = c.xs[:4, 0]
    carry = normal(7, c.cell.initial_carry(c.params, x), 0.3)
    two = lambda tree: jax.tree.map(lambda a: jnp.reshape(a, (2, 2, *a.shape[1:])), tree)
    first = lambda tree: jax.tree.map(lambda a: a[0], tree)

    @quick_compile
    def steps(params, carry, x):
        mapped = jax.vmap(c.cell, in_axes=(None, 0, 0))(params, carry, x)
        return (
            c.cell(params, carry, x),
            mapped,
            c.cell(params, two(carry), two(x)),
            c.cell(params, first(carry), first(x)),
        )

    one, mapped, pairs, single = jax.device_get(steps(c.params, carry, x))
    chex.assert_trees_all_close(mapped, one, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(pairs, jax.device_get(two(one)), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(single, first(one), rtol=1e-5, atol=1e-6)


@everything
def test_the_cell_is_a_plain_value_and_keeps_structure_and_dtype(entry: Entry) -> None:
    cell = entry.cell
    again = eval(repr(cell), vars(rj))
    assert again == cell and hash(again) == hash(cell)
    assert jax.tree.leaves(cell) == []
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            xs = jax.ShapeDtypeStruct((T, 2, 2, *entry.x), dtype)
            x = jax.ShapeDtypeStruct(xs.shape[1:], dtype)
            params = jax.eval_shape(cell.init, jax.eval_shape(lambda: jax.random.key(0)), x)
            assert isinstance(params, dict)
            assert all(
                isinstance(part.key, str) for path, _ in jax.tree_util.tree_leaves_with_path(params) for part in path
            )
            carry = jax.eval_shape(cell.initial_carry, params, x)
            last, ys = jax.eval_shape(lambda p, xs: rj.unroll(cell, p, xs), params, xs)
            chex.assert_trees_all_equal_shapes_and_dtypes(last, carry)
            for a in floats((params, last, ys)):
                assert a.dtype in (dtype, complex_of(dtype)), (a, dtype)
            for leaf in jax.tree.leaves(carry):
                assert leaf.shape[:2] == (2, 2)
            assert type(carry) is not tuple


@everything
def test_init_is_deterministic_finite_and_differs_by_key(entry: Entry) -> None:
    c = case(entry)
    one, same, other = (jax.device_get(c.cell.init(jax.random.key(k), c.xs[0])) for k in (0, 0, 1))
    chex.assert_trees_all_equal(one, same)
    assert all(np.isfinite(a).all() for a in floats(one))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))


NOISY = pytest.mark.parametrize("entry", [e for e in ZOO if e.noisy], ids=lambda e: e.id)


@NOISY
def test_noise_comes_from_the_key_alone_split_per_step_outside_the_loop(entry: Entry) -> None:
    c = case(entry)
    key = jax.random.key(7)
    run = quick_compile(
        lambda p, xs, key: rj.unroll(c.cell, p, xs, carry=c.start, lengths=LENGTHS, reset=RESET, key=key)
    )
    got, again, other = (jax.device_get(run(c.params, c.xs, k)) for k in (key, key, jax.random.key(8)))
    chex.assert_trees_all_equal(got, again)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(other)))
    prepared = prepare(c.cell, c.params, sequence_key(key), jnp.asarray(c.xs[0]))
    fresh = jax.device_get(c.cell.initial_carry(c.params, c.xs[0]))
    keys = jax.random.split(key, T)
    last, ys, _ = plain_loop(c.step, prepared, c.start, fresh, c.xs, INSIDE, RESTART[False], range(T), keys)
    chex.assert_trees_all_close(got, (last, ys), rtol=1e-4, atol=1e-5)


def test_every_cell_of_the_library_is_in_the_zoo_and_in_the_catalogue() -> None:
    import inspect

    cells = {n for n in rj.cells.__all__ if inspect.isclass(getattr(rj, n, None)) and hasattr(getattr(rj, n), "init")}
    wrappers = {n for n in rj.wrappers.__all__ if hasattr(getattr(rj, n), "init")}

    def names(cell: Any) -> set[str]:
        inner = getattr(cell, "cells", ()) or ((cell.cell,) if hasattr(cell, "cell") else ())
        return {type(cell).__name__}.union(*(names(i) for i in inner))

    seen = set().union(*(names(e.cell) for e in ZOO))
    assert (cells | wrappers) - seen == {"Embed"}  # which reads tokens: tests/wrappers/test_embed.py
    assert cells == {line.name for line in rj.cells.catalogue(4, 8)}

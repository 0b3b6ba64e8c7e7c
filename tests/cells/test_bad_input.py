"""Whatever is handed to a step or to init that is not what they take is refused by name; what is merely odd works. Shapes only."""

from __future__ import annotations

import copy
import functools
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO, Entry

import rnnjax as rj

Shape = jax.ShapeDtypeStruct
KEY = jax.eval_shape(lambda: jax.random.key(0))
everything = pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.id)


def shapes(entry: Entry, *batch: int, dtype: Any = jnp.float32) -> tuple[Any, Any, Any]:
    """Params, carry and one step's input, as shapes."""
    x = Shape((*batch, *entry.x), dtype)
    params = jax.eval_shape(entry.cell.init, KEY, x)
    return params, jax.eval_shape(entry.cell.initial_carry, params, x), x


def refused(entry: Entry, f: Any, *args: Any) -> None:
    """A ValueError or TypeError that starts with a cell of the entry (a wrapper hands on what its cell says)."""
    with pytest.raises((ValueError, TypeError)) as caught:
        f(*args)
    names = re.findall(r"[A-Z]\w+", entry.id)
    assert any(str(caught.value).startswith(name) for name in names), str(caught.value)


@everything
def test_init_and_a_step_refuse_what_they_cannot_take_by_name(entry: Entry) -> None:
    params, carry, x = shapes(entry, 2)
    step = functools.partial(jax.eval_shape, entry.cell)
    wide, whole = Shape((2, *entry.x[:-1], entry.x[-1] + 2), x.dtype), Shape(x.shape, jnp.int32)
    for bad in (wide, whole, Shape((), x.dtype), Shape((5, *entry.x), x.dtype)):
        refused(entry, step, params, carry, bad)
    for bad in (whole, Shape((), x.dtype), [1.0, 2.0]):
        refused(entry, entry.cell.init, jax.random.key(0), bad)
    bare = tuple(jax.tree.leaves(carry))
    wider = jax.tree.map(
        lambda a: Shape((*a.shape, 1) if a.ndim == 1 else (*a.shape[:-1], a.shape[-1] + 1), a.dtype), carry
    )
    for bad in (None, {"h": bare[0]}, bare, wider):
        refused(entry, step, params, bad, x)
    for bad in (None, {}):
        refused(entry, step, bad, carry, x)


def test_params_of_another_size_are_refused_by_name() -> None:
    for make in (
        rj.LSTM,
        rj.GRU,
        rj.Elman,
        rj.MGU,
        rj.JANET,
        rj.NAS,
        rj.LEM,
        rj.STAR,
        rj.EchoState,
        rj.FastRNN,
        rj.OrthogonalRNN,
    ):
        cell, x = make(4), jnp.ones((2, 3))
        params = jax.eval_shape(make(8).init, KEY, x)
        with pytest.raises(ValueError, match=rf"{make.__name__}.*params were made for another size.*features=4"):
            jax.eval_shape(cell, params, cell.initial_carry({}, x), x)


def test_params_of_the_plain_cell_are_refused_by_its_variants() -> None:
    x = jnp.ones((2, 3))
    for plain, variant in ((rj.GRU(4), rj.GRU(4, layer_norm=True)), (rj.LSTM(4), rj.LSTM(4, layer_norm=True)),
                           (rj.LSTM(4), rj.LSTM(4, peephole=True))):  # fmt: skip
        with pytest.raises(ValueError, match=r"params lack \['(norm_input|peephole)"):
            jax.eval_shape(variant, plain.init(jax.random.key(0), x), variant.initial_carry({}, x), x)


@everything
def test_empty_batches_no_steps_and_half_precision_work(entry: Entry) -> None:
    cell = entry.cell
    for dtype in (jnp.float16, jnp.bfloat16):
        params, carry, x = shapes(entry, 2, dtype=dtype)
        new, _ = jax.eval_shape(cell, params, carry, x)
        assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, carry)
    params, carry, x = shapes(entry, 0)
    new, y = jax.eval_shape(cell, params, carry, x)
    assert jax.tree.map(lambda a: a.shape, new) == jax.tree.map(lambda a: a.shape, carry)
    assert all(a.shape[0] == 0 for a in jax.tree.leaves(y))
    for method in METHODS[entry.linear]:
        check_roll(entry, method, time=0, batch=2)


METHODS = {False: ("scan",), True: ("scan", "associative")}


def check_roll(entry: Entry, method: str, time: int, batch: int) -> None:
    params, carry, x = shapes(entry, batch)
    roll = functools.partial(rj.unroll, entry.cell, method=method)
    last, ys = jax.eval_shape(roll, params, Shape((time, *x.shape), x.dtype))
    assert jax.tree.structure(last) == jax.tree.structure(carry)
    assert all(a.shape[:2] == (time, batch) for a in jax.tree.leaves(ys))


@everything
def test_an_empty_batch_rolls_over_time(entry: Entry) -> None:
    for method in METHODS[entry.linear]:
        check_roll(entry, method, time=3, batch=0)


@everything
def test_a_cell_is_picklable_copyable_and_equal_to_its_copies(entry: Entry) -> None:
    cell = entry.cell
    for same in (pickle.loads(pickle.dumps(cell)), copy.copy(cell), copy.deepcopy(cell)):
        assert same == cell and hash(same) == hash(cell) and same in {cell}
    carry = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes(entry, 2)[1])
    assert type(pickle.loads(pickle.dumps(carry))) is type(carry)


@pytest.mark.parametrize("entry", [e for e in ZOO if not e.linear][::9], ids=lambda e: e.id)
def test_what_is_not_linear_in_time_is_told_where_to_look(entry: Entry) -> None:
    params, _, x = shapes(entry, 2)
    roll = functools.partial(rj.unroll, entry.cell, method="associative")
    with pytest.raises(ValueError, match=r"rj\.cells\.catalogue\(\) says which are"):
        jax.eval_shape(roll, params, Shape((3, *x.shape), x.dtype))

"""Wrappers inside wrappers, in orders that nobody plans for: they build, keep their carry, and scan is the loop."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

import rnnjax as rj

L, G, E, C = rj.LSTM(3), rj.GRU(3), rj.Elman(3), rj.Clockwork(4, periods=(1, 2))
NESTED = [
    rj.Zoneout(rj.Stack(L, G), (0.1, 0.2, 0.3)),
    rj.Residual(rj.Readout(L, 3)),
    rj.WeightDrop(rj.LearnedCarry(L), 0.3),
    rj.LearnedCarry(rj.WeightDrop(L, 0.3)),
    rj.Record(rj.Stack(L, rj.Zoneout(G, 0.2))),
    rj.WeightDrop(rj.VariationalDropout(L, 0.3), 0.3),
    rj.VariationalDropout(rj.VariationalDropout(rj.WeightDrop(L, 0.3), 0.2), 0.3),
    rj.Clip(rj.VariationalDropout(rj.UnitaryRNN(4), 0.3), 0.5),
    rj.LearnedCarry(rj.VariationalDropout(C, 0.3)),
    rj.LearnedCarry(rj.Stack(L, C)),
    rj.LearnedCarry(rj.LearnedCarry(L)),
    rj.LayerNorm(rj.LayerNorm(rj.Dropout(L, 0.3))),
    rj.Noise(rj.Record(L), 0.1, at="output"),
    rj.Noise(rj.Zoneout(C, 0.2), 0.1),
    rj.Stack(rj.WeightDrop(rj.Stack(G, L), 0.3), rj.LayerNorm(rj.Skip(rj.Skip(E)))),
    rj.Dropout(rj.Stack(rj.Dropout(L, 0.2), rj.Stack(G, E)), 0.2),
    rj.Scale(rj.Readout(rj.EchoState(4), 2), input=0.5),
]
LINEAR = [
    rj.Dropout(rj.MLSTM(4), 0.3),
    rj.LearnedCarry(rj.Residual(rj.S5(3, state=4))),
    rj.Stack(rj.Residual(rj.QRNN(3)), rj.Dropout(rj.Skip(rj.QRNN(4)), 0.1)),
]
XS = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
HOW = dict(lengths=np.array([4, 0]), reset=np.eye(4, 2, -2, dtype=bool))


@pytest.mark.parametrize("cell", NESTED + LINEAR, ids=repr)
def test_they_print_as_built_and_keep_structure_shapes_and_dtypes_of_the_carry(cell: Any) -> None:
    again = eval(repr(cell), vars(rj))
    assert again == cell and hash(again) == hash(cell)

    def roll(key: jax.Array, xs: jax.Array, method: str, noise: bool) -> Any:
        params = cell.init(key, xs[0])
        rolled = rj.unroll(cell, params, xs, method=method, key=key if noise else None, **HOW)
        return rolled[0], cell.initial_carry(params, xs[0])

    for method in ("scan", *(["associative"] if cell in LINEAR else [])):
        for noise in (False, True):
            run = functools.partial(roll, method=method, noise=noise)
            last, start = jax.eval_shape(run, jax.random.key(0), XS)
            assert jax.tree.structure(last) == jax.tree.structure(start)
            pairs = zip(jax.tree.leaves(last), jax.tree.leaves(start), strict=True)
            assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


def check_scan_is_the_loop(cell: Any) -> None:
    params, key = cell.init(jax.random.key(0), XS[0]), jax.random.key(1)
    for k in (None, key):
        results = [rj.unroll(cell, params, XS, method=m, key=k, **HOW) for m in ("scan", "loop")]
        for a, b in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        start = cell.initial_carry(params, XS[0])
        for a, b in zip(jax.tree.leaves(results[0][0]), jax.tree.leaves(start), strict=True):
            np.testing.assert_array_equal(a[1], b[1])  # length 0: the start


@pytest.mark.parametrize("cell", [NESTED[0], NESTED[3]], ids=repr)
def test_scan_is_the_loop_with_noise_resets_and_a_length_of_zero(cell: Any) -> None:
    check_scan_is_the_loop(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", NESTED + LINEAR, ids=repr)
def test_scan_is_the_loop_for_all_of_them(cell: Any) -> None:
    check_scan_is_the_loop(cell)


def test_two_directions_of_a_wrapped_cell_leave_empty_sequences_alone() -> None:
    layer = rj.Bidirectional(rj.LearnedCarry(rj.Zoneout(L, 0.2)), merge="sum")
    params = layer.init(jax.random.key(0), XS[0])
    params["backward"]["carry"] = jax.tree.map(lambda a: a + 0.5, params["backward"]["carry"])
    carry, ys = layer(params, XS, lengths=np.array([0, 2]), key=jax.random.key(1))
    np.testing.assert_array_equal(ys[:, 0], 0)
    np.testing.assert_array_equal(ys[2:], 0)
    np.testing.assert_array_equal(carry.backward.h[0], 0.5)
    np.testing.assert_array_equal(carry.forward.h[0], 0)
    assert (np.asarray(carry.backward.h[1]) != 0.5).any() and (np.asarray(ys[:2, 1]) != 0).any()


def test_clip_limits_the_real_and_the_imaginary_part_of_complex_carries() -> None:
    cell = rj.Clip(rj.UnitaryRNN(4), 0.1)
    carry, _ = rj.unroll(cell, cell.init(jax.random.key(0), XS[0]), XS)
    parts = np.abs([np.real(carry), np.imag(carry)])
    assert parts.max() <= np.float32(0.1) and (parts == np.float32(0.1)).any()

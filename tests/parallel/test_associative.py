"""``method="associative"`` against the loop where the one suite does not go: cuts, chunks, wrappers, layers, NaN, messages."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO

import rnnjax as rj

T, B, I, H = 7, 3, 4, 4
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, I))
RESET, MASK = RNG.random((T, B)) < 0.3, RNG.random((T, B)) < 0.7
LENGTHS = np.array([0, 3, T])
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiling is what costs


def prepared(cell: Any) -> tuple[Any, jax.Array, Any]:
    xs = jnp.asarray(XS)
    params = jax.tree.map(lambda a: a + 0.1 * RNG.normal(size=a.shape), cell.init(jax.random.key(0), xs[0]))
    start = jax.tree.map(lambda a: a + abs(RNG.normal(size=a.shape)), cell.initial_carry(params, xs[0]))
    return params, xs, start


def compare(cell: Any, *options: dict[str, Any]) -> None:
    """Values and gradients for params, start and inputs, in float64, all options in one compilation."""
    with jax.enable_x64(True):
        params, xs, start = prepared(cell)

        def loss(params: Any, start: Any, xs: Any, method: str, how: Any) -> Any:
            how = how if method == "associative" else {k: v for k, v in how.items() if k != "checkpoint"}
            out = rj.unroll(cell, params, xs, carry=start, method=method, **how)
            return sum(jnp.sum(jnp.sin(a.real)) for a in jax.tree.leaves(out)), out

        both = lambda *args: [
            [jax.grad(loss, (0, 1, 2), has_aux=True)(*args, m, how) for how in options] for m in ("scan", "associative")
        ]
        wanted, got = jax.device_get(quick(both)(params, start, xs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), got, wanted)


ALL = dict(mask=MASK, reset=RESET, lengths=LENGTHS)


@pytest.mark.parametrize("cell", [rj.MinGRU(H), rj.QRNN(H, window=3)], ids=repr)
def test_cuts_and_chunks_with_every_other_option(cell: Any) -> None:
    compare(cell, dict(ALL, truncate=2), dict(lengths=LENGTHS, reset=RESET, checkpoint=3, reverse=True))


@pytest.mark.parametrize("cell", [rj.GatedDeltaNet(H, chunk_size=3), rj.MLSTM(H, heads=2, chunk_size=64)], ids=repr)
def test_matrix_states_in_chunks_with_every_other_option(cell: Any) -> None:
    compare(cell, dict(ALL, checkpoint=4, reverse=True))


KEYED = dict(ALL, key=jax.random.key(3))
CHANGED = [
    rj.Zoneout(rj.QRNN(H, window=3), 0.4),
    rj.Noise(rj.VariationalDropout(rj.QRNN(H), 0.5), 0.3),
    rj.Zoneout(rj.Noise(rj.MLSTM(H, heads=2), 0.2), 0.3),
    rj.VariationalDropout(rj.GatedDeltaNet(H), 0.5),
    rj.Zoneout(rj.LinearAttention(H, heads=2), 0.3),
    rj.Noise(rj.Stack(rj.DeltaNet(H), rj.QRNN(3)), 0.2),
]
FIRST = (0,)  # in every run


@pytest.mark.parametrize(
    "cell", [c if i in FIRST else pytest.param(c, marks=pytest.mark.slow) for i, c in enumerate(CHANGED)], ids=repr
)
def test_wrappers_change_a_memory_that_is_a_matrix_and_parts_that_move_along(cell: Any) -> None:
    compare(cell, KEYED, dict(reset=RESET, reverse=True))


@pytest.mark.slow
def test_the_carries_of_a_matrix_memory_are_recorded_without_a_loop() -> None:
    """Values and gradients of every carry; all steps of a chunk at once."""
    cell = rj.Record(rj.GatedDeltaNet(H, chunk_size=4))
    compare(cell, ALL)
    xs = jnp.asarray(XS, jnp.float32)
    params = cell.init(jax.random.key(0), xs[0])
    jaxpr = lambda c: str(jax.make_jaxpr(lambda p, xs: rj.unroll(c, p, xs, method="associative"))(params, xs))
    assert "scan[" in jaxpr(cell) and "scan[" not in jaxpr(rj.Record(rj.GatedDeltaNet(H, chunk_size=T)))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [rj.LinearAttention(H), rj.DeltaNet(H), rj.MLSTM(H, heads=2)], ids=repr)
def test_recorded_memories_of_the_others(cell: Any) -> None:
    compare(rj.Record(cell), dict(ALL, reverse=True))


def test_through_wrappers_and_stacks() -> None:
    rnn = rj.Readout(rj.Residual(rj.LearnedCarry(rj.MinGRU(H))), 2)
    compare(rnn, ALL)
    compare(rj.Readout(rj.Stack(rj.MinGRU(3), rj.Residual(rj.MinGRU(3))), 2), dict(lengths=LENGTHS, reverse=True))


def test_through_layers_and_with_the_same_noise() -> None:
    layer = rj.Sequential(rj.Bidirectional(rj.Dropout(rj.MinGRU(H), 0.5)), rj.RNN(rj.LRU(3)))
    xs = jnp.asarray(XS, jnp.float32)
    params = layer.init(jax.random.key(0), xs[0])
    run = quick(
        lambda p, xs: [layer(p, xs, key=jax.random.key(1), lengths=LENGTHS, method=m) for m in ("scan", "associative")]
    )
    wanted, got = run(params, xs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, wanted)


@pytest.mark.parametrize("cell", [rj.RGLRU(I), rj.DeltaNet(H, chunk_size=T)], ids=repr)
def test_a_nan_stays_where_it_is_and_dies_at_a_reset(cell: Any) -> None:
    params, xs, _ = prepared(cell)
    xs = jnp.asarray(xs, jnp.float32).at[3, 0].set(jnp.nan)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    reset = np.zeros((T, B), bool)
    reset[5, 0] = True
    run = quick(lambda p, xs: rj.unroll(cell, p, xs, reset=reset, method="associative"))
    carry, ys = jax.device_get(run(params, xs))
    assert np.isfinite(ys[:3]).all() and np.isfinite(ys[:, 1:]).all()
    assert np.isnan(ys[3:5, 0]).all() and np.isfinite(ys[5:, 0]).all() and np.isfinite(carry).all()


def test_no_steps_give_the_start() -> None:
    for cell in (rj.MLSTM(H), rj.QRNN(H)):
        xs = jnp.asarray(XS, jnp.float32)
        params = cell.init(jax.random.key(0), xs[0])
        carry, ys = rj.unroll(cell, params, xs[:0], method="associative")
        assert ys.shape == (0, B, H)
        jax.tree.map(np.testing.assert_array_equal, carry, cell.initial_carry(params, xs[0]))


def test_the_prefix_scan_grows_with_the_logarithm_of_time() -> None:
    """No loop in the program for a cell that is linear in time, and far fewer equations than steps."""
    cell, xs = rj.MinGRU(2), jnp.ones((256, 2))
    params = cell.init(jax.random.key(0), xs[0])
    jaxpr = jax.make_jaxpr(lambda p, xs: rj.unroll(cell, p, xs, method="associative"))(params, xs)
    assert "scan[" not in str(jaxpr) and "while[" not in str(jaxpr)
    assert len(jaxpr.jaxpr.eqns) < 256


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (
            rj.LSTM(H),
            {},
            r"LSTM\(4\): method='associative' needs a cell that is linear in time, LSTM.4. is not; rj.cells.catalogue",
        ),
        (rj.Readout(rj.GRU(H), 2), {}, r"GRU\(4\) is not"),
        (rj.Readout(rj.Clip(rj.MinGRU(H), 0.1), 2), {}, r"Readout.*linear in time, Clip\(MinGRU\(4\), 0.1\) is not"),
        (rj.LRU(H), dict(matmul_dtype=jnp.bfloat16), "takes no matmul_dtype"),
        (rj.DeltaNet(H), dict(truncate=2), "takes no truncate for a cell whose state is a matrix"),
    ],
    ids=lambda v: "",
)
def test_what_it_cannot_do_is_refused(cell: Any, options: Any, message: str) -> None:
    xs = jnp.asarray(XS, jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0), xs[0])
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda p, xs: rj.unroll(cell, p, xs, method="associative", **options), params, xs)


@pytest.mark.parametrize("cell", [e.cell for e in ZOO if e.linear and len(e.x) == 1], ids=lambda c: type(c).__name__)
def test_a_start_of_nan_that_a_reset_replaces_reaches_no_gradient(cell):
    """Values and gradients are those of a run that begins at the cell's own start."""
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)), jnp.float32)
    params = cell.init(jax.random.key(0), xs[0])
    poisoned = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), cell.initial_carry(params, xs[0]))
    reset = jnp.zeros((4, 2), bool).at[0].set(True)

    def loss(params, **how):
        return jnp.sum(rj.unroll(cell, params, xs, **how)[1] ** 2)

    got = quick(jax.value_and_grad(lambda p: loss(p, carry=poisoned, reset=reset, method="associative")))(params)
    want = quick(jax.value_and_grad(loss))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)

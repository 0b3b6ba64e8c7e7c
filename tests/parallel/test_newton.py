"""Newton's method over time: the exact facts about it, and the sequential loop as oracle."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, I, H = 7, 2, 3, 4
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, I))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiling is what costs
RESET, MASK = RNG.random((T, B)) < 0.3, RNG.random((T, B)) < 0.7


@pytest.mark.parametrize(
    ("cell", "method"),
    [(rj.LSTM(3), "deer"), (rj.GRU(H), "quasi_deer"), pytest.param(rj.GRU(H), "elk", marks=pytest.mark.slow)],
)
def test_values_and_gradients_are_those_of_the_loop(cell: Any, method: str) -> None:
    with jax.enable_x64(True):
        xs = jnp.asarray(XS)
        params = cell.init(jax.random.key(0), xs[0])
        start = jax.tree.map(lambda a: a + RNG.normal(size=a.shape), cell.initial_carry(params, xs[0]))

        def loss(params: Any, start: Any, xs: Any, method: str) -> Any:
            how = dict(lengths=jnp.array([T, 4]), mask=MASK, reset=RESET, reverse=True)
            out = rj.unroll(cell, params, xs, carry=start, method=method, **how)
            return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(out)), out

        both = lambda *args: [jax.grad(loss, (0, 1, 2), has_aux=True)(*args, m) for m in ("scan", method)]
        wanted, got = jax.device_get(quick(both)(params, start, xs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), got, wanted)


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_loop() -> None:
    with jax.enable_x64(True):
        body = lambda params, h, x: (jnp.tanh(params * h + x), h)
        xs = jnp.asarray(XS[:, 0, :1])

        def loss(p: Any, method: str) -> Any:
            return jnp.sum(rj.unroll(body, p, xs, carry=jnp.ones(1), method=method)[1] ** 3)

        wanted, got = quick(lambda p: [jax.grad(jax.grad(loss))(p, m) for m in ("scan", "deer")])(jnp.float64(0.7))
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def lorenz(params: Any, s: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
    """One Euler step of the Lorenz system; ``x`` is not used."""
    dt = params
    step = jnp.stack([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])
    return s + dt * step, s


def observer(params: Any, s: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lorenz with its first coordinate given."""
    s = s.at[0].set(x[0])
    return lorenz(params, s, x)


def test_a_linear_recurrence_takes_one_step_and_no_recurrence_more_than_its_length() -> None:
    with jax.enable_x64(True):
        cell, xs = rj.CTRNN(H, activation="identity"), jnp.asarray(RNG.normal(size=(50, I)))
        report = rj.parallel.newton(cell, cell.init(jax.random.key(0), xs[0]), xs)
        assert report.converged and report.iterations == 1 and report.residual < 1e-13

        start, none = jnp.array([1.0, 1.0, 20.0]), jnp.zeros((40, 1))
        chaos = rj.parallel.newton(lorenz, jnp.float64(0.02), none, carry=start, tolerance=1e-10)
        assert chaos.converged and 5 < chaos.iterations <= 40
        _, ys = rj.unroll(lorenz, jnp.float64(0.02), none, carry=start)
        np.testing.assert_allclose(chaos.ys, ys, rtol=1e-4)


@pytest.mark.slow
def test_an_observer_forgets_and_takes_few_steps_however_long() -> None:
    """Lorenz's system from its first coordinate alone, 30,000 steps; it finds the other two, wherever it starts."""
    with jax.enable_x64(True):
        _, path = rj.unroll(lorenz, jnp.float64(0.01), jnp.zeros((30_000, 1)), carry=jnp.array([1.0, 1.0, 20.0]))
        report = rj.parallel.newton(observer, jnp.float64(0.01), path[:, :1], carry=jnp.array([1.0, -3.0, 5.0]))
        assert report.converged and report.iterations <= 3
        np.testing.assert_allclose(report.carry[1:], lorenz(0.01, path[-1], None)[0][1:], rtol=1e-6)


def test_a_chaotic_system_ends_in_the_sequential_answer_and_is_flagged() -> None:
    """Without the look at neighbours Newton's method would end here with a residual of zero and another trajectory."""
    start, none, dt = jnp.array([1.0, 1.0, 20.0]), jnp.zeros((2000, 1)), jnp.float32(0.01)
    run = quick(lambda s, xs: (rj.parallel.newton(lorenz, dt, xs, carry=s), rj.unroll(lorenz, dt, xs, carry=s)[1]))
    report, ys = run(start, none)
    assert not report.converged and report.iterations <= 256
    np.testing.assert_allclose(report.ys, ys, rtol=1e-3, atol=1e-2)

    folding = lambda p, h, x: (1 - 1.9 * h**2, h)  # T steps suffice to satisfy every equation, and say nothing
    found = rj.parallel.newton(folding, {}, none[:30], carry=jnp.full(1, 0.3))
    assert found.residual < 1e-5 and not found.converged and found.iterations <= 30


@pytest.mark.slow
@pytest.mark.parametrize("cell", [rj.GRU(H), rj.LSTM(H), rj.SLSTM(H)], ids=repr)
def test_weights_times_a_hundred_end_in_the_sequential_answer(cell: Any) -> None:
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(600, I)), jnp.float32)
    params = jax.tree.map(lambda a: 100 * a, cell.init(jax.random.key(0), xs[0]))
    report, ys = quick(lambda p, xs: (rj.parallel.newton(cell, p, xs), rj.unroll(cell, p, xs)[1]))(params, xs)
    assert not report.converged and np.isfinite(report.ys).all()
    np.testing.assert_allclose(report.ys, ys, atol=1e-3)


def test_of_a_complex_number_and_of_a_unit_its_parts_are_kept_together() -> None:
    """A diagonal complex recurrence takes one step; blocks of an LSTM take fewer than its diagonal."""
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(60, I)), jnp.float32)
    lru, lstm = rj.LRU(2, state=3), rj.LSTM(H)
    params = [lru.init(jax.random.key(0), xs[0]), lstm.init(jax.random.key(0), xs[0])]
    bare, start = lambda p, c, x: lstm(p, c, x), lstm.initial_carry(params[1], xs[0])
    count = lambda *args, **how: rj.parallel.newton(*args, method="quasi_deer", **how).iterations
    run = quick(lambda a, b: (count(lru, a, xs), count(lstm, b, xs), count(bare, b, xs, carry=start)))
    of_lru, of_blocks, of_diagonal = run(params[0], jax.tree.map(lambda a: 2 * a, params[1]))
    assert of_lru == 1 and of_blocks < of_diagonal


def test_blocks_of_parts_of_different_shapes_are_refused() -> None:
    class Odd:
        blocks_by_unit = True

        def __call__(self, params, carry, x):
            return carry, x

    with pytest.raises(ValueError, match="Odd.*blocks_by_unit needs parts of the carry of one shape"):
        rj.parallel.newton(Odd(), {}, jnp.ones((3, 1)), carry=(jnp.ones(2), jnp.ones(3)), method="quasi_deer")


def test_a_loop_forward_has_its_gradient_in_parallel() -> None:
    """Of ``h' = a h + x``, ``L = h_T``: ``dL/da`` by hand."""
    body = lambda a, h, x: (a * h + x, h)
    xs = jnp.asarray(RNG.normal(size=(30, 1)), jnp.float32)
    last = lambda a: rj.parallel.adjoint(body, a, xs, carry=jnp.zeros(1))[0][0]
    value, slope = quick(jax.value_and_grad(last))(jnp.float32(0.9))
    powers, x = np.arange(30), np.asarray(xs[::-1, 0], np.float64)
    np.testing.assert_allclose(value, np.sum(0.9**powers * x), rtol=1e-5)
    np.testing.assert_allclose(slope, np.sum(powers[1:] * 0.9 ** (powers[1:] - 1) * x[1:]), rtol=1e-5)


@pytest.mark.slow
def test_forcing_makes_a_chaotic_system_one_that_newton_solves() -> None:
    """20,000 steps of Lorenz's system, drawn by three tenths towards what was seen: the gradient is that of the loop."""
    with jax.enable_x64(True):
        none, start, dt = jnp.zeros((20_000, 1)), jnp.array([1.0, 1.0, 20.0]), jnp.float64(0.01)
        seen = rj.unroll(lorenz, dt, none, carry=start)[1]
        forced = lambda dt, s, x: (rj.parallel.Forced(Lorenz(), 0.3)(dt, s, x), 0)[0]
        report = rj.parallel.newton(forced, 1.01 * dt, (none, seen), carry=start)
        assert report.converged and report.iterations <= 12
        loss = lambda dt, m: jnp.mean(rj.unroll(forced, dt, (none, seen), carry=start, method=m)[1] ** 2)
        wanted, got = quick(lambda dt: [jax.grad(loss)(dt, m) for m in ("scan", "deer")])(1.01 * dt)
        np.testing.assert_allclose(got, wanted, rtol=1e-8)


class Lorenz:
    """`lorenz` with the methods of a cell."""

    def init(self, key, x):
        return jnp.float32(0.01)

    def initial_carry(self, params, x):
        return jnp.ones(3)

    def __call__(self, params, carry, x, key=None):
        return lorenz(params, carry, x)


def test_forcing_is_the_average_that_it_states() -> None:
    cell = rj.parallel.Forced(rj.IRNN(1), 0.25)
    params = {"input": jnp.zeros((1, 1)), "recurrent": jnp.full((1, 1), 2.0)}
    teacher = jnp.array([[4.0], [jnp.nan], [8.0]])
    carry, ys = rj.unroll(cell, params, (jnp.ones((3, 1)), teacher))
    assert ys[:, 0].tolist() == [2.0, 4.0, 2 * (0.75 * 4 + 0.25 * 8)] and carry[0] == ys[-1, 0]
    with pytest.raises(TypeError, match=r"Forced: one step's input is the pair \(x, teacher\)"):
        rj.unroll(cell, params, jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="Forced: share"):
        rj.parallel.Forced(rj.GRU(2), 1.0)


@pytest.mark.parametrize("method", ["deer", "elk"])
def test_without_convergence_the_answer_is_the_sequential_one(method: str) -> None:
    cell, xs = rj.GRU(H), jnp.asarray(3 * XS, jnp.float32)
    params = jax.tree.map(lambda a: 4 * a, cell.init(jax.random.key(0), xs[0]))
    report = rj.parallel.newton(cell, params, xs, method=method, max_iterations=1)
    assert not report.converged and report.residual > 1e-3 and report.iterations == 1
    carry, ys = rj.unroll(cell, params, xs)
    np.testing.assert_allclose(report.ys, ys, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(report.carry, carry, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_elk_solves_the_least_squares_problem_it_states() -> None:
    from rnnjax.sequence.methods import kalman

    steps, d, weight = 5, 2, 0.4
    f, u = RNG.normal(size=(steps, d, d)), RNG.normal(size=(steps, d))
    with jax.enable_x64(True):
        got = kalman.smooth(jnp.asarray(f), jnp.asarray(u), weight)
    rows = np.eye(steps * d)
    for t in range(1, steps):
        rows[t * d : (t + 1) * d, (t - 1) * d : t * d] = -f[t]
    rows = np.concatenate([rows, np.sqrt(weight) * np.eye(steps * d)])
    wanted = np.linalg.lstsq(rows, np.concatenate([u.ravel(), np.zeros(steps * d)]), rcond=None)[0]
    np.testing.assert_allclose(got, wanted.reshape(steps, d), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_batch_elements_that_act_on_one_another_are_still_right() -> None:
    """The Jacobian leaves their coupling out; the residual does not."""
    body = lambda p, h, x: (jnp.tanh(0.5 * (h - h.mean(0)) + x), h)
    xs = jnp.asarray(XS, jnp.float32)
    report = rj.parallel.newton(body, {}, xs, carry=jnp.zeros((B, I)))
    carry, ys = rj.unroll(body, {}, xs, carry=jnp.zeros((B, I)), method="loop")
    np.testing.assert_allclose(report.ys, ys, atol=1e-5)
    np.testing.assert_allclose(report.carry, carry, atol=1e-5)


@pytest.mark.slow
def test_complex_carries_stacks_no_steps_and_keys() -> None:
    xs = jnp.asarray(XS[:4], jnp.float32)
    cell = rj.Stack(rj.Dropout(rj.LRU(2), 0.5), rj.Elman(2))
    params = cell.init(jax.random.key(0), xs[0])
    run = quick(lambda p, xs, m: rj.unroll(cell, p, xs, key=jax.random.key(3), method=m), static_argnums=2)
    got, wanted = run(params, xs, "deer"), run(params, xs, "scan")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, wanted)
    carry, ys = rj.unroll(cell, params, xs[:0], method="deer")
    assert ys.shape == (0, B, 2) and not jax.tree.leaves(carry)[0].any()


def test_what_it_cannot_do_is_refused() -> None:
    cell, xs = rj.GRU(H), jnp.ones((T, I))
    params = cell.init(jax.random.key(0), xs[0])
    with pytest.raises(ValueError, match="newton: method must be one of 'deer', 'quasi_deer', 'elk', got 'dear'"):
        rj.parallel.newton(cell, params, xs, method="dear")
    with pytest.raises(ValueError, match="method='deer' takes no checkpoint"):
        rj.unroll(cell, params, xs, method="deer", checkpoint=2)
    with pytest.raises(TypeError, match="needs a floating point carry, got a part of int32"):
        rj.parallel.newton(lambda p, n, x: (n + 1, x), {}, xs, carry=jnp.int32(0))
    clock = rj.Clockwork(H)
    with pytest.raises(
        TypeError, match=r"Clockwork\(4.*needs a floating point carry, got a part of int32; use method='scan'"
    ):
        rj.parallel.adjoint(clock, clock.init(jax.random.key(0), xs[0]), xs)

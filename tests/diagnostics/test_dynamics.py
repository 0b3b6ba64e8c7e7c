"""Lyapunov exponents and fixed points against theory: linear maps, Henon, Lorenz, random networks, bisection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.diagnostics import fixed_points, lyapunov


def test_linear_network_has_the_logarithms_of_its_eigenvalues(key):
    """U with eigenvalues 1.1, 0.5 +- 0.5i and -0.2: moduli 1.1, 0.707 twice, 0.2."""
    cell, xs = rj.Elman(4, activation="identity"), jnp.zeros((3000, 1))
    params = cell.init(key, xs[0])
    blocks = np.zeros((4, 4))
    blocks[0, 0], blocks[1:3, 1:3], blocks[3, 3] = 1.1, [[0.5, 0.5], [-0.5, 0.5]], -0.2
    turn = np.asarray(params["recurrent"], np.float64) + 0.3 * np.eye(4)
    params["recurrent"] = jnp.asarray(turn @ blocks @ np.linalg.inv(turn), jnp.float32)
    want = np.log([1.1, np.sqrt(0.5), np.sqrt(0.5), 0.2])
    np.testing.assert_allclose(lyapunov(cell, params, xs, warm_up=100), want, atol=2e-3)
    np.testing.assert_allclose(lyapunov(cell, params, xs, warm_up=100, k=2), want[:2], atol=2e-3)


def test_henon_map():
    """0.419 and -1.623, whose sum is log 0.3 at every step."""

    def henon(params, carry, x):
        a, b = carry
        return (1 - 1.4 * a**2 + b, 0.3 * a), a

    got = lyapunov(henon, {}, jnp.zeros((20000, 1)), carry=(jnp.array(0.1), jnp.array(0.1)), warm_up=200)
    np.testing.assert_allclose(got.sum(), np.log(0.3), atol=1e-4)
    np.testing.assert_allclose(got, [0.419, -1.623], atol=0.01)


def test_lorenz_system(float64):
    """Runge-Kutta steps of 0.01: 0.906, 0 and -14.57 per unit of time, summing to -(10 + 1 + 8/3)."""

    def flow(s):
        return jnp.stack([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])

    def step(params, s, x):
        a = flow(s)
        b = flow(s + 0.005 * a)
        c = flow(s + 0.005 * b)
        return s + 0.01 / 6 * (a + 2 * b + 2 * c + flow(s + 0.01 * c)), s

    got = lyapunov(step, {}, jnp.zeros((40000, 1)), carry=jnp.ones(3), warm_up=2000) / 0.01
    np.testing.assert_allclose(got.sum(), -(11 + 8 / 3), atol=0.01)
    np.testing.assert_allclose(got, [0.906, 0.0, -14.57], atol=0.04)


def test_random_network_below_chaos(key):
    """h' = J tanh(h), J ~ N(0, g^2/N), g = 0.8: h dies out, exponents ln g + ln(1 - (i - 1/2)/N)/2 for large N."""
    n, g = 100, 0.8
    weights = {"J": g / np.sqrt(n) * jax.random.normal(key, (n, n))}
    network = lambda params, h, x: (jnp.tanh(h) @ params["J"].T, h)
    got = lyapunov(network, weights, jnp.zeros((600, 1)), carry=1e-3 * jnp.ones(n), k=20, warm_up=200)
    want = np.log(g) + 0.5 * np.log(1 - (np.arange(1, 21) - 0.5) / n)
    np.testing.assert_allclose(got, want, atol=0.06)
    np.testing.assert_allclose(got.mean(), want.mean(), atol=0.03)


def test_lyapunov_errors():
    with pytest.raises(ValueError, match="is a bare function; pass carry="):
        lyapunov(lambda p, c, x: (c, c), {}, jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="k must be at most 2, the size of the carry, and warm_up below 3"):
        lyapunov(lambda p, c, x: (c, c), {}, jnp.zeros((3, 1)), carry=jnp.ones(2), k=3)


def test_fixed_point_of_a_linear_network(key):
    """h = h U + x W + b solved directly; the eigenvalues are those of U."""
    cell, x = rj.Elman(3, activation="identity"), jnp.array([1.0, -2.0])
    params = cell.init(key, x)
    params["recurrent"] = 0.7 * params["recurrent"]
    found = fixed_points(cell, params, x, jax.random.normal(key, (5, 3)))
    u = np.asarray(params["recurrent"], np.float64)
    want = np.linalg.solve((np.eye(3) - u).T, np.asarray(x @ params["input"] + params["bias"], np.float64))
    np.testing.assert_allclose(found.points, np.tile(want, (5, 1)), atol=1e-5)
    assert bool((found.residual < 1e-5).all())
    np.testing.assert_allclose(np.abs(found.eigenvalues), 0.7, atol=1e-5)


def test_fixed_points_of_a_bistable_neuron(float64):
    """h' = tanh(2 h): 0 is unstable (slope 2); the two others by bisection."""
    low, high = 0.5, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.tanh(2 * middle) > middle else (low, middle)
    neuron = lambda params, h, x: (jnp.tanh(2 * h), h)
    found = fixed_points(neuron, {}, jnp.zeros(1), jnp.array([[-0.8], [0.01], [0.9]]))
    np.testing.assert_allclose(found.points[:, 0], [-low, 0.0, low], atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues[:, 0].real, 2 * (1 - np.array([low, 0.0, low]) ** 2), rtol=1e-8)


def test_slow_points_are_told_apart_by_their_residual(float64):
    """h' = h + h^2 + 0.01 has no fixed point; it is slowest at h = 0, by 0.01."""
    ghost = lambda params, h, x: (h + h**2 + 0.01, h)
    found = fixed_points(ghost, {}, jnp.zeros(1), jnp.array([[0.3], [-0.3]]))
    np.testing.assert_allclose(found.points, 0.0, atol=1e-3)
    np.testing.assert_allclose(found.residual, 0.01, rtol=1e-3)


def test_points_come_in_the_form_of_the_carry(key):
    cell, xs = rj.LSTM(3), jnp.zeros((10, 4, 2))
    params = cell.init(key, xs[0])
    carry, _ = rj.unroll(cell, params, xs, carry=rj.LSTMCarry(h=jnp.ones((4, 3)) * 0.1, c=jnp.ones((4, 3)) * 0.1))
    found = fixed_points(cell, params, xs[0, 0], carry)
    assert found.points.c.shape == (4, 3) and found.eigenvalues.shape == (4, 6)
    again, _ = cell(params, found.points, xs[0])
    np.testing.assert_allclose(again.c, found.points.c, atol=1e-5)

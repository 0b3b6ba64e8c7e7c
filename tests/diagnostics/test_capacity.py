"""Memory capacity against Jaeger's theorem and the closed form of a ring of units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.diagnostics import memory_capacity


def test_a_delay_line_remembers_what_it_holds_and_nothing_else(key):
    """Six units: six delays perfectly, and of later ones nothing beyond the scatter of 2000 samples."""

    def line(params, carry, x):
        carry = jnp.concatenate([x, carry[..., :-1]], axis=-1)
        return carry, carry

    found = memory_capacity(line, {}, jax.random.normal(key, (1100, 2, 1)), carry=jnp.zeros((2, 6)), delays=9)
    np.testing.assert_allclose(found.by_delay[:6, 0], 1.0, atol=1e-5)
    np.testing.assert_allclose(found.by_delay[6:, 0], 0.0, atol=4 * np.sqrt(2 * 6) / 2000)
    np.testing.assert_allclose(found.total, 6.0, atol=0.01)


def test_a_linear_ring_has_the_capacity_of_its_size(float64, key):
    """``h' = r U h + x e_0``, U an orthogonal matrix (a cycle of n): unit j holds ``sum_m r^(j + mn) x_{t-j-mn}``, so
    ``MC_{j+mn} = r^(2mn) (1 - r^(2n))``, whose sum is n."""
    n, r = 5, 0.95
    cell, xs = rj.Elman(n, activation="identity"), jax.random.normal(key, (10000, 10, 1))
    params = {
        "input": jnp.eye(n)[:1],
        "recurrent": r * jnp.roll(jnp.eye(n), 1, axis=1),
        "bias": jnp.zeros(n),
    }
    found = memory_capacity(cell, params, xs, delays=80)
    k = np.arange(80)
    np.testing.assert_allclose(found.by_delay[:, 0], r ** (2 * n * (k // n)) * (1 - r ** (2 * n)), atol=0.01)
    np.testing.assert_allclose(found.total, n, atol=0.1)


def test_several_inputs_share_the_capacity_and_a_saturated_network_has_less(key):
    """Two inputs into one delay line of three each; and tanh of 50 times them, which knows their signs: 2 / pi of each."""

    def lines(params, carry, x):
        carry = jnp.concatenate([x[None], carry[:-1]])
        return carry, jnp.tanh(params * carry)

    xs = jax.random.normal(key, (4000, 2))
    found = memory_capacity(lines, 1e-2, xs, carry=jnp.zeros((3, 2)), delays=4)
    np.testing.assert_allclose(found.by_delay, np.repeat([[1.0, 1.0], [0.0, 0.0]], [3, 1], axis=0), atol=0.01)
    found = memory_capacity(lines, 50.0, xs, carry=jnp.zeros((3, 2)), delays=3)
    np.testing.assert_allclose(found.by_delay, 2 / np.pi, atol=0.05)


def test_capacity_errors():
    stay = lambda p, c, x: (c, c)
    with pytest.raises(ValueError, match="is a bare function; pass carry="):
        memory_capacity(stay, {}, jnp.zeros((30, 1)))
    with pytest.raises(ValueError, match=r"2 outputs of .* at least 6 samples .* got 5 \(T=9, delays=4, warm_up=4\)"):
        memory_capacity(stay, {}, jnp.zeros((9, 1)), carry=jnp.zeros(2))
    with pytest.raises(ValueError, match="delays must be at least 1, got 0"):
        memory_capacity(stay, {}, jnp.zeros((9, 1)), carry=jnp.zeros(2), delays=0)
    with pytest.raises(TypeError, match="outputs of .* must be real numbers, got int32"):
        memory_capacity(lambda p, c, x: (c, c.astype(int)), {}, jnp.zeros((90, 1)), carry=jnp.zeros(2))

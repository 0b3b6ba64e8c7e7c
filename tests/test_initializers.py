"""Starting values have the statistics they are documented to have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import LSTM, initializers


def test_lecun_variance_is_one_over_fan_in():
    w = initializers.lecun(jax.random.key(0), (300, 200))
    np.testing.assert_allclose(w.std(), 300**-0.5, rtol=0.02)


def test_orthogonal_per_gate():
    w = initializers.per_gate(initializers.orthogonal, 4)(jax.random.key(0), (8, 32))
    blocks = np.split(np.asarray(w), 4, axis=-1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-5)
    assert not np.allclose(blocks[0], blocks[1])
    with pytest.raises(ValueError, match="does not divide into 3 gates"):
        initializers.per_gate(initializers.lecun, 3)(jax.random.key(0), (4, 8))


def test_orthogonal_in_half_precision():
    w = initializers.orthogonal(jax.random.key(0), (8, 8), jnp.bfloat16)
    assert w.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(w) @ np.float32(w).T, np.eye(8), atol=0.03)


def test_chrono_is_log_uniform_over_the_time_scale():
    f = np.exp(np.asarray(initializers.chrono(101.0)(jax.random.key(0), (20000,))))
    assert f.min() >= 1 and f.max() <= 100
    np.testing.assert_allclose(f.mean(), 50.5, rtol=0.02)
    with pytest.raises(ValueError, match="max_time must be above 2"):
        initializers.chrono(2)


def test_lstm_starts_by_forget_bias_or_chrono():
    bias = LSTM(5, forget_bias=2.0).init(jax.random.key(0), jnp.ones(3))["bias"].reshape(4, 5)
    np.testing.assert_array_equal(bias, np.array([0, 2, 0, 0])[:, None] * np.ones(5))
    bias = LSTM(5, chrono=50.0).init(jax.random.key(0), jnp.ones(3))["bias"].reshape(4, 5)
    np.testing.assert_array_equal(bias[0], -bias[1])
    assert (bias[1] >= 0).all() and (bias[1] <= np.log(49)).all() and not bias[2:].any()

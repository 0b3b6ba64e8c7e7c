"""Shared by the interop tests: random configurations and comparisons with another library's numbers."""

import jax
import jax.numpy as jnp
import numpy as np

T, B, I, H = 5, 3, 3, 4


def data(seed, *shape, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def close(got, expected, tolerance=2e-5):
    """Trees equal to rounding, leaf by leaf in order."""
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert len(got) == len(expected), (len(got), len(expected))
    for g, e in zip(got, expected):
        np.testing.assert_allclose(np.asarray(g, np.float64), np.asarray(e, np.float64), rtol=tolerance, atol=tolerance)


def same(got, expected):
    """Trees of the same structure, shapes, dtypes and bits."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        assert g.dtype == e.dtype and g.shape == e.shape
        np.testing.assert_array_equal(np.asarray(g), np.asarray(e))


def value_and_grads(layer, params, xs, weights, **how):
    """ys, the carry, and the gradients of ``sum(weights * ys)`` for the params and the inputs."""

    @jax.jit
    def loss(params, xs):
        carry, ys = layer(params, xs, **how)
        return (weights * ys).sum(), (ys, carry)

    (_, (ys, carry)), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, jnp.asarray(xs))
    return ys, carry, grads


def trained(layer, params, xs, rate=0.1):
    """The params after one step of gradient descent: no longer what any library's initialiser gives."""
    grads = jax.jit(jax.grad(lambda p: (layer(p, jnp.asarray(xs))[1] ** 2).mean()))(params)
    return jax.tree.map(lambda p, g: p - jnp.asarray(rate, p.dtype) * g, params, grads)


def draw(seed, **choices):
    """One random configuration: a value for each name."""
    rng = np.random.default_rng(seed)
    return {name: values[rng.integers(len(values))] for name, values in choices.items()}


def new_params(layer, seed=0, dtype=jnp.float32):
    """Fresh params with every array random, biases and peepholes too, so that no part can hide behind zeros."""
    params = layer.init(jax.random.key(seed), jax.ShapeDtypeStruct((B, I), dtype))
    rng = np.random.default_rng(seed + 1)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), a.dtype), params)

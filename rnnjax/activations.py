"""Functions of what a unit sums up, which many cells share: activations by name, modReLU, layer normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import wide

ACTIVATIONS = {
    "tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "identity": lambda x: x, "linear": lambda x: x,
    "sin": jnp.sin, "gelu": jax.nn.gelu, "elu": jax.nn.elu, "selu": jax.nn.selu, "celu": jax.nn.celu,
    "silu": jax.nn.silu, "swish": jax.nn.silu, "softplus": jax.nn.softplus, "softsign": jax.nn.soft_sign,
    "leaky_relu": jax.nn.leaky_relu, "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,  # clip(x / 6 + 1/2, 0, 1), as in JAX, torch and Keras 3
    "hard_sigmoid_0.2": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),  # as in Theano, Keras 1 and 2, and ONNX unless it says otherwise
    "relu6": jax.nn.relu6, "mish": jax.nn.mish, "log_sigmoid": jax.nn.log_sigmoid,
}  # fmt: skip


def modrelu(h: jax.Array, bias: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``relu(|h| + b) h / |h|``: the phase (or sign) stays. Real or complex. 0 stays 0, and is constant to gradients: the
    slope ``b / epsilon`` there, to the power of the steps of a padding with zeros, would be more than any dtype holds."""
    z = wide(h)  # in half precision the square of epsilon is 0
    square = (z * z.conj()).real
    zero = square == 0
    size = jnp.sqrt(jnp.where(zero, 1, square) + epsilon**2)
    scale = jnp.where(zero, 0, jax.nn.relu(size + bias.astype(size.dtype)) / size)
    return (scale.astype(z.dtype) * z).astype(h.dtype)


def layer_norm(z: jax.Array, gain: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``gain (z - mean) / sqrt(variance + epsilon)`` over the last axis (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    The mean and variance of half precision are taken in float32.
    """
    w = wide(z)
    centred = w - w.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (centred * scale).astype(z.dtype) * gain


def softplus_inverse(value: float) -> float:
    """z with ``log(1 + exp(z)) = value``."""
    return float(np.log(np.expm1(value))) if value < 30 else value


def bounded_exp(z: jax.Array, top: float = 40.0) -> jax.Array:
    """``exp(min(z, top))``: a rate so fast that all is gone in one step, which stays finite times another and in gradients."""
    return jnp.exp(jnp.minimum(z, top))


def log_softplus(z: jax.Array) -> jax.Array:
    """``log(log(1 + exp(z)))``, ``z - exp(z) / 2`` far below zero, where softplus underflows. Values and gradients."""
    far = z < -20
    return jnp.where(far, z - jnp.exp(jnp.minimum(z, -20)) / 2, jnp.log(jax.nn.softplus(jnp.where(far, 0, z))))


def sqrt_one_minus_exp(log_u: jax.Array) -> jax.Array:
    """``sqrt(1 - exp(-u))`` from ``log u``: near ``u = 0``, where the root's gradient has no bound, it is ``exp(log_u / 2)``."""
    u = jnp.exp(log_u)
    small = u < jnp.finfo(u.dtype).eps
    safe = jnp.where(small, 1, u)
    return jnp.exp(log_u / 2) * jnp.sqrt(jnp.where(small, 1 - u / 2, -jnp.expm1(-safe) / safe))


FORGET = {"sigmoid": jax.nn.log_sigmoid, "exp": lambda f: f}  # log of the forget gate

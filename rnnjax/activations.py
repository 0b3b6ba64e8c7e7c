"""Functions of what a unit sums up, which many cells share: activations by name, modReLU, layer normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

ACTIVATIONS = {
    "tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "identity": lambda x: x, "linear": lambda x: x,
    "sin": jnp.sin, "gelu": jax.nn.gelu, "elu": jax.nn.elu, "selu": jax.nn.selu, "celu": jax.nn.celu,
    "silu": jax.nn.silu, "swish": jax.nn.silu, "softplus": jax.nn.softplus, "softsign": jax.nn.soft_sign,
    "leaky_relu": jax.nn.leaky_relu, "hard_tanh": jax.nn.hard_tanh, "hard_sigmoid": jax.nn.hard_sigmoid,
    "relu6": jax.nn.relu6, "mish": jax.nn.mish, "log_sigmoid": jax.nn.log_sigmoid,
}  # fmt: skip


def modrelu(h: jax.Array, bias: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``relu(|h| + b) h / |h|``: the phase (or sign) stays. Real or complex; 0 stays 0, with gradients that are finite."""
    square = (h * h.conj()).real
    size = jnp.sqrt(square + jnp.asarray(epsilon**2, square.dtype))
    return (jax.nn.relu(size + bias.astype(size.dtype)) / size).astype(h.dtype) * h


def layer_norm(z: jax.Array, gain: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``gain (z - mean) / sqrt(variance + epsilon)`` over the last axis (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    The mean and variance of half precision are taken in float32.
    """
    wide = z.astype(jnp.float32) if z.dtype.itemsize < 4 else z
    centred = wide - wide.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (centred * scale).astype(z.dtype) * gain


def softplus_inverse(value: float) -> float:
    """z with ``log(1 + exp(z)) = value``."""
    return float(np.log(np.expm1(value))) if value < 30 else value


FORGET = {"sigmoid": jax.nn.log_sigmoid, "exp": lambda f: f}  # log of the forget gate

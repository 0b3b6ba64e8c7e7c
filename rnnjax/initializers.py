"""Starting values for parameters: each is a function ``(key, shape, dtype) -> array``.

Weights are ``[inputs, outputs]``, applied as ``x @ w``. Where a weight holds several gates side by side
``[inputs, gates * H]``, `per_gate` draws each gate's block on its own, so that "orthogonal" is true of each recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import wide_dtype

Initializer = Callable[..., jax.Array]


def lecun(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Normal with variance 1 / fan-in, fan-in being all axes but the last (LeCun et al. 1998, Efficient BackProp).

    >>> import jax
    >>> w = lecun(jax.random.key(0), (400, 100))
    >>> bool(abs(w.std() - 0.05) < 0.002)
    True
    """
    return jax.nn.initializers.lecun_normal()(key, shape, dtype)


def zeros(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """All zeros; ``key`` is ignored."""
    return jnp.zeros(shape, dtype)


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A uniformly random matrix with orthonormal rows or columns (Saxe et al. 2014, arXiv:1312.6120).

    Drawn in float32 at least, since there is no QR in half precision.

    >>> import jax, jax.numpy as jnp
    >>> q = orthogonal(jax.random.key(0), (4, 4))
    >>> bool(jnp.allclose(q @ q.T, jnp.eye(4), atol=1e-5))
    True
    """
    return jax.nn.initializers.orthogonal()(key, shape, wide_dtype(dtype)).astype(dtype)


def identity(scale: float = 1.0) -> Initializer:
    """``scale * I``: the start of the IRNN (Le, Jaitly, Hinton 2015, arXiv:1504.00941).

    >>> import jax
    >>> identity(0.5)(jax.random.key(0), (2, 2)).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return scale * jnp.eye(*shape, dtype=dtype)

    return init


def per_gate(initializer: Initializer, gates: int) -> Initializer:
    """``initializer`` drawn once for each of ``gates`` equal blocks of the last axis, each with its own key.

    >>> import jax, jax.numpy as jnp
    >>> w = per_gate(orthogonal, 3)(jax.random.key(0), (4, 12))
    >>> all(bool(jnp.allclose(b @ b.T, jnp.eye(4), atol=1e-5)) for b in jnp.split(w, 3, axis=-1))
    True
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        if shape[-1] % gates:
            raise ValueError(f"per_gate: last axis {shape[-1]} does not divide into {gates} gates")
        block = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([initializer(k, block, dtype) for k in jax.random.split(key, gates)], axis=-1)

    return init


def chrono(max_time: float) -> Initializer:
    """Forget-gate bias ``log u, u ~ U(1, max_time - 1)``: memories of 1 to ``max_time`` steps.

    An LSTM's input gate takes the negative of it. Tallec and Ollivier 2018, arXiv:1804.11188, equation 16.
    Raises: ValueError unless ``max_time > 2``.

    >>> import jax
    >>> b = chrono(100.0)(jax.random.key(0), (500,))
    >>> 0 <= float(b.min()) and 4.5 < float(b.max()) <= float(jax.numpy.log(99.0))
    True
    """
    if not max_time > 2:
        raise ValueError(f"chrono: max_time must be above 2 steps, got {max_time}")

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        draw = jax.random.uniform(key, shape, wide_dtype(dtype), 1.0, max_time - 1.0)
        return jnp.log(draw).astype(dtype)

    return init

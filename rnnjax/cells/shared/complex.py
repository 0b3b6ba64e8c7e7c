"""Complex states of cells whose params are real.

The state is complex64, or complex128 where params and inputs are float64; with half precision params it is complex64 and
the output goes back to half.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import step_dtype, wide


def complex_zeros(params: Any, x: Any, *shape: int) -> jax.Array:
    """A complex start ``[*B, *shape]`` for the dtype of the step."""
    double = step_dtype(params, x) == jnp.float64
    return jnp.zeros((*x.shape[:-1], *shape), jnp.complex128 if double else jnp.complex64)


def complex_of(params: Any, name: str) -> jax.Array:
    """``params[name_real] + i params[name_imag]``."""
    return jax.lax.complex(wide(params[f"{name}_real"]), wide(params[f"{name}_imag"]))


def times(x: jax.Array, params: Any, name: str) -> jax.Array:
    """``x (W_real + i W_imag)`` for real x, as two real products."""
    return jax.lax.complex(wide(x @ params[f"{name}_real"]), wide(x @ params[f"{name}_imag"]))


def real_part(h: jax.Array, params: Any, name: str) -> jax.Array:
    """``Re(h (W_real + i W_imag))`` for complex h, as two real products."""
    return h.real @ wide(params[f"{name}_real"]) - h.imag @ wide(params[f"{name}_imag"])


def normal_pair(key: jax.Array, name: str, shape: tuple[int, ...], scale: float, dtype: Any) -> dict[str, jax.Array]:
    """Params of one complex array, normal of this scale in both parts: ``{name}_real`` and ``{name}_imag``, as `complex_of` reads them."""
    re, im = scale * jax.random.normal(key, (2, *shape), dtype)
    return {f"{name}_real": re, f"{name}_imag": im}

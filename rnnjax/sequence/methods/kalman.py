"""A Kalman smoother in parallel over time, for Newton steps with a trust region (Sarkka, Garcia-Fernandez 2021, arXiv:1905.13002)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as
from rnnjax.linear_algebra import inverse


def times(a: jax.Array, v: jax.Array) -> jax.Array:
    """``A v`` with any leading axes."""
    return jnp.einsum("...ij,...j->...i", a, v)


def turn(a: jax.Array) -> jax.Array:
    """Matrices transposed."""
    return jnp.swapaxes(a, -1, -2)


def smooth(f: jax.Array, u: jax.Array, weight: Any) -> jax.Array:
    """The e that minimises ``sum_t |e_t - F_t e_{t-1} - u_t|^2 + weight |e_t|^2``, ``e_0 = 0``.

    That is the smoothed mean of ``e_t = F_t e_{t-1} + u_t + noise`` of variance 1, seen as zero through noise of variance 1 / weight.
    f ``[T, *B, d, d]``, u ``[T, *B, d]``.
    """
    given = u.dtype
    if given.itemsize < 4:  # no LU of half precision
        f, u = f.astype(jnp.float32), u.astype(jnp.float32)
    weight = jnp.asarray(weight, u.dtype)
    one = place_as(jnp.broadcast_to(jnp.eye(u.shape[-1], dtype=u.dtype), f.shape), f)
    k = weight / (1 + weight)  # Kalman's gain
    first = jnp.reshape(jnp.arange(len(u)) == 0, (-1,) + (1,) * (u.ndim - 1))
    started = jnp.where(first[..., None], 0, f)  # the start is known: nothing of it is uncertain
    elements = (
        (1 - k) * started,
        (1 - k) * u,
        (1 - k) * one,
        -k * times(turn(started), u),
        k * turn(started) @ started,
    )
    _, mean, variance, _, _ = jax.lax.associative_scan(_filter, elements)
    following = jnp.concatenate([f[1:], jnp.zeros_like(f[:1])])
    pushed = jnp.concatenate([u[1:], jnp.zeros_like(u[:1])])
    gain = variance @ turn(following) @ inverse(following @ variance @ turn(following) + one)
    offset = mean - times(gain, times(following, mean) + pushed)
    return jax.lax.associative_scan(_back, (gain, offset), reverse=True)[1].astype(given)


def _filter(i: Any, j: Any) -> Any:
    """First i, then j, in the source's letters (A, b, C, eta, J)."""
    (a_i, b_i, c_i, eta_i, j_i), (a_j, b_j, c_j, eta_j, j_j) = i, j
    one = jnp.eye(a_i.shape[-1], dtype=a_i.dtype)
    between = inverse(one + c_i @ j_j)
    left, right = a_j @ between, turn(between @ a_i)  # A_j (1 + C_i J_j)^-1 and A_i^T (1 + J_j C_i)^-1
    return (
        left @ a_i,
        times(left, b_i + times(c_i, eta_j)) + b_j,
        left @ c_i @ turn(a_j) + c_j,
        times(right, eta_j - times(j_j, b_i)) + eta_i,
        right @ j_j @ a_i + j_i,
    )


def _back(later: Any, earlier: Any) -> Any:
    return earlier[0] @ later[0], times(earlier[0], later[1]) + earlier[1]

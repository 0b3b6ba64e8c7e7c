"""Lyapunov exponents: whether neighbouring states come together or fly apart, and how fast."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnnjax.base import Carry, Params, call_step, check_size, name_of


def lyapunov(
    cell: Any, params: Params, xs: Any, *, carry: Carry | None = None, k: int | None = None, warm_up: int = 0
) -> jax.Array:
    """The ``k`` largest Lyapunov exponents along ``xs [T, I]``, ``[k]``: per step, natural logarithm, largest first.

    ``Q_{t+1} R_{t+1} = J_t Q_t`` with ``J_t = d carry_{t+1} / d carry_t``; the exponents are the means over time of
    ``log |diag R_t|``. Positive: chaos, gradients explode along the trajectory; all negative: the start is forgotten.

    cell: any cell, or a bare function with ``carry``. k: all d parts of the flattened carry if None. warm_up: steps left out
    of the mean at the start, in which the state reaches its attractor and Q its directions. One sequence at a time: batch
    axes count as parts of one state (use ``jax.vmap``). Converges as 1/T; exactly -inf where a direction dies in one step.
    Errors: ValueError for a bare function without ``carry``, a ``k`` above d, or a ``warm_up`` that leaves no step.
    Source: Benettin et al. 1980, Meccanica 15; for recurrent networks Engelken et al. 2023, arXiv:2006.02427.

    >>> import jax.numpy as jnp
    >>> halve = lambda params, carry, x: (0.5 * carry, carry)
    >>> found = lyapunov(halve, {}, jnp.zeros((10, 1)), carry=jnp.ones(2))
    >>> bool(jnp.allclose(found, jnp.log(0.5)))
    True
    """
    first = jax.tree.map(lambda a: a[0], xs)
    time = jax.tree.leaves(xs)[0].shape[0]
    if carry is None and not hasattr(cell, "initial_carry"):
        raise ValueError(f"lyapunov: {name_of(cell)} is a bare function; pass carry=, the carry to start from")
    start, unflatten = ravel_pytree(cell.initial_carry(params, first) if carry is None else carry)
    k = start.size if k is None else k
    check_size("lyapunov", "k", k)
    if k > start.size or not 0 <= warm_up < time:
        raise ValueError(
            f"lyapunov: k must be at most {start.size}, the size of the carry, and warm_up below {time}, the number of "
            f"steps; got k={k}, warm_up={warm_up}"
        )

    def step(state: Any, x: Any) -> Any:
        h, q = state
        h, push = jax.linearize(lambda h: ravel_pytree(call_step(cell, params, unflatten(h), x)[0])[0], h)
        q, r = jnp.linalg.qr(jax.vmap(push, in_axes=1, out_axes=1)(q))
        return (h, q), jnp.log(jnp.abs(jnp.diagonal(r)))

    # Random directions: unit vectors of a network in blocks could miss the growing ones for ever.
    q, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (start.size, k), start.dtype))
    _, logs = jax.lax.scan(step, (start, q), xs)
    return jnp.sort(jnp.mean(logs[warm_up:], axis=0), descending=True)

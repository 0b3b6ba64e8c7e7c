"""Memory capacity: how much of its past input a network's outputs hold, for a linear readout."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, check_size, name_of
from rnnjax.diagnostics.system import begin, compiled
from rnnjax.engine import scan


class MemoryCapacity(NamedTuple):
    """total: the capacity, at most the number of outputs. by_delay ``[K, I]``: of each delay and input feature, 1 is perfect.

    Estimates without bias: where nothing is remembered they scatter about 0, a little below as often as above.
    """

    total: jax.Array
    by_delay: jax.Array


def memory_capacity(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    delays: int | None = None,
    warm_up: int | None = None,
) -> MemoryCapacity:
    """``MC = sum_k MC_k``, ``MC_k`` the share of the variance of ``x_{t-k}`` that the best linear readout of ``y_t`` explains.

    ``MC_k = max over v of cov(x_{t-k}, v y_t)^2 / (var x var(v y_t))`` for ``k = 0 .. delays - 1``; of several input features the
    sum. At most O, the number of outputs (Jaeger's theorem): a delay line, or a linear network with an orthogonal matrix, has
    them all; a nonlinear one trades memory for what it computes.

    xs: ``[T, *B, I]``, independent draws of one distribution (``jax.random.normal``), which the bound rests on; several sequences are
    several samples. delays: K, 2 O if None. warm_up: steps left out at the start, where the initial carry still echoes; K if None.
    Outputs are what the cell shows; give it a wrapper, or a bare function, that shows more of the carry to measure that.

    The share is the R^2 of a least squares fit with a constant, adjusted for its number of coefficients, so that it has no bias;
    what varies less than the dtype resolves is not used (more is resolved in float64). Errors: ValueError for fewer than 2 (O + 1)
    samples, bad delays, or a bare function without ``carry``; TypeError for inputs or outputs that are not real.
    Variant: Jaeger counts delays from 1, since his state answers a step after its input; the sum is the same.
    Source: Jaeger 2001, Short term memory in echo state networks, GMD report 152.

    >>> import jax, jax.numpy as jnp
    >>> def delay_line(params, carry, x):                               # the last five inputs
    ...     carry = jnp.concatenate([x, carry[:-1]])
    ...     return carry, carry
    >>> xs = jax.random.normal(jax.random.key(0), (300, 1))
    >>> found = memory_capacity(delay_line, {}, xs, carry=jnp.zeros(5), delays=5)
    >>> round(float(found.total), 3)
    5.0
    """
    begun = begin("memory_capacity", cell, params, xs, carry)
    x, ys = _one_step(cell, begun.params, begun.carry, xs)
    outputs = sum(y.size for y in jax.tree.leaves(ys)) // max(1, _count(begun.batch))
    delays = 2 * outputs if delays is None else delays
    check_size("memory_capacity", "delays", delays)
    warm_up = delays if warm_up is None else warm_up
    first = max(warm_up, delays - 1)
    samples = (begun.time - first) * _count(begun.batch)
    if warm_up < 0 or samples < 2 * (outputs + 1):
        raise ValueError(
            f"memory_capacity: {outputs} outputs of {name_of(cell)} need at least {2 * (outputs + 1)} samples past "
            f"warm_up and delays, got {max(0, samples)} (T={begun.time}, delays={delays}, warm_up={warm_up}); give a longer xs"
        )
    return compiled(_capacity, cell, (begun.batch, delays, first), begun.params, begun.carry, xs)


def _count(batch: tuple[int, ...]) -> int:
    size = 1
    for n in batch:
        size *= n
    return size


def _one_step(cell: Any, params: Params, carry: Carry, xs: Any) -> tuple[Any, Any]:
    """Types of one step's input and outputs, checked."""
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    _, ys = jax.eval_shape(cell, params, carry, x)
    for what, tree in (("inputs", x), ("outputs", ys)):
        kinds = {str(a.dtype) for a in jax.tree.leaves(tree) if not jnp.issubdtype(a.dtype, jnp.floating)}
        if kinds or not jax.tree.leaves(tree):
            raise TypeError(
                f"memory_capacity: {what} of {name_of(cell)} must be real numbers, got {', '.join(kinds) or 'none'}"
            )
    return x, ys


def _capacity(cell: Any, static: Any, params: Params, carry: Carry, xs: Any) -> MemoryCapacity:
    batch, delays, first = static
    _, ys = scan(lambda carry, x: cell(params, carry, x), carry, xs)
    widest = max(
        [jnp.dtype(jnp.float32), *(a.dtype for a in jax.tree.leaves((xs, ys)))], key=lambda d: jnp.finfo(d).bits
    )
    signal, shown = (_columns(tree, len(batch), widest) for tree in (xs, ys))
    time = len(signal)
    rows = lambda a: a.reshape(-1, a.shape[-1])
    basis, rank = _basis(rows(shown[first:]))

    def share(k: jax.Array) -> jax.Array:
        past = rows(jax.lax.dynamic_slice_in_dim(signal, first - k, time - first))
        past = past - past.mean(0, keepdims=True)
        explained = jnp.sum((basis.T @ past) ** 2, axis=0) / jnp.sum(past**2, axis=0)
        count = len(past)
        return 1 - (1 - explained) * (count - 1) / (count - 1 - rank)

    by_delay = jax.lax.map(share, jnp.arange(delays))
    return MemoryCapacity(jnp.sum(by_delay), by_delay)


def _columns(tree: Any, batch: int, dtype: Any) -> jax.Array:
    """``[T, *B, features]``: all leaves side by side."""
    flat = [a.reshape(*a.shape[: 1 + batch], -1) for a in jax.tree.leaves(tree)]
    return jnp.concatenate([a.astype(dtype) for a in flat], axis=-1)


def _basis(shown: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orthonormal columns that span the centred ones ``[n, O]``, zero beyond their rank, and the rank."""
    u, s, _ = jnp.linalg.svd(shown - shown.mean(0, keepdims=True), full_matrices=False)
    kept = s > s[0] * (jnp.finfo(s.dtype).eps * max(shown.shape))
    return u * kept.astype(u.dtype)[None], jnp.sum(kept).astype(u.dtype)

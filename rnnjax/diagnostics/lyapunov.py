"""Lyapunov exponents: whether neighbouring states come together or fly apart, and how fast."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import place_batch_as
from rnnjax.base import Carry, Params, check_size, is_known, name_of
from rnnjax.diagnostics.blocks import FEWEST, standard_error
from rnnjax.diagnostics.system import begin, compiled, floating, vector_step
from rnnjax.linear_algebra import orthonormal

SHORTEST = 4  # steps that a mean is taken over
MARGIN = 16  # roundings of the largest stretch, below which the smallest is nothing but rounding


class Lyapunov(NamedTuple):
    """What is known of a spectrum. Batch axes ``*B`` are there where ``xs`` has them.

    exponents ``[*B, k]``: per step, natural logarithm, largest first.
    standard_error ``[*B, k]``: of each, from the means of blocks of time; the truth is within 1.96 of them about 95 times in 100.
    history ``[n, *B, k]``: the estimate after each re-orthonormalisation; the last row is ``exponents``.
    steps ``[n]``: how many steps past the warm-up each row has seen.
    dimension ``[*B]``: of the attractor, by Kaplan and Yorke (`kaplan_yorke`).
    """

    exponents: jax.Array
    standard_error: jax.Array
    history: jax.Array
    steps: jax.Array
    dimension: jax.Array


def lyapunov(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    k: int | None = None,
    warm_up: int = 0,
    every: int = 1,
    report: bool = False,
) -> Any:
    """The ``k`` largest Lyapunov exponents along ``xs [T, *B, I]``, ``[*B, k]``: per step, natural logarithm, largest first.

    ``Q_{t+1} R_{t+1} = J_t Q_t`` with ``J_t = d carry_{t+1} / d carry_t``; the exponents are the means over time of
    ``log |diag R_t|``. Positive: chaos, gradients explode along the trajectory; all negative: the start is forgotten.

    cell: any cell, wrapper or stack, or a bare function with ``carry``. Every sequence of a batch has a spectrum of its own. The
    carry counts as one real vector of d parts, complex numbers as two. k: all d if None. warm_up: steps left out of the mean at
    the start, in which the state reaches its attractor and Q its directions. every: steps between re-orthonormalisations, fewer
    of which cost less and resolve less. report: a `Lyapunov` with errors, history and dimension in place of the exponents.

    Converges as 1/T where nothing fluctuates, as 1/sqrt(T) else (``standard_error``); exactly -inf where a direction dies in one
    step. Works under jit and has a gradient, where no exponent is -inf and no two are equal. Outside jit a RuntimeWarning says
    which exponents lie below what the carry's dtype resolves: between two re-orthonormalisations, shorter than 16 roundings of
    the longest stretch. Those are rounding, not dynamics.
    Errors: ValueError for a bare function without ``carry``, a ``k`` above d, a ``warm_up`` that leaves fewer than 4 steps, or, with
    a report, fewer than 16 re-orthonormalisations; TypeError for a carry with integer parts.
    Source: Benettin et al. 1980, Meccanica 15; for recurrent networks Engelken et al. 2023, arXiv:2006.02427.

    >>> import jax.numpy as jnp
    >>> halve = lambda params, carry, x: (0.5 * carry, carry)
    >>> found = lyapunov(halve, {}, jnp.zeros((20, 1)), carry=jnp.ones(2), report=True)
    >>> bool(jnp.allclose(found.exponents, jnp.log(0.5))), float(found.dimension)
    (True, 0.0)
    """
    begun = begin("lyapunov", cell, params, xs, carry)
    size = floating("lyapunov", cell, begun.carry, begun.batch).size
    k = size if k is None else k
    _check(size, begun.time, k, warm_up, every, report)
    static = (begun.batch, k, warm_up, every)
    found, margin = compiled(_spectrum, cell, static, begun.params, begun.carry, xs)
    _warn(cell, found.exponents, margin)
    return found if report else found.exponents


def kaplan_yorke(exponents: Any, *, size: int | None = None) -> jax.Array:
    """``j + (l_1 + ... + l_j) / |l_{j+1}|``, j the largest number of exponents whose sum is not negative; ``[*B]``.

    exponents ``[*B, k]``, largest first. size: d, the number of all of them, k if None. 0 where the largest is negative (exactly:
    that of a limit cycle is 0, of which an estimate may fall short); d where even all of them do not sum below zero; NaN where
    the first k do not and there are more.
    Source: Kaplan and Yorke 1979; Frederickson et al. 1983, J. Differential Equations 49.

    >>> round(float(kaplan_yorke(jnp.array([0.906, 0.0, -14.572]))), 3)          # the attractor of Lorenz
    2.062
    """
    lams = jnp.asarray(exponents)
    k = lams.shape[-1]
    none = jnp.zeros_like(lams[..., :1])
    sums = jnp.concatenate([none, jnp.cumsum(lams, axis=-1)], axis=-1)
    j = jnp.sum(
        sums[..., 1:] >= 0, axis=-1, keepdims=True
    )  # the sums rise and then fall: those not negative come first
    following = jnp.take_along_axis(lams, jnp.minimum(j, k - 1), axis=-1)
    part = jnp.take_along_axis(sums, j, axis=-1) / jnp.abs(following)
    whole = k if size is None or size == k else jnp.nan
    return jnp.where(j == k, jnp.asarray(whole, lams.dtype), j.astype(lams.dtype) + part)[..., 0]


def _check(size: int, time: int, k: int, warm_up: int, every: int, report: bool) -> None:
    check_size("lyapunov", "k", k)
    check_size("lyapunov", "every", every)
    if k > size or not 0 <= warm_up < time:
        raise ValueError(
            f"lyapunov: k must be at most {size}, the size of the carry, and warm_up below {time}, the number of "
            f"steps; got k={k}, warm_up={warm_up}"
        )
    counted = time - warm_up
    if counted < SHORTEST:
        raise ValueError(
            f"lyapunov: a mean needs at least {SHORTEST} steps after warm_up, got {counted}; give a longer xs"
        )
    if report and counted // every < FEWEST:
        raise ValueError(
            f"lyapunov: a standard error needs at least {FEWEST} re-orthonormalisations after warm_up, got "
            f"{counted // every} ({counted} steps, every={every}); give a longer xs, or report=False"
        )


def _spectrum(cell: Any, static: Any, params: Params, carry: Carry, xs: Any) -> tuple[Lyapunov, jax.Array]:
    """The report, and of each exponent the mean logarithm of its stretch beside all of R."""
    batch, k, warm_up, every = static
    where = floating("lyapunov", cell, carry, batch)
    push = _pusher(vector_step(cell, params, carry, where))
    h = where.pack(carry)
    # Random directions: unit vectors of a network in blocks could miss the growing ones for ever.
    q, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (where.size, k), h.dtype))
    state = (h, place_batch_as(jnp.broadcast_to(q, (*batch, *q.shape)), h, len(batch)))
    state, _ = _in_blocks(push, state, jax.tree.map(lambda a: a[:warm_up], xs), every)
    _, (logs, margin) = _in_blocks(push, state, jax.tree.map(lambda a: a[warm_up:], xs), every)
    counted = jax.tree.leaves(xs)[0].shape[0] - warm_up
    return _summary(logs, counted, every, where.size), jnp.mean(margin, axis=0)


def _pusher(step: Any) -> Any:
    """One step of the state and of its directions: ``Q [*B, d, k] -> J Q``."""

    def push(state: Any, x: Any) -> tuple[Any, None]:
        h, q = state
        h, derivative = jax.linearize(lambda h: step(h, x), h)
        return (h, jnp.moveaxis(jax.vmap(derivative)(jnp.moveaxis(q, -1, 0)), 0, -1)), None

    return push


def _in_blocks(push: Any, state: Any, xs: Any, every: int) -> tuple[Any, Any]:
    """All of xs, re-orthonormalised after every so many steps and at the end; logarithms of the stretches, ``[n, *B, k]``."""

    def block(state: Any, xs: Any) -> Any:
        (h, q), _ = jax.lax.scan(push, state, xs)
        q, r = orthonormal(q)
        logs = jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))
        return (h, q), (logs, logs - jnp.log(jnp.linalg.norm(r, axis=(-2, -1)))[..., None])

    full, over = divmod(jax.tree.leaves(xs)[0].shape[0], every)
    whole = jax.tree.map(lambda a: a[: full * every].reshape(full, every, *a.shape[1:]), xs)
    state, looked = jax.lax.scan(block, state, whole)
    if over:
        state, last = block(state, jax.tree.map(lambda a: a[full * every :], xs))
        looked = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), looked, last)
    return state, looked


def _summary(logs: jax.Array, counted: int, every: int, size: int) -> Lyapunov:
    full = counted // every
    steps = np.minimum(np.arange(1, len(logs) + 1) * every, counted)
    history = jnp.cumsum(logs, axis=0) / jnp.asarray(steps, logs.dtype).reshape(-1, *(1,) * (logs.ndim - 1))
    error = standard_error(logs[:full] / every) if full >= FEWEST else jnp.full_like(logs[0], jnp.nan)
    exponents = jnp.sum(logs, axis=0) / counted
    order = jnp.argsort(jax.lax.stop_gradient(exponents), axis=-1, descending=True)
    sort = lambda a: jnp.take_along_axis(a, jnp.broadcast_to(order, a.shape), axis=-1)
    exponents = sort(exponents)
    return Lyapunov(exponents, sort(error), sort(history), jnp.asarray(steps), kaplan_yorke(exponents, size=size))


def _warn(cell: Any, exponents: jax.Array, margin: jax.Array) -> None:
    """A RuntimeWarning where exponents are rounding and no more; inside jit there are no numbers to look at."""
    if not (is_known(exponents) and is_known(margin)):
        return
    precision = jnp.finfo(exponents.dtype)
    lost = np.asarray(margin < np.log(MARGIN * precision.eps)) & np.isfinite(np.asarray(exponents))
    if lost.any():
        worst = int(lost.reshape(-1, lost.shape[-1]).sum(-1).max())
        warnings.warn(
            f"lyapunov: the spectrum of {name_of(cell)} is wider than {precision.dtype} resolves: the smallest {worst} of "
            f"{exponents.shape[-1]} exponents are rounding; take a smaller k, a smaller every, or float64 (jax_enable_x64)",
            RuntimeWarning,
            stacklevel=3,
        )

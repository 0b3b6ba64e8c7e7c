"""How much of the loss's gradient reaches each step: the vanishing and exploding gradient, measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, call_step
from rnnjax.diagnostics.system import begin
from rnnjax.engine import scan


def gradient_flow(
    cell: Any,
    params: Params,
    xs: Any,
    *,
    carry: Carry | None = None,
    loss: Callable[[Any], jax.Array] | None = None,
) -> jax.Array:
    """``|dL/d carry_t|`` for t = 0 .. T-1, ``[T]``: the gradient for the carry that step t starts from.

    ``carry_{t+1}, y_t = cell(params, carry_t, x_t)``, so carry_0 is the start, and everything from step t on counts. With
    ``J_t = d carry_{t+1} / d carry_t`` and a loss of the last output alone, ``dL/d carry_t = J_t' J_{t+1}' ... dL/dy``: a
    product of T-t matrices, which vanishes or explodes with their norms.

    cell: any cell, or a bare function with ``carry``. xs: ``[T, *B, I]``. loss: of all outputs ``ys [T, *B, O]`` to a
    scalar; default the sum of the last output. The norm is taken over all floating parts of the carry and all sequences
    of the batch together (the root of the summed squares).
    Errors: ValueError for a bare function without ``carry``, TypeError for a loss that is no scalar.
    Source: Bengio, Simard, Frasconi 1994; Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063.

    >>> import jax.numpy as jnp
    >>> def halve(params, carry, x):                        # carry' = carry / 2 + x
    ...     carry = 0.5 * carry + x
    ...     return carry, carry
    >>> gradient_flow(halve, {}, jnp.ones((4, 1)), carry=jnp.zeros(1)).tolist()
    [0.0625, 0.125, 0.25, 0.5]
    """
    params, start, _, time = begin("gradient_flow", cell, params, xs, carry)
    loss = _last_output if loss is None else loss

    def total(taps: Any) -> jax.Array:
        def step(carry: Any, inputs: Any) -> Any:
            x, tap = inputs
            return call_step(cell, params, jax.tree.map(_add, carry, tap), x)  # + 0, whose gradient is dL/d carry_t

        return loss(scan(step, start, (xs, taps))[1])

    nothing = lambda a: jnp.zeros_like(a, _float_of(a))
    taps = jax.tree.map(lambda a: jnp.broadcast_to(nothing(a), (time, *jnp.shape(a))), start)
    return _norms(jax.grad(total)(taps))


def _last_output(ys: Any) -> jax.Array:
    sums = [jnp.sum(y[-1]) for y in jax.tree.leaves(ys)]
    return sum(sums[1:], start=sums[0])


def _float_of(a: Any) -> Any:
    """The dtype of a tap: the leaf's own; for whole numbers and keys a float that is added to nothing."""
    return jnp.result_type(a) if jnp.issubdtype(jnp.result_type(a), jnp.inexact) else jnp.float32


def _add(leaf: Any, tap: Any) -> Any:
    return leaf + tap if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def _norms(grads: Any) -> jax.Array:
    """The joint norm at every step, scaled by the largest part, so that 1e-30 squared does not become zero."""
    parts = [jnp.abs(g).astype(jnp.result_type(float)) for g in jax.tree.leaves(grads)]
    axes = [tuple(range(1, a.ndim)) for a in parts]
    largest = jnp.stack([jnp.max(a, axis) for a, axis in zip(parts, axes, strict=True)]).max(0)
    scale = jnp.where(largest > 0, largest, 1)
    shares = [a / jnp.expand_dims(scale, axis) for a, axis in zip(parts, axes, strict=True)]
    return largest * jnp.sqrt(sum(jnp.sum(a**2, axis) for a, axis in zip(shares, axes, strict=True)))

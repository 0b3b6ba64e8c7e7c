"""How fast the gradient grows or decays with every step back in time, beside the exponent that predicts it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Carry, Params, call_step
from rnnjax.diagnostics.blocks import FEWEST, standard_error
from rnnjax.diagnostics.lyapunov import lyapunov
from rnnjax.diagnostics.system import begin, compiled, floating, vector_step


class GradientSlope(NamedTuple):
    """Decades (factors of ten) a step, ``[*B]`` each.

    slope: of ``|dL / d carry_t|`` with each step further back; negative vanishes, positive explodes. standard_error: of it.
    predicted: the largest Lyapunov exponent over ln 10, which it comes to. predicted_error: of that.
    """

    slope: jax.Array
    standard_error: jax.Array
    predicted: jax.Array
    predicted_error: jax.Array


def gradient_slope(
    cell: Any, params: Params, xs: Any, *, carry: Carry | None = None, warm_up: int = 0
) -> GradientSlope:
    """The mean over time of ``log10 |dL/d carry_t| - log10 |dL/d carry_{t+1}|``, L the sum of the last output.

    ``dL/d carry_t = J_t' dL/d carry_{t+1}`` is brought to length one at every step, so that a sequence of any length has a slope,
    where `gradient_flow` itself ends in zeros or in inf. The same Jacobians in the other order have the same largest exponent:
    that of `lyapunov`, which needs no loss and no gradient.

    xs: ``[T, *B, I]``. warm_up: steps left out at either end: at the start the state reaches its attractor, at the end the gradient
    its direction. Errors: those of `lyapunov` with a report; ValueError for fewer than 16 steps between.

    >>> import jax.numpy as jnp
    >>> halve = lambda params, carry, x: (0.5 * carry, carry)
    >>> found = gradient_slope(halve, {}, jnp.zeros((40, 1)), carry=jnp.ones(2))
    >>> round(float(found.slope), 3), round(float(found.predicted), 3)
    (-0.301, -0.301)
    """
    begun = begin("gradient_slope", cell, params, xs, carry)
    floating("gradient_slope", cell, begun.carry, begun.batch)
    if begun.time - 1 - 2 * warm_up < FEWEST or warm_up < 0:
        raise ValueError(
            f"gradient_slope: needs at least {FEWEST} steps between, got {begun.time} steps with warm_up={warm_up} at either end"
        )
    logs = compiled(_log_steps, cell, (begun.batch, warm_up), begun.params, begun.carry, xs)
    ahead = lyapunov(cell, params, xs, carry=carry, k=1, warm_up=warm_up, report=True)
    decades = lambda a: a / math.log(10)
    return GradientSlope(
        decades(logs.mean(0)),
        decades(standard_error(logs)),
        decades(ahead.exponents[..., 0]),
        decades(ahead.standard_error[..., 0]),
    )


def _log_steps(cell: Any, static: Any, params: Params, carry: Carry, xs: Any) -> jax.Array:
    """``log |J_t' g| - log |g|`` along the gradient g, ``[T - 1 - 2 warm_up, *B]``."""
    batch, warm_up = static
    where = floating("gradient_slope", cell, carry, batch)
    step = vector_step(cell, params, carry, where)
    last = jax.tree.map(lambda a: a[-1], xs)
    h, states = jax.lax.scan(lambda h, x: (step(h, x), h), where.pack(carry), jax.tree.map(lambda a: a[:-1], xs))
    seen = lambda h: sum(map(jnp.sum, jax.tree.leaves(call_step(cell, params, where.unpack(h, carry), last)[1])))
    g = jax.grad(lambda h: jnp.real(seen(h)))(h)

    def back(g: jax.Array, at: Any) -> tuple[jax.Array, jax.Array]:
        h, x = at
        (g,) = jax.vjp(lambda h: step(h, x), h)[1](g)
        size = jnp.linalg.norm(g, axis=-1, keepdims=True)
        return g / size, jnp.log(size[..., 0])

    g = g / jnp.linalg.norm(g, axis=-1, keepdims=True)
    _, logs = jax.lax.scan(back, g, (states, jax.tree.map(lambda a: a[:-1], xs)), reverse=True)
    return logs[warm_up : len(logs) - warm_up]

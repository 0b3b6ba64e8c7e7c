"""The Jacobian of one step."""

from __future__ import annotations

from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from rnnjax.base import Carry, Params, call_step


def jacobian(cell: Any, params: Params, carry: Carry, x: Any) -> jax.Array:
    """``d carry' / d carry`` of one step, flattened ``[d, d]``: row i is the derivative of part i of the new carry.

    The parts of the carry stand in the order of `jax.flatten_util.ravel_pytree`; batch axes are flattened along with
    them, so give one sequence (``x [I]``), or use ``jax.vmap``. Errors: those of the cell for shapes that do not match.

    >>> import jax.numpy as jnp
    >>> def linear(params, carry, x):
    ...     return carry @ params["recurrent"] + x, carry
    >>> w = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> bool((jacobian(linear, {"recurrent": w}, jnp.zeros(2), jnp.zeros(2)) == w.T).all())
    True
    """
    flat, unflatten = ravel_pytree(carry)
    return jax.jacobian(lambda h: ravel_pytree(call_step(cell, params, unflatten(h), x)[0])[0])(flat)

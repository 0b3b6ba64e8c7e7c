"""The Jacobian of one step."""

from __future__ import annotations

from typing import Any

import jax

from rnnjax.base import Carry, Params
from rnnjax.diagnostics.system import floating, vector_step


def jacobian(cell: Any, params: Params, carry: Carry, x: Any) -> jax.Array:
    """``d carry' / d carry`` of one step, flattened ``[d, d]``: row i is the derivative of part i of the new carry.

    The parts of the carry stand in the order of `jax.flatten_util.ravel_pytree`; of a complex one all real parts, then all imaginary
    ones. Batch axes are flattened along with them, so give one sequence (``x [I]``), or use ``jax.vmap``.
    Errors: TypeError for a carry with integer parts; those of the cell for shapes that do not match.

    >>> import jax.numpy as jnp
    >>> def linear(params, carry, x):
    ...     return carry @ params["recurrent"] + x, carry
    >>> w = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> bool((jacobian(linear, {"recurrent": w}, jnp.zeros(2), jnp.zeros(2)) == w.T).all())
    True
    """
    where = floating("jacobian", cell, carry)
    step = vector_step(cell, params, carry, where)
    return jax.jacobian(lambda h: step(h, x))(where.pack(carry))

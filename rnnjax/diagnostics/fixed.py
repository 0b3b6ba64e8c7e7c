"""Fixed and slow points: the states at which a network stands still, and how it moves around them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rnnjax.base import Params, call_step


class FixedPoints(NamedTuple):
    """points ``[n, *carry]``. residual ``[n]``: ``|F(h) - h|`` there. eigenvalues ``[n, d]`` of the Jacobian, largest first."""

    points: Any
    residual: jax.Array
    eigenvalues: np.ndarray


def fixed_points(cell: Any, params: Params, x: Any, carries: Any, *, steps: int = 200) -> FixedPoints:
    """From each of ``carries [n, *carry]`` the nearest fixed or slow point under the constant input ``x [I]``.

    Minimises ``q(h) = |F(h) - h|^2 / 2``, F being one step with ``x``, by ``steps`` of Levenberg and Marquardt: Newton's method
    where it converges, steepest descent where not; no step makes q larger. A residual at rounding level is a fixed point, a
    small one a slow point, a large one neither: look at ``residual`` before using a point. Eigenvalues of modulus below 1 are
    directions that come back. Several starts may end in one point.
    carries: states the network visits make good starts, such as those of `rnnjax.unroll` with noise added.
    Errors: those of the cell for shapes that do not match. The eigenvalues are computed by numpy, so not under jit.
    Source: Sussillo and Barak 2013, Opening the black box, Neural Computation 25(3).

    >>> import jax.numpy as jnp
    >>> halfway = lambda params, carry, x: (0.5 * (carry + x), carry)
    >>> found = fixed_points(halfway, {}, jnp.array([3.0]), jnp.zeros((1, 1)))
    >>> found.points.tolist(), found.eigenvalues.tolist()
    ([[3.0]], [[(0.5+0j)]])
    """
    flat = jax.vmap(lambda carry: ravel_pytree(carry)[0])(carries)
    _, unflatten = ravel_pytree(jax.tree.map(lambda a: a[0], carries))
    step = lambda h: ravel_pytree(call_step(cell, params, unflatten(h), x)[0])[0]
    points, residual = jax.jit(jax.vmap(lambda h: _descend(step, h, steps)))(flat)
    jacobians = np.asarray(jax.jit(jax.vmap(jax.jacobian(step)))(points))
    eigenvalues = np.linalg.eigvals(jacobians).astype(np.result_type(jacobians.dtype, np.complex64))
    order = np.argsort(-np.abs(eigenvalues), axis=1)
    return FixedPoints(jax.vmap(unflatten)(points), residual, np.take_along_axis(eigenvalues, order, axis=1))


def _descend(step: Any, h: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Levenberg and Marquardt on ``step(h) - h``: ``(A'A + damping I) delta = -A' r``, kept only if the residual falls."""

    def improve(state: Any, _: None) -> Any:
        h, damping = state
        r = step(h) - h
        a = jax.jacobian(step)(h) - jnp.eye(h.size, dtype=h.dtype)
        scale = damping * jnp.maximum(jnp.max(jnp.sum(a**2, axis=0)), jnp.finfo(h.dtype).tiny)
        moved = h - jnp.linalg.solve(a.T @ a + scale * jnp.eye(h.size, dtype=h.dtype), a.T @ r)
        better = _size(step(moved) - moved) < _size(r)  # False for NaN
        least = jnp.finfo(h.dtype).eps ** 2
        return (jnp.where(better, moved, h), jnp.where(better, jnp.maximum(damping / 5, least), damping * 3)), None

    (h, _), _ = jax.lax.scan(improve, (h, jnp.ones((), h.dtype) * 1e-2), None, length=steps)
    return h, _size(step(h) - h)


def _size(r: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(r**2))

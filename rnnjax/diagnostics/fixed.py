"""Fixed and slow points: the states at which a network stands still, and how it moves around them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import whole
from rnnjax.base import Carry, Params, check_size, is_known, name_of
from rnnjax.diagnostics.system import compiled, floating, vector_step


class FixedPoints(NamedTuple):
    """points ``[n, *carry]``: where the searches ended, no two nearer than the tolerance, in the order of their starts.

    residual ``[n]``: ``|F(h) - h|`` there. eigenvalues ``[n, d]`` of the Jacobian, largest modulus first.
    stable ``[n]``: fixed, that is with a residual of at most the tolerance, and every eigenvalue of modulus below 1.
    """

    points: Any
    residual: jax.Array
    eigenvalues: np.ndarray
    stable: np.ndarray


def fixed_points(
    cell: Any, params: Params, x: Any, carries: Carry, *, steps: int = 200, tolerance: float | None = None
) -> FixedPoints:
    """From each of ``carries [n, *carry]`` the nearest fixed or slow point under the constant input ``x [I]``.

    Minimises ``q(h) = |F(h) - h|^2 / 2``, F being one step with ``x``, by ``steps`` of Levenberg and Marquardt: Newton's method
    where it converges, steepest descent where not; no step makes q larger. All starts run at once, in one compiled program. A
    residual at rounding level is a fixed point, a small one a slow point, a large one neither: look at ``residual`` before using
    a point. Eigenvalues of modulus below 1 are directions that come back.

    carries: states the network visits make good starts, such as those of `rnnjax.unroll` with noise added; unstable points are found
    from them too. Nobody knows whether all points are found: take more starts until no new one comes.
    tolerance: in units of the carry. Of ends nearer to one another the one with the smallest residual stays. Default:
    ``sqrt(eps) max(1, largest |h|)``, 3e-4 in float32, 1e-8 in float64. Ends that are not finite are dropped.

    Errors: TypeError for a carry with integer parts, ValueError for no start, a bad tolerance, or inside jit, where the number of
    points cannot be known; those of the cell for shapes that do not match.
    Source: Sussillo and Barak 2013, Opening the black box, Neural Computation 25(3).

    >>> import jax.numpy as jnp
    >>> halfway = lambda params, carry, x: (0.5 * (carry + x), carry)
    >>> found = fixed_points(halfway, {}, jnp.array([3.0]), jnp.array([[0.0], [9.0]]))
    >>> found.points.tolist(), found.eigenvalues.tolist(), found.stable.tolist()
    ([[3.0]], [[(0.5+0j)]], [True])
    """
    _check(cell, carries, x, steps, tolerance)
    where = floating("fixed_points", cell, _each(carries))
    ends, residual, jacobians = compiled(_search, cell, steps, params, x, jax.tree.map(whole, carries))
    flat, residual = np.asarray(ends), np.asarray(residual)
    if tolerance is None:
        tolerance = float(
            np.sqrt(jnp.finfo(flat.dtype).eps) * max(1.0, np.abs(flat[np.isfinite(residual)]).max(initial=0))
        )
    chosen = _apart(flat, residual, tolerance)
    eigenvalues = _eigenvalues(np.asarray(jacobians)[chosen])
    stable = (residual[chosen] <= tolerance) & (np.abs(eigenvalues) < 1).all(axis=1)
    points = where.unpack(jnp.asarray(flat[chosen]), carries)
    return FixedPoints(points, jnp.asarray(residual[chosen]), eigenvalues, stable)


def _check(cell: Any, carries: Carry, x: Any, steps: int, tolerance: float | None) -> None:
    check_size("fixed_points", "steps", steps)
    leaves = jax.tree.leaves(carries)
    counts = {np.shape(leaf)[:1] for leaf in leaves}
    if len(counts) != 1 or () in counts or (0,) in counts:
        raise ValueError(
            f"fixed_points: carries of {name_of(cell)} must be carries stacked to [n, *carry], n at least 1, got shapes "
            f"{[np.shape(leaf) for leaf in leaves]}"
        )
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"fixed_points: tolerance must be a positive distance or None, got {tolerance!r}")
    if not all(map(is_known, [*leaves, *jax.tree.leaves(x)])):
        raise ValueError("fixed_points: how many points there are is not known inside jit or vmap; call it outside")


def _each(carries: Carry) -> Carry:
    """The type of one of them."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a)[1:], jnp.result_type(a)), carries)


def _search(cell: Any, steps: int, params: Params, x: Any, carries: Carry) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ends ``[n, d]``, residuals and Jacobians there, of all starts."""
    one = _each(carries)
    where = floating("fixed_points", cell, one)
    flow = vector_step(cell, params, one, where)
    step = lambda h: flow(h, x).astype(h.dtype)
    ends, residual = jax.vmap(lambda h: _descend(step, h, steps))(where.pack(carries))
    return ends, residual, jax.vmap(jax.jacobian(step))(ends)


def _descend(step: Any, h: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Levenberg and Marquardt on ``step(h) - h``: ``(A'A + damping I) delta = -A' r``, kept only if the residual falls."""

    def improve(state: Any, _: None) -> Any:
        h, damping = state
        r = step(h) - h
        a = jax.jacobian(step)(h) - jnp.eye(h.size, dtype=h.dtype)
        scale = damping * jnp.maximum(jnp.max(jnp.sum(a**2, axis=0)), jnp.finfo(h.dtype).tiny)
        moved = h - _solve(a.T @ a + scale * jnp.eye(h.size, dtype=h.dtype), a.T @ r)
        better = _size(step(moved) - moved) < _size(r)  # False for NaN
        least = jnp.finfo(h.dtype).eps ** 2
        return (jnp.where(better, moved, h), jnp.where(better, jnp.maximum(damping / 5, least), damping * 3)), None

    (h, _), _ = jax.lax.scan(improve, (h, jnp.ones((), h.dtype) * 1e-2), None, length=steps)
    return h, _size(step(h) - h)


@jax.custom_batching.sequential_vmap  # a batch of them, at once with another, can hang: `rnnjax.linear_algebra`
def _solve(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.linalg.solve(a, b)


def _size(r: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(r**2))


def _apart(ends: np.ndarray, residual: np.ndarray, tolerance: float) -> np.ndarray:
    """Which ends stay: the best first, each that is not within the tolerance of one that stays; in the order of the starts."""
    left = np.isfinite(residual) & np.isfinite(ends).all(axis=1)
    chosen: list[int] = []
    for i in np.argsort(residual, kind="stable"):
        if left[i]:
            chosen.append(int(i))
            left &= np.linalg.norm(ends - ends[i], axis=1) > tolerance
    return np.sort(np.asarray(chosen, int))


def _eigenvalues(jacobians: np.ndarray) -> np.ndarray:
    """``[n, d]``, largest modulus first."""
    eigenvalues = np.linalg.eigvals(jacobians).astype(np.result_type(jacobians.dtype, np.complex64))
    return np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=1), axis=1)

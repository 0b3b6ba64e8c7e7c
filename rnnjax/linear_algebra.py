"""Small matrices, many at once, in plain array operations.

JAX hands a batch of them on a CPU to LAPACK, a share on each thread of a pool that the program itself runs on. Where two such
batches are worked on at once (two of one program, one on each of two devices) every thread may come to wait for a share that no
thread is left to take: jaxlib 0.10.2 then hangs for ever. Nor do its decompositions take batches that an explicit mesh splits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as

BLOCK = 8  # rows
SQUARINGS = 16  # at most: of matrices up to 30,000


@jax.custom_jvp
def unit_lower_solve(lower: jax.Array, right: jax.Array) -> jax.Array:
    """x with ``lower x = right``, some rows after the others by the inverses of the blocks on the diagonal.

    lower ``[..., n, n]`` with ones on its diagonal, of which only what stands below it is read; right ``[..., n, m]``.

    >>> import jax.numpy as jnp
    >>> unit_lower_solve(jnp.array([[1.0, 0.0], [3.0, 1.0]]), jnp.array([[2.0], [7.0]])).tolist()
    [[2.0], [1.0]]
    """
    return _substitute(lower, right)


@unit_lower_solve.defjvp
def _unit_lower_solve_jvp(primals: tuple, tangents: tuple) -> tuple:
    """``lower dx = dright - dlower x``."""
    (lower, right), (dlower, dright) = primals, tangents
    x = unit_lower_solve(lower, right)
    return x, _substitute(lower, dright - jnp.tril(dlower, -1) @ x)


def _substitute(lower: jax.Array, right: jax.Array) -> jax.Array:
    """Block of rows after block of rows."""
    n = lower.shape[-1]
    size = min(n, BLOCK)
    parts = [slice(at, at + size) for at in range(0, n, size)]
    filled = jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + [(0, -n % size)] * 2)
    back = _unit_lower_inverse(jnp.stack([filled[..., part, part] for part in parts]))
    found = right[..., :0, :]
    for block, part in zip(back, parts, strict=True):
        left = right[..., part, :] - lower[..., part, : part.start] @ found
        rows = left.shape[-2]  # fewer in the last one
        found = jnp.concatenate([found, block[..., :rows, :rows] @ left], -2)
    return found


def _unit_lower_inverse(lower: jax.Array) -> jax.Array:
    """The inverses of small ones: of blocks of one, two, four rows and so on, ``[[A, 0], [B, D]]`` by ``-D^-1 B A^-1``."""
    n = lower.shape[-1]
    row, column = jnp.arange(n)[:, None], jnp.arange(n)
    found, size = _ones(lower), 1
    while size < n:
        below = (row // (2 * size) == column // (2 * size)) & (row // size > column // size)
        found = found - found @ (jnp.where(below, lower, 0) @ found)  # B of all pairs at once
        size *= 2
    return found


def inverse(a: jax.Array) -> jax.Array:
    """The inverses of matrices ``[..., n, n]``: column after column, each by its largest number (Gauss and Jordan); not for reverse mode.

    >>> import jax.numpy as jnp
    >>> inverse(jnp.array([[0.0, 2.0], [4.0, 0.0]])).tolist()
    [[0.0, 0.25], [0.5, 0.0]]
    """
    n = a.shape[-1]
    rows = jnp.arange(n)

    def clear(k: jax.Array, both: jax.Array) -> jax.Array:
        column = lambda both: jax.lax.dynamic_index_in_dim(both, k, -1, keepdims=False)
        size = jnp.where(rows < k, -1, jnp.abs(column(both)))
        largest = (rows == jnp.argmax(size, -1, keepdims=True))[..., None]
        here, found = jax.lax.dynamic_index_in_dim(both, k, -2), jnp.sum(jnp.where(largest, both, 0), -2, keepdims=True)
        both = jnp.where(largest, here, both)
        found = found / jax.lax.dynamic_index_in_dim(found, k, -1)
        return jnp.where((rows == k)[:, None], found, both - column(both)[..., None] * found)

    return jax.lax.fori_loop(0, n, clear, jnp.concatenate([a, _ones(a)], -1))[..., n:]


def solve_positive(a: jax.Array, b: jax.Array) -> jax.Array:
    """x with ``a x = b``, for a whose symmetric part is positive definite: ``1 + A`` with ``A = -A'``, say, which needs no other order
    of its rows. a ``[..., n, n]``, b ``[..., n, m]``.

    >>> import jax.numpy as jnp
    >>> solve_positive(jnp.array([[1.0, 1.0], [-1.0, 1.0]]), jnp.array([[2.0], [0.0]])).tolist()
    [[1.0], [1.0]]
    """
    transposed = jnp.swapaxes(a, -1, -2)
    return jax.lax.custom_linear_solve(
        lambda x: a @ x, b, lambda _, b: _cleared(a, b), lambda _, b: _cleared(transposed, b)
    )


def _cleared(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a^-1 b``: block of columns after block of columns (Gauss and Jordan)."""
    n, size = a.shape[-1], min(a.shape[-1], 2 * BLOCK)
    more = -n % size
    edges = [(0, 0)] * (a.ndim - 2)
    filled = jnp.pad(a, [*edges, (0, more), (0, more)]) + jnp.diag(jnp.arange(n + more) >= n).astype(a.dtype)
    piece = lambda both, k, axis: jax.lax.dynamic_slice_in_dim(both, k * size, size, axis)

    def clear(k: jax.Array, both: jax.Array) -> jax.Array:
        here = piece(both, k, -2)
        here = inverse(piece(here, k, -1)) @ here
        return jax.lax.dynamic_update_slice_in_dim(both - piece(both, k, -1) @ here, here, k * size, -2)

    both = jnp.concatenate([filled, jnp.pad(b, [*edges, (0, more), (0, 0)])], -1)
    return jax.lax.fori_loop(0, (n + more) // size, clear, both)[..., :n, n + more :]


def exponential(a: jax.Array) -> jax.Array:
    """``exp(A)`` of antisymmetric ``A [..., n, n]``: Pade's approximant of degree 7 of ``A / 2^s``, squared s times.

    Source: Higham 2005, The scaling and squaring method for the matrix exponential revisited.

    >>> import jax.numpy as jnp
    >>> quarter = jnp.array([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> bool(jnp.allclose(exponential(quarter), jnp.array([[0.0, -1.0], [1.0, 0.0]]), atol=1e-6))
    True
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(a), -1)))
    times = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(size, 0.5) / 0.5)), 0, SQUARINGS)
    a = a / 2**times
    one, a2 = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape), a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a @ (a6 + 1512 * a4 + 277200 * a2 + 8648640 * one)
    even = 56 * a6 + 25200 * a4 + 1995840 * a2 + 17297280 * one
    q = solve_positive(even - odd, even + odd)
    square = lambda q, i: (jax.lax.cond(i < times, lambda q: q @ q, lambda q: q, q), None)
    return jax.lax.scan(square, q, jnp.arange(SQUARINGS, dtype=a.dtype))[0]


@jax.custom_jvp
def orthonormal(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Q and R of matrices ``[..., d, k]``, d at least k: column after column, each without its part along those before, taken off
    twice (Gram and Schmidt). A column of zeros stays one; of one that depends on those before rounding is left. One matrix alone goes
    to LAPACK.

    >>> import jax.numpy as jnp
    >>> q, r = orthonormal(jnp.array([[[3.0, 1.0], [4.0, 1.0]]]))
    >>> bool(jnp.allclose(q @ r, jnp.array([[[3.0, 1.0], [4.0, 1.0]]]), atol=1e-6)), float(r[0, 0, 0])
    (True, 5.0)
    """
    if a.ndim == 2:
        return tuple(jnp.linalg.qr(a))
    column = jnp.arange(a.shape[-1])

    def add(q: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
        given = v = jax.lax.dynamic_index_in_dim(a, j, -1)
        for _ in range(2):
            v = v - q @ (jnp.swapaxes(q, -1, -2) @ v)
        size = jnp.linalg.norm(v, axis=-2, keepdims=True)
        q = jnp.where(column == j, v / jnp.where(size > 0, size, 1), q)
        along = jnp.swapaxes(q, -1, -2) @ given
        return q, jnp.where(column[:, None] == j, size, along)[..., 0]

    q, r = jax.lax.scan(add, jnp.zeros_like(a), column)
    return q, jnp.triu(jnp.moveaxis(r, 0, -1))


@orthonormal.defjvp
def _orthonormal_jvp(primals: tuple, tangents: tuple) -> tuple:
    """With ``M = Q' dA R^-1`` and S its part below the diagonal less that turned: ``dQ = Q S + (1 - Q Q') dA R^-1``, ``dR = (M - S) R``."""
    (da,), (q, r) = tangents, orthonormal(*primals)
    turn = lambda a: jnp.swapaxes(a, -1, -2)
    size = jnp.diagonal(r, axis1=-2, axis2=-1)
    per = turn(unit_lower_solve(turn(r / size[..., None]), turn(da))) / size[..., None, :]  # dA R^-1
    m = turn(q) @ per
    turned = jnp.tril(m, -1) - turn(jnp.tril(m, -1))
    return (q, r), (q @ (turned - m) + per, (m - turned) @ r)


def _ones(like: jax.Array) -> jax.Array:
    """As many identity matrices, where those lie."""
    return place_as(jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=like.dtype), like.shape), like)

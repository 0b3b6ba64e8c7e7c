"""`rj.last_output`: what a sequence ends in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.sequence.arguments import read_time, read_valid
from rnnjax.sequence.step import select


def last_output(ys: Any, *, lengths: Any = None, mask: Any = None, time_axis: int = 0, reverse: bool = False) -> Any:
    """The output of the valid step that was read last, for every sequence; zeros where there is none.

    ``y = ys[t*]`` with ``t*`` the last t that is valid, or with ``reverse`` the first: what reads backward ends there.
    ``ys[-1]`` is that only for whole sequences that are read forward.

    ys: ``[T, *B, O]`` (any pytree of such), as `unroll` returns them. Returns ``[*B, O]``.
    lengths ``[*B]``, mask ``[T, *B]``, time_axis, reverse: as for the `unroll` that made ys. Of `Bidirectional` with
        ``merge=None`` take each half by its own direction.
    Errors: ValueError/TypeError as for `unroll`. What lies in other steps, NaN included, changes nothing.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> ys = jnp.arange(6.0).reshape(3, 2, 1)
    >>> rj.last_output(ys, lengths=jnp.array([2, 0]))[:, 0].tolist()
    [2.0, 0.0]
    >>> rj.last_output(ys, reverse=True)[:, 0].tolist()
    [0.0, 1.0]
    """
    ys, time = read_time(last_output, ys, time_axis)
    valid = read_valid(last_output, ys, time, lengths, mask, time_axis)
    if valid is None or not time:
        return jax.tree.map(lambda y: y[0 if reverse else -1] if time else jnp.zeros(y.shape[1:], y.dtype), ys)
    seen = jnp.cumsum(valid if reverse else jnp.flip(valid, 0), 0)
    last = valid & ((seen if reverse else jnp.flip(seen, 0)) == 1)  # counted from the end

    def pick(y: jax.Array) -> jax.Array:
        kept = select(last, y, jnp.zeros_like(y))
        return jnp.any(kept, 0) if y.dtype == bool else jnp.sum(kept, 0, dtype=y.dtype)

    return jax.tree.map(pick, ys)

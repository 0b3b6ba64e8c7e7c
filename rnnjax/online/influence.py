"""The influence ``M_t = d carry_t / d params`` of one sequence, carried forward in time.

``M_t = (d carry_t / d carry_{t-1}) M_{t-1} + d carry_t / d params``, exactly, in the entries that a plan keeps, or by a
product of two vectors whose mean is M (`rank_one`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.online.plan import Block, Plan, seeds

Push = Callable[[jax.Array], jax.Array]  # a direction of the carry [d] -> what a step makes of it [d]
Pull = Callable[[jax.Array], jax.Array]  # weights of the carry's parts [d] -> their gradient [P]


# -- entries -----------------------------------------------------------------------------------------------------------


def begin(plan: Plan, pull: Pull | None, d: int, size: int, dtype: Any) -> tuple[jax.Array, ...]:
    """The influence before the first step; pull: of the start, where it depends on the params."""
    if pull is None or plan.start_colours is None:
        return tuple(jnp.zeros((*b.direct.shape, b.params.shape[1]), dtype) for b in plan.blocks)
    rows = _pulled(pull, plan.start_colours, dtype)
    return tuple(_written(b, b.start, plan.start_colours, rows) for b in plan.blocks)


def advance(plan: Plan, influence: tuple[jax.Array, ...], push: Push, pull: Pull, dtype: Any) -> tuple[jax.Array, ...]:
    """One step on."""
    rows = _pulled(pull, plan.direct_colours, dtype)
    columns = jax.vmap(push)(jnp.asarray(seeds(plan.carry_colours), dtype))
    return tuple(
        jnp.matmul(_handed(b, plan, columns), m) + _written(b, b.direct, plan.direct_colours, rows)
        for b, m in zip(plan.blocks, influence, strict=True)
    )


def weigh(plan: Plan, influence: tuple[jax.Array, ...], weights: jax.Array, size: int) -> jax.Array:
    """``weights [d] @ M``, ``[P]``."""
    total = jnp.zeros(size, weights.dtype)
    for b, m in zip(plan.blocks, influence, strict=True):
        part = jnp.sum(weights[b.rows][..., None] * m, axis=1)
        total = total.at[b.params].add(part, unique_indices=True)
    return total


def _pulled(pull: Pull, colour: Any, dtype: Any) -> jax.Array:
    """``[colours, P]``: rows of a Jacobian, those of one colour added up."""
    return jax.vmap(pull)(jnp.asarray(seeds(colour), dtype))


def _written(b: Block, mask: Any, colour: Any, rows: jax.Array) -> jax.Array:
    """The entries ``[C, r, p]`` out of the coloured rows; zero outside the mask."""
    if not mask.any():
        return jnp.zeros((*mask.shape, b.params.shape[1]), rows.dtype)
    return jnp.where(mask[:, :, None], rows[colour[b.rows][:, :, None], b.params[:, None, :]], 0)


def _handed(b: Block, plan: Plan, columns: jax.Array) -> jax.Array:
    """``d carry' / d carry`` between the rows of a block, ``[C or 1, r, r]``."""
    return jnp.where(b.handed, columns[plan.carry_colours[b.rows][:, None, :], b.rows[:, :, None]], 0)


# -- a product of two vectors ------------------------------------------------------------------------------------------


def rank_one_begin(pull: Pull | None, signs: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Vectors ``s [d]``, ``w [P]`` with ``E[s w'] = M``."""
    return (signs, pull(signs)) if pull else (jnp.zeros_like(signs), jnp.zeros(size, signs.dtype))


def rank_one_advance(vectors: Any, push: Push, pull: Pull, signs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``s' = a J s + b n``, ``w' = w / a + (n' D) / b`` with random signs n; a and b make the parts of a pair equally long."""
    s, w = vectors
    pushed, pulled = push(s), pull(signs)
    a, b = _balance(w, pushed), _balance(pulled, signs)
    return a * pushed + b * signs, w / a + pulled / b


def _balance(a: jax.Array, b: jax.Array) -> jax.Array:
    """``sqrt(|a| / |b|)``, 1 where one of them is zero: any positive number leaves the mean as it is."""
    norms = [jnp.linalg.norm(v) for v in (a, b)]
    fine = (norms[0] > 0) & (norms[1] > 0)
    return jnp.where(fine, jnp.sqrt(norms[0] / jnp.where(fine, norms[1], 1)), 1)

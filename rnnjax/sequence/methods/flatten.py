"""A carry as one real vector for each batch element, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.base import Carry, name_of
from rnnjax.protocols import OneInside, UnitBlocks


class Flat(NamedTuple):
    """pack: carry -> ``[*B, d]``; unpack: back, to the shapes and dtypes it came from.

    units: int ``[m, n]``, where the n numbers of each of the m units stand.
    """

    pack: Callable[[Carry], jax.Array]
    unpack: Callable[[jax.Array], Carry]
    units: np.ndarray


def flatten_carry(cell: Any, carry: Carry, batch: tuple[int, ...]) -> Flat:
    """How to write carries like ``carry`` as vectors. Complex parts count twice; batch axes that a part lacks count for none.

    Errors: TypeError for parts that are not floating point: they have no derivative.
    """
    leaves, structure = jax.tree.flatten(carry)
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise TypeError(
                f"{name_of(cell)}: Newton's method needs a floating point carry, got a part of {leaf.dtype}; use method='scan'"
            )
    batch = batch if all(leaf.shape[: len(batch)] == batch for leaf in leaves) else ()
    dtype = max((jnp.finfo(leaf.dtype).dtype for leaf in leaves), key=lambda d: jnp.finfo(d).bits)

    def pack(carry: Carry) -> jax.Array:
        parts = [part for leaf in jax.tree.leaves(carry) for part in _real_parts(leaf)]
        size = len(batch)
        flat = [
            p.reshape(*batch, math.prod(p.shape[size:])) for p in parts
        ]  # -1 is unknown where there are no examples
        return jnp.concatenate([p.astype(dtype) for p in flat], axis=-1)

    def unpack(vector: jax.Array) -> Carry:
        out, at = [], 0
        for leaf in leaves:
            size, parts = math.prod(leaf.shape[len(batch) :]), []
            for _ in range(1 + jnp.iscomplexobj(leaf)):
                parts.append(vector[..., at : at + size].reshape(leaf.shape).astype(jnp.finfo(leaf.dtype).dtype))
                at += size
            out.append(jax.lax.complex(*parts) if len(parts) == 2 else parts[0])
        return jax.tree.unflatten(structure, out)

    return Flat(pack, unpack, _units(cell, leaves, len(batch)))


def _units(cell: Any, leaves: list[jax.Array], batch: int) -> np.ndarray:
    """By what the cell declares; else each number by itself, or the two parts of each complex number."""
    sizes = [math.prod(leaf.shape[batch:]) for leaf in leaves for _ in range(1 + jnp.iscomplexobj(leaf))]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    if _by_unit(cell):
        if len({leaf.shape for leaf in leaves}) > 1:
            shapes = [leaf.shape for leaf in leaves]
            raise ValueError(f"{name_of(cell)}: blocks_by_unit needs parts of the carry of one shape, got {shapes}")
        return np.stack(places, axis=-1)
    if all(map(jnp.iscomplexobj, leaves)):
        return np.concatenate([np.stack(pair, axis=-1) for pair in zip(places[::2], places[1::2], strict=True)])
    return np.concatenate(places)[:, None]


def _by_unit(cell: Any) -> bool:
    while isinstance(cell, OneInside):
        cell = cell.cell_inside()
    return isinstance(cell, UnitBlocks) and cell.blocks_by_unit


def _real_parts(leaf: jax.Array) -> tuple[jax.Array, ...]:
    return (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)

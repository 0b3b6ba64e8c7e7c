"""Parameters and carries as real vectors, and back: what has a derivative, complex numbers as two parts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


def is_float(leaf: Any) -> bool:
    """Whether a leaf has a derivative: real or complex floating point."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


class Layout(NamedTuple):
    """Where each leaf of a tree lies in one real vector ``[*batch, size]``; leaves that are not floating point are left out.

    shapes, dtypes: of the leaves, without the batch axes. complex leaves: all real parts, then all imaginary ones.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    dtype: Any

    @property
    def sizes(self) -> list[int]:
        """How many places each leaf takes."""
        return [_parts(d) * math.prod(s) for s, d in zip(self.shapes, self.dtypes, strict=True)]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def pack(self, tree: Any) -> jax.Array:
        """``[*batch, size]``."""
        parts = [
            part.reshape(*part.shape[: part.ndim - len(shape)], math.prod(shape)).astype(self.dtype)
            for leaf, shape, dtype in zip(jax.tree.leaves(tree), self.shapes, self.dtypes, strict=True)
            for part in _real_parts(leaf, dtype)
        ]
        return jnp.concatenate(parts, axis=-1) if parts else jnp.zeros(0, self.dtype)

    def unpack(self, vector: jax.Array, tree: Any) -> Any:
        """The tree of a vector ``[*batch, size]``; what has no place in it comes from ``tree``."""
        out, at = [], 0
        for leaf, shape, dtype in zip(jax.tree.leaves(tree), self.shapes, self.dtypes, strict=True):
            parts, size = [], math.prod(shape)
            for _ in range(_parts(dtype)):
                part = jax.lax.slice_in_dim(vector, at, at + size, axis=-1).reshape(*vector.shape[:-1], *shape)
                parts.append(part.astype(jnp.finfo(dtype).dtype))
                at += size
            out.append(leaf if not parts else parts[0] if len(parts) == 1 else jax.lax.complex(*parts))
        return jax.tree.unflatten(self.structure, out)

    def gradient(self, vector: jax.Array, tree: Any) -> Any:
        """A gradient ``[size]`` as `jax.grad` gives it: for a complex number ``d/d real - i d/d imaginary``."""
        return jax.tree.map(lambda a: jnp.conj(a) if jnp.iscomplexobj(a) else a, self.unpack(vector, tree))


def layout(tree: Any, batch: tuple[int, ...] = ()) -> Layout:
    """The layout of a tree whose leaves lead with the batch axes; half precision is kept in float32."""
    leaves, structure = jax.tree.flatten(tree)
    dtypes = tuple(jnp.result_type(a) for a in leaves)
    floats = [jnp.finfo(d).dtype for d in dtypes if jnp.issubdtype(d, jnp.inexact)]
    widest = max([*floats, jnp.dtype(jnp.float32)], key=lambda d: jnp.finfo(d).bits)
    return Layout(structure, tuple(jnp.shape(a)[len(batch) :] for a in leaves), dtypes, widest)


def _parts(dtype: Any) -> int:
    if not jnp.issubdtype(dtype, jnp.inexact):
        return 0
    return 2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1


def _real_parts(leaf: Any, dtype: Any) -> tuple[jax.Array, ...]:
    leaf = jnp.asarray(leaf) if _parts(dtype) else leaf
    return ((), (leaf,), (jnp.real(leaf), jnp.imag(leaf)))[_parts(dtype)]

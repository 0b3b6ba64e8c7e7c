"""Where parameters lie on several devices: partition rules for every cell."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from rnnjax.base import Params, name_of


def rules(cell: Any, params: Params, mesh: Mesh | AbstractMesh) -> Any:
    """Shardings for the params of a cell, wrapper, stack or layer: the pytree of `params` with a `NamedSharding` a leaf.

    A mesh has one or two axes: the first splits the batch, so that every param is whole over it; the second, if there is
    one, splits features: a param ``[..., n]`` is split on its own last axis, where the second axis' size divides ``n``,
    and is whole where it does not. Params keep their layout; the engine takes gates apart before the loop, so that each
    device holds its slice of every gate.

    cell: for the messages. params: arrays, or their `jax.ShapeDtypeStruct`.
    Returns: what `jax.device_put` and `jax.jit(..., in_shardings=)` take.
    Raises: TypeError if `mesh` is no `jax.sharding.Mesh`; ValueError if it has no axis, or more than two.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> mesh = jax.make_mesh((1, 1), ("batch", "features"))
    >>> cell = rj.Elman(4)
    >>> params = cell.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> rj.sharding.rules(cell, params, mesh)["input"].spec
    P(None, 'features')
    """
    who = f"sharding.rules: {name_of(cell)}"
    if not isinstance(mesh, (Mesh, AbstractMesh)):
        raise TypeError(
            f"{who}: mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}; make one with jax.make_mesh"
        )
    if len(mesh.axis_names) not in (1, 2):
        raise ValueError(
            f"{who}: a mesh has one axis for the batch and at most one for features, got {dict(mesh.shape)}; "
            "make one with jax.make_mesh((devices, 1), ('batch', 'features'))"
        )
    split = mesh.axis_names[1] if len(mesh.axis_names) == 2 else None

    def place(leaf: Any) -> NamedSharding:
        divides = split is not None and leaf.ndim > 0 and leaf.shape[-1] > 0 and leaf.shape[-1] % mesh.shape[split] == 0
        return NamedSharding(mesh, PartitionSpec(*(None,) * (leaf.ndim - 1), split) if divides else PartitionSpec())

    return jax.tree.map(place, params)

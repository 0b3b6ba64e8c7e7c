"""Arrays from and to other libraries: dtypes kept, nothing cast in silence, nothing shared by accident."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def namespace(*arrays: Any) -> Any:
    """numpy for concrete arrays, so that a conversion compiles nothing; jax.numpy under a transformation."""
    return jnp if any(isinstance(a, jax.core.Tracer) for a in arrays) else np


def host(array: Any) -> Any:
    """A concrete array as numpy; a traced one as it is, so that conversions can be differentiated through."""
    return array if isinstance(array, jax.core.Tracer) else np.asarray(array)


def to_jax(owner: str, tree: Any) -> Any:
    """Every array as a `jax.Array` of its own memory and of the same dtype.

    Raises: ValueError for a 64-bit array while JAX is in 32-bit mode, which would round it in silence.
    """

    def convert(path: Any, a: Any) -> jax.Array:
        if isinstance(a, jax.core.Tracer):
            return a
        if jax.dtypes.canonicalize_dtype(a.dtype) != a.dtype:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"{owner}: {name} is {a.dtype}, which JAX would round to {jax.dtypes.canonicalize_dtype(a.dtype)}; "
                "call jax.config.update('jax_enable_x64', True) first, or convert the module to float32"
            )
        return jnp.array(a)

    return jax.tree_util.tree_map_with_path(convert, tree)


def total(*arrays: Any) -> Any:
    """The sum of biases that another library keeps apart, in float32 at least, rounded once."""
    dtype = arrays[0].dtype
    wide = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    out = arrays[0].astype(wide)
    for a in arrays[1:]:
        out = out + a.astype(wide)
    return out.astype(dtype)


def common_dtype(owner: str, params: Any) -> np.dtype:
    """The one dtype of all parameters. Raises: ValueError where they differ, for targets that hold a single dtype."""
    dtypes = {np.dtype(a.dtype) for a in jax.tree.leaves(params)}
    if len(dtypes) != 1:
        raise ValueError(
            f"{owner}: the parameters must have one dtype, got {', '.join(sorted(map(str, dtypes)))}; "
            "cast them first, e.g. jax.tree.map(lambda a: a.astype('float32'), params)"
        )
    return dtypes.pop()


def expect_shape(owner: str, name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError naming the array unless it has this shape."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{owner}: {name} must have shape {tuple(shape)}, got {tuple(array.shape)}")

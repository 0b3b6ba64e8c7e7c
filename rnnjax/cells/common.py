"""What many cells share: checking options, making gates' weights, checking a step's arguments, normalising. Functions only."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.base import check_carry, check_input, check_params, check_size, param_dtype

# -- options, checked when a cell is built -----------------------------------------------------------------------------


def check_fields(cell: Any, *but: str) -> None:
    """Every field is what its annotation says: int a size of at least 1, float a finite number, bool, str; fields ``but`` these.

    NumPy's numbers become Python's, which take the dtype of the arrays that they meet.
    """
    owner = type(cell).__name__
    for field in dataclasses.fields(cell):
        kind, _, other = str(field.type).partition(" | ")
        value = getattr(cell, field.name)
        if field.name not in but and kind in _CHECKS and not (other and (value is None or other != "None")):
            object.__setattr__(cell, field.name, _CHECKS[kind](owner, field.name, value))


def check_number(owner: str, name: str, value: Any) -> float:
    """A finite real number, as Python's int or float."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{owner}: {name} must be a number, got {_shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be finite, got {value}")
    return value.item() if isinstance(value, np.generic) else value


def check_positive(owner: str, **values: Any) -> None:
    """Numbers above zero."""
    for name, value in values.items():
        check_number(owner, name, value)
        if not value > 0:
            raise ValueError(f"{owner}: {name} must be above 0, got {value}")


def check_at_least_zero(owner: str, **values: Any) -> None:
    """Numbers that are not negative."""
    for name, value in values.items():
        check_number(owner, name, value)
        if not value >= 0:
            raise ValueError(f"{owner}: {name} must be at least 0, got {value}")


def check_chrono(cell: Any) -> None:
    """``chrono`` is None or a memory of more than two steps, and there is a bias to set it in."""
    if cell.chrono is None:
        return
    owner = type(cell).__name__
    if not cell.chrono > 2:
        raise ValueError(f"{owner}: chrono must be above 2 steps, the longest memory wanted, got {cell.chrono}")
    if not getattr(cell, "use_bias", True):
        raise ValueError(f"{owner}: chrono sets biases, got use_bias=False; drop one of them")


def _size(owner: str, name: str, value: Any) -> int:
    check_size(owner, name, value)
    return int(value)


def _flag(owner: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name} must be True or False, got {_shown(value)}")
    return bool(value)


def _name(owner: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {name} must be a name, a str, got {_shown(value)}")
    return value


_CHECKS = {"int": _size, "float": check_number, "bool": _flag, "str": _name}


def _shown(value: Any) -> str:
    """A value for a message; of an array, which no field may hold, only the shape."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of shape {value.shape}; arrays belong in params or in the carry"
    return f"{value!r} ({type(value).__name__})"


# -- making and checking params, normalising ---------------------------------------------------------------------------


def gate_params(
    cell: Any,
    key: jax.Array,
    x: Any,
    gates: int,
    recurrent_gates: int | None = None,
    recurrent: initializers.Initializer = initializers.orthogonal,
    use_bias: bool = True,
) -> dict[str, jax.Array]:
    """``input [I, gates H]`` lecun, ``recurrent [H, recurrent_gates H]`` orthogonal, ``bias [gates H]`` zero; gate by gate."""
    check_input(cell, x)
    k_in, k_rec = jax.random.split(key)
    n, h, dtype = x.shape[-1], cell.features, param_dtype(x)
    m = gates if recurrent_gates is None else recurrent_gates
    params = {"input": initializers.per_gate(initializers.lecun, gates)(k_in, (n, gates * h), dtype)}
    if m:
        params["recurrent"] = initializers.per_gate(recurrent, m)(k_rec, (h, m * h), dtype)
    if use_bias:
        params["bias"] = jnp.zeros(gates * h, dtype)
    return params


def check_step(cell: Any, params: Any, carry: Any, x: Any, names: tuple[str, ...], kind: Any = None) -> None:
    """Params have these names, ``x [*B, I]`` fits ``params["input"]``, the carry is ``[*B, H]`` or a ``kind`` of such."""
    check_params(cell, params, names)
    check_input(cell, x, params["input"].shape[0])
    check_recurrent(cell, params, cell.features)
    check_carry(cell, carry, x, cell.features, kind)


def check_recurrent(cell: Any, params: Any, features: int) -> None:
    """The recurrent weights, if any, were made for this many features, so that the message is not one of a product's."""
    shape = params["recurrent"].shape if "recurrent" in params else (features,)
    if len(shape) <= 2 and features not in shape:
        raise ValueError(
            f"{cell!r}: params were made for another size, recurrent has shape {tuple(shape)}, which features="
            f"{features} does not fit; make them with init(key, x) of this cell"
        )


def input_gates(params: Any, x: jax.Array, gates: int) -> list[jax.Array]:
    """``x W + b`` (b where there is one), split into its gates."""
    z = x @ params["input"]
    return jnp.split(z + params["bias"] if "bias" in params else z, gates, axis=-1)


def layer_norm(z: jax.Array, gain: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``gain (z - mean) / sqrt(variance + epsilon)`` over the last axis (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    The mean and variance of half precision are taken in float32.
    """
    wide = z.astype(jnp.float32) if z.dtype.itemsize < 4 else z
    centred = wide - wide.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (centred * scale).astype(z.dtype) * gain

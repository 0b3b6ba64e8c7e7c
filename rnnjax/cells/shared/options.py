"""Options of a cell, checked when it is built: every field is what its type says."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from functools import cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np

from rnnjax.base import check_size


def check_fields(cell: Any, *but: str) -> None:
    """Every field is what its type says: int a size of at least 1, float a finite number, bool, str; fields ``but`` these.

    None is taken where the type has it; a type with another alternative (``int | tuple[int, ...]``) is left to the cell.
    NumPy's numbers become Python's, which take the dtype of the arrays that they meet.
    """
    owner = type(cell).__name__
    for name, (kind, optional) in _field_types(type(cell)).items():
        value = getattr(cell, name)
        if name not in but and not (optional and value is None):
            object.__setattr__(cell, name, _CHECKS[kind](owner, name, value))


@cache
def _field_types(owner: type) -> dict[str, tuple[type, bool]]:
    """Of every field that is checked its type, and whether it may be None too."""
    types = _resolved(owner)
    found = {field.name: _plain(types.get(field.name)) for field in dataclasses.fields(owner)}
    return {name: plain for name, plain in found.items() if plain is not None}


def _plain(kind: Any) -> tuple[type, bool] | None:
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    plain = [k for k in kinds if k is not NoneType]
    return (plain[0], len(plain) < len(kinds)) if len(plain) == 1 and plain[0] in _CHECKS else None


def _resolved(owner: type) -> dict[str, Any]:
    """The types of the fields, those of each class read in its module; without those that are not to be found there."""
    types: dict[str, Any] = {}
    for kind in reversed(owner.__mro__):
        for name, annotation in inspect.get_annotations(kind).items():
            one = SimpleNamespace(__annotations__={name: annotation})
            try:
                types |= get_type_hints(one, vars(sys.modules[kind.__module__]))
            except NameError:  # of a class made inside a function
                types.pop(name, None)
    return types


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


_CHECKS: dict[type, Any] = {int: _size, float: check_number, bool: _flag, str: _name}


def _shown(value: Any) -> str:
    """A value for a message; of an array, which no field may hold, only the shape."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of shape {value.shape}; arrays belong in params or in the carry"
    return f"{value!r} ({type(value).__name__})"

"""What most wrappers of one cell share: methods that hand on to it, and the check that it is one.

A wrapper takes those it wants in its body, as ``init = around.init``; nothing is inherited.
"""

from __future__ import annotations

import inspect
from typing import Any

import jax

from rnnjax import protocols
from rnnjax.base import Carry, Key, Params
from rnnjax.cells.shared.options import check_fields


def check_wrapper(wrapper: Any) -> None:
    """``wrapper.cell`` is a cell, the other fields are what their annotations say."""
    check_cell(type(wrapper).__name__, wrapper.cell)
    check_fields(wrapper)


def check_cell(owner: str, cell: Any) -> None:
    """An instance with ``init``, ``initial_carry`` and a step of ``(params, carry, x)``."""
    if isinstance(cell, type):
        raise TypeError(
            f"{owner}: takes a cell, got the class {cell.__name__}; make one of it, as {cell.__name__}(128)"
        )
    if not all(callable(getattr(cell, name, None)) for name in ("init", "initial_carry", "__call__")):
        raise TypeError(
            f"{owner}: takes a cell with init, initial_carry and a step, got {type(cell).__name__}; see rnnjax.Cell"
        )
    if not _takes_a_step(cell):
        raise TypeError(f"{owner}: takes a cell whose step is (params, carry, x), got {cell!r}; wrap the cell in it")


def _takes_a_step(cell: Any) -> bool:
    """False for layers, which take whole sequences and no carry by position."""
    try:
        inspect.signature(cell).bind(None, None, None)
    except TypeError:
        return False
    return True


@property
def input_ndim(self: Any) -> int:
    """Axes of one step's input without batch axes: the inner cell's."""
    return protocols.input_axes(self.cell)


def init(self: Any, key: jax.Array, x: Any) -> Params:
    """The inner cell's params."""
    return self.cell.init(key, x)


def initial_carry(self: Any, params: Params, x: Any) -> Carry:
    """The inner cell's start."""
    return self.cell.initial_carry(params, x)


def prepare(self: Any, params: Params, key: Key, x: Any) -> Params:
    """What the inner cell draws once per sequence."""
    return protocols.prepare(self.cell, params, key, x)


def inner(self: Any, params: Params) -> tuple[Any, Params]:
    """What this wraps, with carry and input unchanged: `method="associative"` looks through it."""
    return self.cell, params

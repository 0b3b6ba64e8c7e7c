"""What wrappers of one cell share: the decorator that hands on to it, and the check that it is one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from rnnjax.base import Carry, Key, Params, any_rank, call_step, check_params
from rnnjax.cells.shared.options import check_fields
from rnnjax.protocols import Cell, input_axes, prepare

C = TypeVar("C")


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
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{owner}: takes a cell with init, initial_carry and a step, got {type(cell).__name__}; see rnnjax.Cell"
        )
    if not _takes_a_step(cell):
        raise TypeError(
            f"{owner}: takes a cell whose step is (params, carry, x), got the layer {cell!r}; give the cell in it"
        )


def _takes_a_step(cell: Any) -> bool:
    """False for layers, which take whole sequences and no carry by position."""
    try:
        inspect.signature(cell).bind(None, None, None)
    except TypeError:
        return False
    return True


def around(*names: str) -> Callable[[type[C]], type[C]]:
    """Class decorator for a wrapper round one cell, the field ``cell``: whatever it does not say itself hands on to that cell.

    names: what its params must hold; then those of the cell inside stand under ``"cell"``. None: they are those of the cell inside.
    Handed on: `Cell` (the step made of what the wrapper says by `rnnjax.protocols.OneInside`), `OncePerSequence`, `InputAxes`. So
    the step and the run in which the wrapper is taken off cannot drift apart. Nothing is inherited.
    """
    own = {} if not names else {"init": _init_apart, "params_inside": _pick(names), "prepare": _prepare_apart}
    return lambda cls: _filled(cls, {**_AROUND, **own})


def hand_on(cls: type[C]) -> type[C]:
    """Class decorator for a wrapper that is no `rnnjax.protocols.OneInside`: all but the step is that of the field ``cell``."""
    return _filled(cls, _HANDED_ON)


def _filled(cls: type[C], methods: dict[str, Any]) -> type[C]:
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return any_rank(cls)


def step(self: Any, params: Params, carry: Carry, x: Any, key: Key = None) -> tuple[Carry, Any]:
    """One step: the cell's own, with what the wrapper does to its input before and to its output after."""
    inner, kept = self.keys_inside(key)
    x_inside = self.input_inside(params, x, kept)
    carry, y = call_step(self.cell_inside(), self.params_inside(params), carry, x_inside, inner)
    return carry, self.output_around(params, x, carry if self.output_sees_carry else None, y, kept)


def _init(self: Any, key: jax.Array, x: Any) -> Params:
    """The inner cell's params."""
    return self.cell_inside().init(key, x)


def _init_apart(self: Any, key: jax.Array, x: Any) -> Params:
    """The inner cell's params, under their name."""
    return {"cell": self.cell_inside().init(key, x)}


def _pick(names: tuple[str, ...]) -> Callable[[Any, Params], Params]:
    def params_inside(self: Any, params: Params) -> Params:
        """The inner cell's params."""
        check_params(self, params, ("cell", *names))
        return params["cell"]

    return params_inside


def _initial_carry(self: Any, params: Params, x: Any) -> Carry:
    """The inner cell's start."""
    return self.cell_inside().initial_carry(self.params_inside(params), x)


def _prepare(self: Any, params: Params, key: Key, x: Any) -> Params:
    """What the inner cell makes once per sequence."""
    return prepare(self.cell_inside(), params, key, x)


def _prepare_apart(self: Any, params: Params, key: Key, x: Any) -> Params:
    """What the inner cell makes once per sequence."""
    return params | {"cell": prepare(self.cell_inside(), params["cell"], key, x)}


_HANDED_ON: dict[str, Any] = {
    "init": lambda self, key, x: self.cell.init(key, x),
    "initial_carry": lambda self, params, x: self.cell.initial_carry(params, x),
    "prepare": lambda self, params, key, x: prepare(self.cell, params, key, x),
    "input_ndim": property(lambda self: input_axes(self.cell)),
}
_AROUND: dict[str, Any] = {
    "__call__": step,
    "init": _init,
    "initial_carry": _initial_carry,
    "prepare": _prepare,
    "input_ndim": property(lambda self: input_axes(self.cell_inside())),
    "output_sees_carry": False,
    "cell_inside": lambda self: self.cell,
    "params_inside": lambda self, params: params,
    "keys_inside": lambda self, key: (key, None),
    "input_inside": lambda self, params, x, key: x,
    "output_around": lambda self, params, x, carry, y, key: y,
}

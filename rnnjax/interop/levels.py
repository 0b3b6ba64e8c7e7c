"""A network as a list of levels: the form between `rnnjax` layers and every other library's modules.

``read`` takes a layer apart into levels and their wrappers, ``build`` puts levels together; converters only translate cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from rnnjax.base import layer_names, name_of
from rnnjax.interop.memoryless import MEMORYLESS
from rnnjax.layers import RNN, Bidirectional, Sequential
from rnnjax.wrappers import Dropout, Embed, LearnedCarry, Readout, Stack

LAYERS = (RNN, Bidirectional, Sequential)
START_ONLY = ("features", "use_bias", "forget_bias", "chrono")  # fields that no step reads: params say it all


class Unit(NamedTuple):
    """One direction of one level: a plain cell, its params, and what is wrapped round it, outermost first."""

    cell: Any
    params: Any
    wrappers: tuple[tuple[Any, Any], ...] = ()  # (the wrapper, the params of its own)


class Level(NamedTuple):
    """One unit, or the forward and the backward one. flips: the other library hands its outputs on in the order it read them."""

    units: tuple[Unit, ...]
    reverse: bool = False
    merge: str | None = "concat"
    flips: bool = False


# -- layers -> levels --------------------------------------------------------------------------------------------------


def read(owner: str, layer: Any, params: Any) -> list[Level]:
    """The levels of a layer. Raises: TypeError naming what is no layer or no wrapper that can be carried over."""
    if isinstance(layer, Sequential):
        pairs = zip(layer.layers, layer_names(len(layer.layers)), strict=True)
        return [level for inner, name in pairs for level in read(owner, inner, params[name])]
    if isinstance(layer, Bidirectional):
        backward = layer.cell if layer.backward is None else layer.backward
        units = unwrap(owner, layer.cell, params["forward"]), unwrap(owner, backward, params["backward"])
        return [Level(units, merge=layer.merge)]
    if isinstance(layer, RNN):
        return [Level((unit,), reverse=layer.reverse) for unit in stacked(owner, layer.cell, params)]
    raise TypeError(f"{owner}: takes a layer (RNN, Bidirectional, Sequential) or a cell, got {name_of(layer)}")


def stacked(owner: str, cell: Any, params: Any) -> list[Unit]:
    """The units of a cell, several for a `Stack`."""
    if isinstance(cell, Stack):
        pairs = zip(cell.cells, layer_names(len(cell.cells)), strict=True)
        return [unit for inner, name in pairs for unit in stacked(owner, inner, params[name])]
    if type(cell) in (Dropout, Readout, Embed) and _holds_stack(cell):
        own = {name: value for name, value in params.items() if name != "cell"} if type(cell) is not Dropout else {}
        units = stacked(owner, cell.cell, params if type(cell) is Dropout else params["cell"])
        if type(cell) is Embed:  # read by the lowest cell
            units[0] = units[0]._replace(wrappers=(*units[0].wrappers, (cell, own)))
        else:
            units[-1] = units[-1]._replace(wrappers=((cell, own), *units[-1].wrappers))
        return units
    return [unwrap(owner, cell, params)]


def _holds_stack(cell: Any) -> bool:
    """Whether there is a `Stack` inside wrappers that act on its lowest or highest layer alone."""
    return isinstance(cell, Stack) or (type(cell) in (Dropout, Readout, Embed) and _holds_stack(cell.cell))


def unwrap(owner: str, cell: Any, params: Any) -> Unit:
    """The plain cell inside its wrappers."""
    wrappers: list[tuple[Any, Any]] = []
    while type(cell) in (Dropout, Readout, LearnedCarry, Embed):
        own = {k: v for k, v in params.items() if k != "cell"} if not isinstance(cell, Dropout) else {}
        params = params if isinstance(cell, Dropout) else params["cell"]
        wrappers.append((cell, own))
        cell = cell.cell
    if not hasattr(cell, "initial_carry"):
        raise TypeError(f"{owner}: takes a layer (RNN, Bidirectional, Sequential) or a cell, got {name_of(cell)}")
    return Unit(cell, params, tuple(wrappers))


def plain(cell: Any, *but: str) -> bool:
    """Whether a cell's step is that of its default options, fields ``but`` aside: an option made later is refused, not left out."""
    fields = [field for field in dataclasses.fields(cell) if field.name not in (*START_ONLY, *but)]
    return all(getattr(cell, field.name) == field.default for field in fields)


def only(owner: str, unit: Unit, *allowed: type) -> Unit:
    """``unit``, if it has no wrappers but these. Raises: TypeError naming the wrapper that the target lacks."""
    for wrapper, _ in unit.wrappers:
        if type(wrapper) not in allowed:
            raise TypeError(
                f"{owner}: {type(wrapper).__name__} has no counterpart there, got {wrapper!r}; "
                "convert the cell inside and its params['cell'], and rebuild the rest on the other side"
            )
    return unit


def one_direction(owner: str, level: Level) -> Unit:
    """The unit of a level that reads forward. Raises: TypeError for other levels."""
    if len(level.units) == 2 or level.reverse:
        raise TypeError(f"{owner}: has cells that read forward only, got a {describe(level)} level")
    return level.units[0]


def describe(level: Level) -> str:
    """For messages: bidirectional, reverse or forward."""
    return "bidirectional" if len(level.units) == 2 else "reverse" if level.reverse else "forward"


def dropout_between(owner: str, levels: list[Level]) -> float:
    """The one rate of dropout on all levels but the last, as torch and cuDNN have it. Raises: ValueError otherwise."""
    rates = [sum(w.rate for w, _ in u.wrappers if isinstance(w, Dropout)) for level in levels for u in level.units]
    last = len(levels[-1].units)
    if any(rates[-last:]) and len(levels) >= 1:
        raise ValueError(
            f"{owner}: dropout there acts between layers only, got rate {rates[-1]} on the last one's output; "
            "take the Dropout off the last cell and apply it after the module"
        )
    if len(set(rates[:-last])) > 1:
        raise ValueError(f"{owner}: one dropout rate for all layers but the last, got {rates[:-last]}")
    return rates[0] if len(levels) > 1 else 0.0


# -- levels -> layers --------------------------------------------------------------------------------------------------


def build(levels: list[Level]) -> tuple[Any, Any]:
    """``(layer, params)``: a single layer for one level, a `Sequential` for several."""
    built = [_build_one(level) for level in levels]
    if len(built) == 1:
        return built[0]
    layers, params = zip(*built, strict=True)
    return Sequential(*layers), dict(zip(layer_names(len(layers)), params, strict=True))


def in_input_order(owner: str, levels: list[Level]) -> list[Level]:
    """The same network with every level's ys in input order: after a level that flips its outputs, the next reads from the other end.

    Raises: ValueError for two directions after a flip whose outputs stand side by side: their order would be another.
    """
    ordered, flipped = [], False
    for level in levels:
        if flipped and len(level.units) == 2 and level.merge not in ("sum", "mean", "mul"):
            raise ValueError(
                f"{owner}: a bidirectional layer that joins its directions by {level.merge!r} stands after a layer that flips its "
                "outputs, which would exchange the two halves; convert the layers one by one and flip between them"
            )
        units = level.units[::-1] if flipped else level.units
        turned = flipped and len(units) == 1 and type(units[0].cell) not in MEMORYLESS
        ordered.append(level._replace(units=units, reverse=level.reverse != turned, flips=False))
        flipped ^= level.flips
    return ordered


def _build_one(level: Level) -> tuple[Any, Any]:
    wrapped = [wrap(unit) for unit in level.units]
    if len(wrapped) == 1:
        cell, params = wrapped[0]
        return RNN(cell, reverse=level.reverse), params
    (forward, p_forward), (backward, p_backward) = wrapped
    layer = Bidirectional(forward, backward=None if backward == forward else backward, merge=level.merge)
    return layer, {"forward": p_forward, "backward": p_backward}


def wrap(unit: Unit) -> tuple[Any, Any]:
    """The cell of a unit inside its wrappers, and the params of both."""
    cell, params = unit.cell, unit.params
    for wrapper, own in reversed(unit.wrappers):
        params = params if isinstance(wrapper, Dropout) else {"cell": params, **own}
        cell = wrapper
    return cell, params


def with_dropout(unit: Unit, rate: float) -> Unit:
    """``unit`` inside one more `Dropout`."""
    if not rate:
        return unit
    return unit._replace(wrappers=((Dropout(wrap(unit)[0], rate), {}), *unit.wrappers))


def with_readout(unit: Unit, weight: Any, bias: Any) -> Unit:
    """``unit`` inside one more `Readout`: V ``[H, O]`` and c ``[O]`` or None."""
    readout = Readout(wrap(unit)[0], int(weight.shape[1]), use_bias=bias is not None)
    own = {"output": weight} | ({} if bias is None else {"output_bias": bias})
    return unit._replace(wrappers=((readout, own), *unit.wrappers))


def with_start(unit: Unit, start: dict[str, Any] | Any) -> Unit:
    """``unit`` inside `LearnedCarry`, starting at ``start``."""
    return unit._replace(wrappers=((LearnedCarry(wrap(unit)[0]), {"carry": start}), *unit.wrappers))


def with_table(unit: Unit, table: Any) -> Unit:
    """``unit`` inside `Embed`: a table ``[tokens, features]``."""
    embed = Embed(wrap(unit)[0], int(table.shape[0]), int(table.shape[1]))
    return unit._replace(wrappers=((embed, {"table": table}), *unit.wrappers))


def map_units(levels: list[Level], function: Callable[[Unit], Unit]) -> list[Level]:
    """``function`` applied to every unit."""
    return [level._replace(units=tuple(map(function, level.units))) for level in levels]

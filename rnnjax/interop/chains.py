"""A model as a chain of what its layers do, one after the other, put together as layers of ours."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import Any, NamedTuple

from rnnjax.interop.levels import (
    Level,
    Unit,
    build,
    in_input_order,
    map_units,
    with_dropout,
    with_readout,
    with_table,
)
from rnnjax.interop.memoryless import MEMORYLESS, Dense, Pointwise, Table
from rnnjax.interop.models import Model
from rnnjax.protocols import input_axes


class Lookup(NamedTuple):
    """A table ``[tokens, features]``; still: the row without a gradient."""

    table: Any
    still: int | None = None


class Masked(NamedTuple):
    """Steps of the input that equal this are passed over from here on."""

    value: float


class Drop(NamedTuple):
    """Dropout of this rate."""

    rate: float


class Affine(NamedTuple):
    """``act(x W + b)`` at every step."""

    weight: Any
    bias: Any
    activation: str = "linear"


class Act(NamedTuple):
    """An activation at every step."""

    activation: str


class Summary(NamedTuple):
    """From here on one vector stands for the sequence: "last" (that each direction read), "mean" or "max"."""

    kind: str


def nearest(name: str, known: Any) -> str:
    """Of the names that are known the one most like this."""
    return get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


@dataclasses.dataclass
class Chain:
    """What was added so far. Raises: ValueError/TypeError naming ``owner`` where two parts cannot follow one another."""

    owner: str
    levels: list[Level] = dataclasses.field(default_factory=list)
    head: list[Level] = dataclasses.field(default_factory=list)
    mask_value: float | None = None
    summary: str | None = None
    repeat: bool = True

    def add(self, part: Any) -> None:
        """One more layer, on top."""
        adders = {Lookup: self._lookup, Masked: self._mask, Drop: self._drop, Affine: self._affine, Act: self._act}
        if isinstance(part, Level):
            self._level(part)
        elif isinstance(part, Summary):
            self._summary(part)
        else:
            adders[type(part)](part)

    def finish(self) -> tuple[Any, Any]:
        """``(layer, params)``, arrays as they came: plain layers where these do it, else a `Model` of them."""
        count = self._recurrent()
        if not count:
            raise TypeError(f"{self.owner}: the model has no recurrent layer")
        levels = in_input_order(self.owner, self.levels)
        if self.mask_value is None and self.summary is None:
            return build(levels)
        parts = {"body": levels[:count], "each": levels[count:], "head": self.head}
        built = {name: build(part) for name, part in parts.items() if part}
        layers = {name: layer for name, (layer, _) in built.items()}
        model = Model(
            layers.pop("body"), mask_value=self.mask_value, repeat=self.repeat, summary=self.summary, **layers
        )
        return model, {name: params for name, (_, params) in built.items()}

    def _recurrent(self) -> int:
        """How many levels there are up to the last with a memory."""
        with_memory = [k for k, level in enumerate(self.levels) if type(level.units[0].cell) not in MEMORYLESS]
        return with_memory[-1] + 1 if with_memory else 0

    def _place(self) -> list[Level]:
        return self.levels if self.summary is None else self.head

    def _level(self, level: Level) -> None:
        if self.summary is not None:
            raise ValueError(f"{self.owner}: a recurrent layer stands on a summary ({self.summary}) of the sequence")
        first = level.units[0]
        if len(self.levels) == 1 and len(level.units) == 1 and not first.wrappers and input_axes(first.cell) == 1:
            table = self.levels[0].units[0]
            if type(table.cell) is Table and table.cell.still is None and not table.wrappers:
                self.levels[0] = level._replace(units=(with_table(first, table.params["table"]),))
                return
        self.levels.append(level)

    def _lookup(self, part: Lookup) -> None:
        if self.levels:
            raise ValueError(f"{self.owner}: a table of vectors must be the first layer, which reads the tokens")
        table = Table(int(part.table.shape[0]), int(part.table.shape[1]), still=part.still)
        self.levels.append(Level((Unit(table, {"table": part.table}),)))

    def _mask(self, part: Masked) -> None:
        if self.levels and not (len(self.levels) == 1 and type(self.levels[0].units[0].cell) is Table):
            raise ValueError(f"{self.owner}: a mask must be read off the input, by the first layer of the model")
        self.mask_value = part.value

    def _drop(self, part: Drop) -> None:
        place = self._place()
        if not place:
            place.append(Level((Unit(Pointwise(), {}),)))
        place[-1:] = map_units(place[-1:], lambda unit: with_dropout(unit, part.rate))

    def _affine(self, part: Affine) -> None:
        place = self._place()
        last = place[-1] if place else None
        if last is not None and last.merge is None and len(last.units) == 2:
            raise ValueError(f"{self.owner}: a dense layer stands on two directions that are not merged")
        plain = self.mask_value is None and part.activation == "linear" and last is not None and len(last.units) == 1
        if plain and last is not None and type(last.units[0].cell) not in MEMORYLESS:
            place[-1] = last._replace(units=(with_readout(last.units[0], part.weight, part.bias),))
            return
        dense = Dense(int(part.weight.shape[1]), activation=part.activation, use_bias=part.bias is not None)
        params = {"input": part.weight} | ({} if part.bias is None else {"bias": part.bias})
        place.append(Level((Unit(dense, params),)))

    def _act(self, part: Act) -> None:
        place = self._place()
        unit = place[-1].units[0] if place else None
        if unit is not None and type(unit.cell) is Dense and unit.cell.activation == "linear" and not unit.wrappers:
            dense = dataclasses.replace(unit.cell, activation=part.activation)
            place[-1] = place[-1]._replace(units=(unit._replace(cell=dense),))
        elif part.activation not in ("linear", "identity"):
            place.append(Level((Unit(Pointwise(activation=part.activation), {}),)))

    def _summary(self, part: Summary) -> None:
        if self.summary is not None:
            raise ValueError(f"{self.owner}: the sequence was summarised ({self.summary}) before {part.kind!r}")
        self.summary = part.kind

"""The flat weights of `jax.experimental.rnn` (cuDNN's LSTM)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from rnnjax.cells import LSTM
from rnnjax.interop import gates
from rnnjax.interop.arrays import host, namespace, to_jax
from rnnjax.interop.levels import Level, Unit, build, dropout_between, only, plain, read, with_dropout
from rnnjax.wrappers import Dropout

FROM, TO = "from_packed", "to_packed"


class PackedLSTM(NamedTuple):
    """weights: one flat array. The rest: what `jax.experimental.rnn.lstm` takes beside it."""

    weights: jax.Array
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    dropout: float = 0.0


def _shapes(input_size: int, hidden: int, layers: int, directions: int) -> tuple[list[Any], list[Any]]:
    """Shapes of all weights, then of all biases, in the order in which they are packed."""
    weights = []
    for level in range(layers):
        inputs = input_size if level == 0 else directions * hidden
        weights += [(4 * hidden, inputs), (4 * hidden, hidden)] * directions
    return weights, [(4 * hidden,)] * len(weights)


def from_packed(
    weights: Any, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool, dropout: float = 0.0
) -> tuple[Any, Any]:
    """The flat weights of `jax.experimental.rnn.lstm` as ``(layer, params)``, computing the same numbers.

    The arguments are those of `jax.experimental.rnn.init_lstm_weight`; ``dropout`` acts between layers. Its x is batch first:
    call with ``time_axis=1``. Errors: ValueError for a wrong number of weights.

    >>> from jax.experimental import rnn
    >>> w = rnn.init_lstm_weight(jax.random.key(0), 3, 4, 2, True)
    >>> from_packed(w, 3, 4, 2, True)[0]
    Sequential(Bidirectional(LSTM(4)), Bidirectional(LSTM(4)))
    """
    directions = 2 if bidirectional else 1
    matrices, biases = _shapes(input_size, hidden_size, num_layers, directions)
    arrays = _cut(host(weights), [*matrices, *biases])
    w, b = arrays[: len(matrices)], arrays[len(matrices) :]
    levels = []
    for k in range(num_layers):
        units = []
        for at in range(2 * directions * k, 2 * directions * (k + 1), 2):
            params = gates.read_lstm(w[at].T, w[at + 1].T, b[at : at + 2], "ifgo")
            units.append(with_dropout(Unit(LSTM(hidden_size), params), dropout if k < num_layers - 1 else 0.0))
        levels.append(Level(tuple(units)))
    layer, params = build(levels)
    return layer, to_jax(FROM, params)


def _cut(flat: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    sizes = [math.prod(shape) for shape in shapes]
    if flat.ndim != 1 or flat.shape[0] != sum(sizes):
        raise ValueError(
            f"{FROM}: these sizes need a flat array of {sum(sizes)} weights, got shape {tuple(flat.shape)}"
        )
    ends = [sum(sizes[:k]) for k in range(1, len(sizes))]
    return [part.reshape(s) for part, s in zip(namespace(flat).split(flat, ends), shapes, strict=True)]


def to_packed(layer: Any, params: Any) -> PackedLSTM:
    """A layer of LSTMs as `PackedLSTM`: flat weights and the sizes that `jax.experimental.rnn.lstm` wants with them.

    Errors: TypeError/ValueError naming what cuDNN's LSTM lacks: other cells or variants, unequal sizes, other wrappers.
    """
    levels = read(TO, layer, params)
    units = [only(TO, unit, Dropout) for level in levels for unit in level.units]
    first = units[0].cell
    for unit in units:
        if type(unit.cell) is not LSTM or unit.cell.features != first.features or not plain(unit.cell):
            raise TypeError(f"{TO}: takes LSTMs of one size without variants, got {unit.cell!r}")
    directions = {len(level.units) for level in levels}
    if len(directions) > 1 or any(lv.reverse or (len(lv.units) == 2 and lv.merge != "concat") for lv in levels):
        raise TypeError(f"{TO}: all layers forward, or all Bidirectional with merge='concat', got {layer!r}")
    written = [gates.write_lstm(unit.params, "ifgo") for unit in units]
    zeros = [0 * u[0] for _, u, _ in written]
    matrices = [m for w, u, _ in written for m in (w.T, u.T)]
    biases = [v for (_, _, b), zero in zip(written, zeros) for v in (zero if b is None else b, zero)]
    flat = gates.join([m.reshape(-1) for m in (*matrices, *biases)])
    sizes = int(written[0][0].shape[0]), first.features, len(levels), directions == {2}
    return PackedLSTM(to_jax(TO, flat), *sizes, dropout_between(TO, levels))

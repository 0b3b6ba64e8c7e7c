"""Keras out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host
from rnnjax.interop.keras_read import ACTIVATIONS, GRU_ORDER, LSTM_ORDER, MERGES
from rnnjax.interop.levels import LAYERS, Level, Unit, only, read, stacked
from rnnjax.wrappers import Dropout, Readout, Stack

if TYPE_CHECKING:
    import keras

TO = "to_keras"
ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros", "bias_initializer": "zeros"}


def to_keras(layer: Any, params: Any, *, input_shape: tuple[int, ...] | None = None) -> keras.Layer:
    """A layer as a built Keras layer (several levels: a `keras.Sequential`), a cell as a Keras cell; inverse of `from_keras`.

    Layers are made with ``return_sequences=True`` and read ``[B, T, I]``. A reversed level becomes ``go_backwards=True``, whose
    outputs Keras flips, so it can only be the last. `Dropout` and `Readout` become layers of a Sequential.
    input_shape: the size of the image, which Keras's ConvLSTM wants to know.
    Errors: TypeError/ValueError naming the cell, wrapper or arrangement that Keras lacks.
    """
    import keras

    if isinstance(layer, Stack):
        return keras.layers.StackedRNNCells([_cell(only(TO, unit), None) for unit in stacked(TO, layer, params)])
    if not isinstance(layer, LAYERS):
        return _cell(only(TO, Unit(layer, params)), input_shape)
    levels = read(TO, layer, params)
    if any(level.reverse for level in levels[:-1]):
        raise TypeError(
            f"{TO}: Keras flips the outputs of a reversed layer, so only the last may be reversed, got {layer!r}"
        )
    layers = [made for level in levels for made in _layers(level, input_shape)]
    if len(layers) == 1:
        return layers[0]
    model, inputs = keras.Sequential(layers), int(levels[0].units[0].params["input"].shape[-2])
    model.build((None, None, *(input_shape or ()), inputs))
    return model


def _layers(level: Level, input_shape: tuple[int, ...] | None) -> list[Any]:
    """The Keras layers of one level: the recurrent one, then what was wrapped round it."""
    import keras

    for unit in level.units:
        only(TO, unit, Dropout, *([Readout] if len(level.units) == 1 else []))
    wrappers = level.units[0].wrappers
    if any(
        [w for w, _ in u.wrappers] and [w.rate for w, _ in u.wrappers] != [w.rate for w, _ in wrappers]
        for u in level.units[1:]
    ):
        raise ValueError(f"{TO}: both directions must have the same Dropout, got {[u.wrappers for u in level.units]}")
    made = [_recurrent(level, input_shape)]
    for wrapper, own in reversed(wrappers):
        made.append(keras.layers.Dropout(wrapper.rate) if isinstance(wrapper, Dropout) else _dense(wrapper, own))
    return made


def _recurrent(level: Level, input_shape: tuple[int, ...] | None) -> Any:
    import keras

    if level.merge not in MERGES.values():
        raise TypeError(f"{TO}: Keras merges directions by concat, sum, mean, mul or None, got {level.merge!r}")
    made = [_layer(unit, level.reverse or k == 1) for k, unit in enumerate(level.units)]
    shape = (None, None, *(input_shape or ()), int(level.units[0].params["input"].shape[-2]))
    merge = {ours: theirs for theirs, ours in MERGES.items()}[level.merge]
    layer = made[0] if len(made) == 1 else keras.layers.Bidirectional(made[0], merge, backward_layer=made[1])
    layer.build(shape)
    targets = [layer] if len(made) == 1 else [layer.forward_layer, layer.backward_layer]
    for target, unit in zip(targets, level.units, strict=True):
        _assign(target.cell, _describe(unit)[2])
    return layer


def _layer(unit: Unit, backwards: bool) -> Any:
    import keras

    name, options, _ = _describe(unit)
    dtype = str(common_dtype(TO, unit.params))
    return getattr(keras.layers, name)(**options, **ZEROS, dtype=dtype, return_sequences=True, go_backwards=backwards)


def _cell(unit: Unit, input_shape: tuple[int, ...] | None) -> Any:
    import keras

    name, options, weights = _describe(unit)
    if name.startswith("Conv"):
        raise TypeError(f"{TO}: Keras has no public ConvLSTM cell; convert RNN({unit.cell!r})")
    cell = getattr(keras.layers, name + "Cell")(**options, **ZEROS, dtype=str(common_dtype(TO, unit.params)))
    cell.build((None, weights["kernel"].shape[0]))
    _assign(cell, weights)
    return cell


def _assign(cell: Any, weights: dict[str, Any]) -> None:
    for name, value in weights.items():
        getattr(cell, name).assign(value)


def _dense(readout: Any, own: dict[str, Any]) -> Any:
    import keras

    weight = host(own["output"])
    dense = keras.layers.Dense(
        weight.shape[1], use_bias="output_bias" in own, kernel_initializer="zeros", dtype=str(weight.dtype)
    )
    dense.build((None, weight.shape[0]))
    _assign(dense, {"kernel": weight} | ({"bias": host(own["output_bias"])} if "output_bias" in own else {}))
    return dense


def _describe(unit: Unit) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Keras's class, its options and its weights."""
    cell, params = unit.cell, unit.params
    options: dict[str, Any] = {"units": getattr(cell, "features", 0), "use_bias": "bias" in params}
    activation = getattr(cell, "activation", "relu")
    if type(cell) is IRNN or (type(cell) is Elman and activation in ACTIVATIONS):
        w, u, b = gates.write_elman(params)
        return "SimpleRNN", options | {"activation": activation}, _named(w, u, b)
    if type(cell) is LSTM and not (cell.peephole or cell.coupled or cell.layer_norm or cell.projection):
        return "LSTM", options | {"unit_forget_bias": False}, _named(*gates.write_lstm(params, LSTM_ORDER))
    if type(cell) is GRU and not cell.layer_norm:
        w, u, b, c = gates.write_gru(params, GRU_ORDER)
        b = np.stack([b, c]) if b is not None and cell.reset_after else b
        return "GRU", options | {"reset_after": cell.reset_after}, _named(w, u, b)
    if type(cell) is ConvLSTM and not cell.peephole:
        kernel = tuple(params["input"].shape[:-2])
        options = {"filters": cell.features, "kernel_size": kernel, "padding": "same", "unit_forget_bias": False}
        return f"ConvLSTM{len(kernel)}D", options, _named(*(host(params[k]) for k in ("input", "recurrent", "bias")))
    raise TypeError(
        f"{TO}: Keras has no {name_of(cell)}; it has Elman ({', '.join(ACTIVATIONS)}), LSTM without variants, GRU both ways "
        "and ConvLSTM(peephole=False)"
    )


def _named(w: Any, u: Any, b: Any) -> dict[str, Any]:
    return {"kernel": w, "recurrent_kernel": u} | ({} if b is None else {"bias": b})

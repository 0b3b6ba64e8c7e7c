"""Keras out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnjax.base import name_of
from rnnjax.cells import GRU, IRNN, LSTM, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import common_dtype, host
from rnnjax.interop.keras_read import ACTIVATIONS, GRU_ORDER, LSTM_ORDER, MERGES
from rnnjax.interop.levels import LAYERS, Level, Unit, only, plain, read, stacked
from rnnjax.interop.memoryless import MEMORYLESS, Dense, Table
from rnnjax.wrappers import Dropout, Embed, Readout, Stack

if TYPE_CHECKING:
    import keras

TO = "to_keras"
ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros", "bias_initializer": "zeros"}


def to_keras(layer: Any, params: Any, *, input_shape: tuple[int, ...] | None = None) -> keras.Layer:
    """A layer as a built Keras layer (several levels: a `keras.Sequential`), a cell as a Keras cell; inverse of `from_keras`.

    Layers are made with ``return_sequences=True`` and read ``[B, T, I]``. A reversed level becomes ``go_backwards=True``, whose
    outputs Keras flips, so it can only be the last. `Dropout`, `Readout`, `Embed` and layers without memory become layers of a Sequential.
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
    model = keras.Sequential(layers)
    if type(layers[0]) is keras.layers.Embedding:
        model.build((None, None))
    else:
        model.build((None, None, *(input_shape or ()), int(levels[0].units[0].params["input"].shape[-2])))
    return model


def _layers(level: Level, input_shape: tuple[int, ...] | None) -> list[Any]:
    """The Keras layers of one level: the recurrent one, then what was wrapped round it."""
    import keras

    for unit in level.units:
        only(TO, unit, Dropout, *([Readout, Embed] if len(level.units) == 1 else []))
    wrappers = level.units[0].wrappers
    if any(
        [w for w, _ in u.wrappers] and [w.rate for w, _ in u.wrappers] != [w.rate for w, _ in wrappers]
        for u in level.units[1:]
    ):
        raise ValueError(f"{TO}: both directions must have the same Dropout, got {[u.wrappers for u in level.units]}")
    made = (
        [_memoryless(level.units[0])] if type(level.units[0].cell) in MEMORYLESS else [_recurrent(level, input_shape)]
    )
    for wrapper, own in reversed(wrappers):
        if isinstance(wrapper, Embed):
            made.insert(0, _table(own["table"]))
        elif isinstance(wrapper, Readout):
            made.append(_dense(own["output"], own.get("output_bias")))
        else:
            made.append(keras.layers.Dropout(wrapper.rate))
    return made


def _memoryless(unit: Unit) -> Any:
    import keras

    cell, params, activation = unit.cell, unit.params, getattr(unit.cell, "activation", "linear")
    if getattr(cell, "still", None) is not None or activation not in (*ACTIVATIONS, "softmax"):
        raise TypeError(
            f"{TO}: Keras has no {cell!r}; it has Table without still, and {', '.join(ACTIVATIONS)}, softmax"
        )
    if type(cell) is Table:
        return _table(params["table"])
    if type(cell) is Dense:
        return _dense(params["input"], params.get("bias"), activation)
    return keras.layers.Activation(activation)


def _table(table: Any) -> Any:
    import keras

    layer = keras.layers.Embedding(*table.shape, embeddings_initializer="zeros", dtype=str(table.dtype))
    layer.build((None, None))
    layer.embeddings.assign(host(table))
    return layer


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


def _dense(weight: Any, bias: Any, activation: str = "linear") -> Any:
    import keras

    weight = host(weight)
    options = {"activation": activation, "use_bias": bias is not None, "kernel_initializer": "zeros"}
    dense = keras.layers.Dense(weight.shape[1], **options, dtype=str(weight.dtype))
    dense.build((None, weight.shape[0]))
    _assign(dense, {"kernel": weight} | ({} if bias is None else {"bias": host(bias)}))
    return dense


def _describe(unit: Unit) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Keras's class, its options and its weights."""
    cell, params = unit.cell, unit.params
    options: dict[str, Any] = {"units": getattr(cell, "features", 0), "use_bias": "bias" in params}
    activation = getattr(cell, "activation", "relu")
    gate = getattr(cell, "gate_activation", "sigmoid")
    shared = activation in ACTIVATIONS and gate in ACTIVATIONS
    two = ("activation", "gate_activation")
    gated = {"activation": activation, "recurrent_activation": gate}
    if type(cell) is IRNN or (type(cell) is Elman and shared and plain(cell, "activation")):
        w, u, b = gates.write_elman(params)
        return "SimpleRNN", options | {"activation": activation}, _named(w, u, b)
    if type(cell) is LSTM and shared and plain(cell, *two):
        return "LSTM", options | gated | {"unit_forget_bias": False}, _named(*gates.write_lstm(params, LSTM_ORDER))
    if type(cell) is GRU and shared and plain(cell, *two, "reset_after"):
        w, u, b, c = gates.write_gru(params, GRU_ORDER)
        b = np.stack([b, c]) if b is not None and cell.reset_after else b
        return "GRU", options | gated | {"reset_after": cell.reset_after}, _named(w, u, b)
    if type(cell) is ConvLSTM and shared and not cell.peephole:
        kernel = tuple(params["input"].shape[:-2])
        options = {"filters": cell.features, "kernel_size": kernel, "unit_forget_bias": False, **gated}
        options |= {"padding": cell.padding, "strides": cell.strides, "dilation_rate": cell.dilation}
        return f"ConvLSTM{len(kernel)}D", options, _named(*(host(params[k]) for k in ("input", "recurrent", "bias")))
    raise TypeError(
        f"{TO}: Keras has no {name_of(cell)}; it has Elman, LSTM without variants, GRU both ways and ConvLSTM(peephole=False), with "
        f"activations of {', '.join(ACTIVATIONS)}"
    )


def _named(w: Any, u: Any, b: Any) -> dict[str, Any]:
    return {"kernel": w, "recurrent_kernel": u} | ({} if b is None else {"bias": b})

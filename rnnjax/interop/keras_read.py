"""Keras 3: SimpleRNN, LSTM, GRU, ConvLSTM1D-3D, Bidirectional, RNN, their cells, and Sequential models of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from rnnjax.base import layer_names
from rnnjax.cells import GRU, LSTM, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import expect_shape, to_jax
from rnnjax.interop.levels import Level, Unit, build, in_input_order, map_units, with_dropout, with_readout
from rnnjax.wrappers import Stack

if TYPE_CHECKING:
    import keras

FROM = "from_keras"
LSTM_ORDER, GRU_ORDER = "ifgo", "zrn"
ACTIVATIONS = (  # names that mean the same function there and here
    "tanh", "relu", "sigmoid", "linear", "elu", "selu", "celu", "softplus", "softsign", "silu", "hard_sigmoid", "hard_tanh",
    "relu6", "mish", "log_sigmoid",
)  # fmt: skip
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul", None: None}
TRAINING_ONLY = ("regularizer", "constraint")


def from_keras(layer: keras.Layer) -> tuple[Any, Any]:
    """A built Keras layer or Sequential model as ``(layer, params)``, a Keras cell as ``(cell, params)``, the same numbers.

    layer: SimpleRNN, LSTM, GRU (``reset_after`` both ways), ConvLSTM1D to 3D ("same"), Bidirectional of them, RNN of a cell or of
    stacked cells, SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells; or a `keras.Sequential` of such layers, with Dropout after
    a layer (the wrapper `Dropout`) and a linear Dense at the end (the wrapper `Readout`).
    Keras is batch first: call with ``time_axis=1``; a mask is ``mask=``. The whole sequence always comes back, so
    ``return_sequences=False`` is ``rj.last_output(ys, time_axis=1)``, with the same ``mask=`` and, where the layer goes backward,
    ``reverse=True`` (of `Bidirectional`, each half by its own direction). ``go_backwards`` becomes ``RNN(cell, reverse=True)``,
    whose ys keep the input order (Keras flips them); a layer on top of one then reads from the other end, as it does in Keras.
    Errors: TypeError for other layers; ValueError naming an option without counterpart (``dropout``, ``recurrent_dropout``,
    ``stateful``, another activation, a mixed dtype policy, ...). Regularisers and constraints are no part of a layer here: a
    UserWarning names them.
    """
    import keras

    if isinstance(layer, keras.Sequential):
        levels = _read_model(layer)
    elif hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN):
        cell, params = _read_cell(layer)
        return cell, to_jax(FROM, params)
    else:
        levels = _read_layer(layer)
    built, params = build(levels)
    return built, to_jax(FROM, params)


# -- layers ------------------------------------------------------------------------------------------------------------


def _read_model(model: Any) -> list[Level]:
    import keras

    levels: list[Level] = []
    for layer in model.layers:
        inner = layer.layer if type(layer) is keras.layers.TimeDistributed else layer
        if type(layer) is keras.layers.InputLayer:
            continue
        if type(inner) is keras.layers.Dropout and levels and inner.noise_shape is None:
            rate = float(inner.rate)
            levels[-1:] = map_units(levels[-1:], lambda unit, rate=rate: with_dropout(unit, rate))
        elif type(inner) is keras.layers.Dense and levels:
            levels[-1] = _read_dense(inner, levels[-1])
        else:
            levels += _read_layer(layer)
    if not levels:
        raise TypeError(f"{FROM}: the model {model.name!r} has no recurrent layer")
    return in_input_order(FROM, levels)


def _read_dense(dense: Any, level: Level) -> Level:
    if _activation(dense, "activation") != "linear" or len(level.units) == 2:
        raise ValueError(
            f"{FROM}: Dense {dense.name!r} becomes a Readout only if it is linear and stands on one direction, got activation "
            f"{_activation(dense, 'activation')!r} on {len(level.units)} direction(s); convert the recurrent layers one by one"
        )
    bias = _array(dense.bias) if dense.use_bias else None
    return level._replace(units=(with_readout(level.units[0], _array(dense.kernel), bias),))


def _read_layer(layer: Any) -> list[Level]:
    import keras

    kinds = keras.layers
    if type(layer) is kinds.Bidirectional:
        _check_layer(layer)
        forward, backward = (_read_layer(inner) for inner in (layer.forward_layer, layer.backward_layer))
        if len(forward) > 1 or forward[0].reverse:
            raise ValueError(
                f"{FROM}: Bidirectional {layer.name!r} must hold one forward layer, got {layer.forward_layer}"
            )
        return [Level((*forward[0].units, *backward[0].units), merge=MERGES[layer.merge_mode])]
    known = (kinds.SimpleRNN, kinds.LSTM, kinds.GRU, kinds.ConvLSTM1D, kinds.ConvLSTM2D, kinds.ConvLSTM3D, kinds.RNN)
    if type(layer) not in known:
        raise TypeError(
            f"{FROM}: takes SimpleRNN, LSTM, GRU, ConvLSTM1D to 3D, Bidirectional, RNN, their cells, or a Sequential model of "
            f"them, got {type(layer).__name__} {getattr(layer, 'name', '')!r}"
        )
    _check_layer(layer)
    cells = layer.cell.cells if type(layer.cell) is kinds.StackedRNNCells else [layer.cell]
    levels = [Level((Unit(*_read_cell(cell)),), reverse=bool(layer.go_backwards)) for cell in cells]
    return [*levels[:-1], levels[-1]._replace(flips=bool(layer.go_backwards))]


def _check_layer(layer: Any) -> None:
    if layer.stateful:
        raise ValueError(
            f"{FROM}: {layer.name!r} is stateful; here the carry is handed on in the open: set stateful=False"
        )
    _warn_about_training(layer)


def _warn_about_training(layer: Any) -> None:
    """Regularisers and constraints act on training, not on what a layer computes."""
    for name, value in vars(layer).items():
        if name.endswith(TRAINING_ONLY) and not name.startswith("_") and value is not None:
            text = (
                f"{FROM}: {layer.name!r} has {name}={value!r}, no part of a layer here; add it to your loss or update"
            )
            warnings.warn(text, stacklevel=5)


# -- cells -------------------------------------------------------------------------------------------------------------


def _read_cell(cell: Any) -> tuple[Any, Any]:
    import keras

    kinds = keras.layers
    if type(cell) is kinds.StackedRNNCells:
        cells, params = zip(*[_read_cell(inner) for inner in cell.cells], strict=True)
        return Stack(*cells), dict(zip(layer_names(len(cells)), params, strict=True))
    readers = {"SimpleRNNCell": _simple, "LSTMCell": _lstm, "GRUCell": _gru, "ConvLSTMCell": _conv_lstm}
    name = type(cell).__name__
    if not type(cell).__module__.startswith("keras.") or name not in readers:
        raise TypeError(f"{FROM}: takes Keras's own SimpleRNNCell, LSTMCell and GRUCell, got {name} {cell.name!r}")
    if not cell.built:
        raise ValueError(
            f"{FROM}: {cell.name!r} has no weights yet; build it, e.g. layer.build((None, None, features))"
        )
    for option in ("dropout", "recurrent_dropout"):
        if getattr(cell, option):
            raise ValueError(
                f"{FROM}: {cell.name!r} has {option}={getattr(cell, option)}, one mask for all steps, which is no part of a cell "
                f"here: convert it with {option}=0 and wrap the result in VariationalDropout"
            )
    if cell.compute_dtype != cell.variable_dtype:
        raise ValueError(
            f"{FROM}: {cell.name!r} computes in {cell.compute_dtype} with {cell.variable_dtype} weights; here parameters and inputs "
            f"decide: set its dtype policy to {cell.variable_dtype!r}, and pass matmul_dtype= at the call"
        )
    _warn_about_training(cell)
    return readers[name](cell)


def _array(variable: Any) -> Any:
    import keras

    value = variable.value
    return value if isinstance(value, jax.core.Tracer) else np.asarray(keras.ops.convert_to_numpy(value))


def _weights(cell: Any) -> tuple[Any, Any, list[Any]]:
    return _array(cell.kernel), _array(cell.recurrent_kernel), [_array(cell.bias)] if cell.use_bias else []


def _activation(cell: Any, name: str) -> str:
    import keras

    return str(keras.activations.serialize(getattr(cell, name)))


def _check_gated(cell: Any) -> None:
    for name, wanted in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if _activation(cell, name) != wanted:
            raise ValueError(f"{FROM}: {cell.name!r} must have {name}={wanted!r}, got {_activation(cell, name)!r}")


def _simple(cell: Any) -> tuple[Any, Any]:
    name = _activation(cell, "activation")
    if name not in ACTIVATIONS:
        raise ValueError(f"{FROM}: {cell.name!r} must have an activation of {', '.join(ACTIVATIONS)}, got {name!r}")
    w, u, biases = _weights(cell)
    return Elman(cell.units, activation=name, use_bias=cell.use_bias), gates.read_elman(w, u, biases)


def _lstm(cell: Any) -> tuple[Any, Any]:
    _check_gated(cell)
    return LSTM(cell.units, use_bias=cell.use_bias), gates.read_lstm(*_weights(cell), LSTM_ORDER)


def _gru(cell: Any) -> tuple[Any, Any]:
    _check_gated(cell)
    w, u, biases = _weights(cell)
    biases = list(biases[0]) if biases and cell.reset_after else biases
    params = gates.read_gru(w, u, biases, GRU_ORDER, cell.reset_after)
    return GRU(cell.units, reset_after=cell.reset_after, use_bias=cell.use_bias), params


def _conv_lstm(cell: Any) -> tuple[Any, Any]:
    _check_gated(cell)
    wanted = {
        "padding": "same",
        "strides": (1,) * cell.rank,
        "dilation_rate": (1,) * cell.rank,
        "data_format": "channels_last",
    }
    for name, value in wanted.items():
        if getattr(cell, name) != value:
            raise ValueError(f"{FROM}: ConvLSTM {cell.name!r} must have {name}={value!r}, got {getattr(cell, name)!r}")
    w, u, biases = _weights(cell)
    expect_shape(f"{FROM}: {cell.name!r}", "kernel", w, (*cell.kernel_size, w.shape[-2], 4 * cell.filters))
    bias = biases[0] if biases else np.zeros(4 * cell.filters, w.dtype)
    params = {"input": w, "recurrent": u, "bias": bias}
    return ConvLSTM(cell.filters, kernel=tuple(cell.kernel_size), dims=cell.rank, peephole=False), params

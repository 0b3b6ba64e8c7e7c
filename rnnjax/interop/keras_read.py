"""Keras 3 layers and cells in: SimpleRNN, LSTM, GRU, ConvLSTM1D-3D, Bidirectional, RNN, StackedRNNCells."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np

from rnnjax.base import layer_names
from rnnjax.cells import GRU, LSTM, ConvLSTM, Elman
from rnnjax.interop import gates
from rnnjax.interop.arrays import expect_shape
from rnnjax.interop.chains import nearest
from rnnjax.interop.levels import Level, Unit
from rnnjax.wrappers import Stack

FROM = "from_keras"
LSTM_ORDER, GRU_ORDER = "ifgo", "zrn"
ACTIVATIONS = (  # names that mean the same function there and here
    "tanh", "relu", "sigmoid", "linear", "elu", "selu", "celu", "softplus", "softsign", "silu", "hard_sigmoid", "hard_tanh",
    "relu6", "mish", "log_sigmoid",
)  # fmt: skip
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul", None: None}
TRAINING_ONLY = ("regularizer", "constraint")


# -- layers ------------------------------------------------------------------------------------------------------------

RECURRENT = ("SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "RNN", "Bidirectional")


def read_layer(layer: Any, others: tuple[str, ...] = ()) -> list[Level]:
    """The levels of one recurrent layer. others: names of layers that the caller takes, for the message."""
    import keras

    kinds = keras.layers
    if type(layer) is kinds.Bidirectional:
        _check_layer(layer)
        forward, backward = (read_layer(inner) for inner in (layer.forward_layer, layer.backward_layer))
        if len(forward) > 1 or forward[0].reverse:
            raise ValueError(
                f"{FROM}: Bidirectional {layer.name!r} must hold one forward layer, got {layer.forward_layer}"
            )
        if layer.merge_mode not in MERGES:
            known = ", ".join(map(str, MERGES))
            raise ValueError(f"{FROM}: {layer.name!r} must have a merge_mode of {known}, got {layer.merge_mode!r}")
        return [Level((*forward[0].units, *backward[0].units), merge=MERGES[layer.merge_mode])]
    if type(layer) not in [getattr(kinds, name) for name in RECURRENT]:
        kind = type(layer).__name__
        hint = "pass the model itself, as keras.saving.load_model(path, safe_mode=True) gives it, no file"
        near = f"the nearest known is {nearest(kind, (*RECURRENT, *others))}"
        raise TypeError(
            f"{FROM}: takes SimpleRNN, LSTM, GRU, ConvLSTM1D to 3D, Bidirectional, RNN, their cells, or a Sequential model of "
            f"them{''.join(f', {name}' for name in others)}, got {kind} {getattr(layer, 'name', '')!r}; "
            f"{near if isinstance(layer, keras.Layer) else hint}"
        )
    _check_layer(layer)
    cells = layer.cell.cells if type(layer.cell) is kinds.StackedRNNCells else [layer.cell]
    levels = [Level((Unit(*read_cell(cell)),), reverse=bool(layer.go_backwards)) for cell in cells]
    return [*levels[:-1], levels[-1]._replace(flips=bool(layer.go_backwards))]


def _check_layer(layer: Any) -> None:
    if layer.stateful:
        raise ValueError(
            f"{FROM}: {layer.name!r} is stateful; here the carry is handed on in the open: set stateful=False"
        )
    warn_about_training(layer)


def warn_about_training(layer: Any) -> None:
    """Regularisers and constraints act on training, not on what a layer computes."""
    for name, value in vars(layer).items():
        if name.endswith(TRAINING_ONLY) and not name.startswith("_") and value is not None:
            text = (
                f"{FROM}: {layer.name!r} has {name}={value!r}, no part of a layer here; add it to your loss or update"
            )
            warnings.warn(text, stacklevel=6)


# -- cells -------------------------------------------------------------------------------------------------------------


def read_cell(cell: Any) -> tuple[Any, Any]:
    """(cell, params) of one of Keras's cells, or of several stacked. Raises: TypeError for another, ValueError where it is not built."""
    import keras

    kinds = keras.layers
    if type(cell) is kinds.StackedRNNCells:
        cells, params = zip(*[read_cell(inner) for inner in cell.cells], strict=True)
        return Stack(*cells), dict(zip(layer_names(len(cells)), params, strict=True))
    readers = {"SimpleRNNCell": _simple, "LSTMCell": _lstm, "GRUCell": _gru, "ConvLSTMCell": _conv_lstm}
    name = type(cell).__name__
    if not type(cell).__module__.startswith("keras.") or name not in readers:
        raise TypeError(
            f"{FROM}: takes Keras's own SimpleRNNCell, LSTMCell and GRUCell, got {name} {getattr(cell, 'name', '')!r}"
        )
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
    warn_about_training(cell)
    return readers[name](cell)


def array(variable: Any) -> Any:
    """A variable as numpy, or as it is where JAX traces it."""
    import keras

    if not hasattr(variable, "value"):
        raise ValueError(f"{FROM}: a weight is no variable but {variable!r}; build the layer first")
    value = variable.value
    return value if isinstance(value, jax.core.Tracer) else np.asarray(keras.ops.convert_to_numpy(value))


def _weights(cell: Any, units: Any, count: int) -> tuple[Any, Any, list[Any]]:
    """W, U and the biases. Raises: ValueError where they are not of the size that the cell has."""
    w, u, where = array(cell.kernel), array(cell.recurrent_kernel), f"{FROM}: {cell.name!r}"
    biases = [array(cell.bias)] if cell.use_bias else []
    if not isinstance(units, int) or isinstance(units, bool):
        raise ValueError(f"{where}: units must be an int, got {units!r}")
    for name, weight, rows in (("kernel", w, None), ("recurrent_kernel", u, units)):
        expect_shape(where, name, weight, (*weight.shape[:-2], rows or weight.shape[-2], count * units))
    for bias in biases:
        two = (2,) if getattr(cell, "reset_after", False) else ()
        expect_shape(where, "bias", bias, (*two, count * units))
    return w, u, biases


def activation(layer: Any, name: str, known: tuple[str, ...] = ACTIVATIONS) -> str:
    """The name of a layer's activation. Raises: ValueError for one that is not here."""
    import keras

    found = str(keras.activations.serialize(getattr(layer, name)))
    if found not in known:
        raise ValueError(
            f"{FROM}: {layer.name!r} must have an {name} of {', '.join(known)}, got {found!r}; the nearest known is "
            f"{nearest(found, known)!r}"
        )
    return found


def _gated(cell: Any) -> dict[str, Any]:
    """The activations of a gated cell as options of ours."""
    return {"activation": activation(cell, "activation"), "gate_activation": activation(cell, "recurrent_activation")}


def _simple(cell: Any) -> tuple[Any, Any]:
    w, u, biases = _weights(cell, cell.units, 1)
    return Elman(cell.units, activation=activation(cell, "activation"), use_bias=cell.use_bias), gates.read_elman(
        w, u, biases
    )


def _lstm(cell: Any) -> tuple[Any, Any]:
    return LSTM(cell.units, use_bias=cell.use_bias, **_gated(cell)), gates.read_lstm(
        *_weights(cell, cell.units, 4), LSTM_ORDER
    )


def _gru(cell: Any) -> tuple[Any, Any]:
    w, u, biases = _weights(cell, cell.units, 3)
    biases = list(biases[0]) if biases and cell.reset_after else biases
    params = gates.read_gru(w, u, biases, GRU_ORDER, cell.reset_after)
    return GRU(cell.units, reset_after=cell.reset_after, use_bias=cell.use_bias, **_gated(cell)), params


def _conv_lstm(cell: Any) -> tuple[Any, Any]:
    if cell.data_format != "channels_last":
        raise ValueError(
            f"{FROM}: ConvLSTM {cell.name!r} must have data_format='channels_last', got {cell.data_format!r}; move the channels of x "
            "to the end and build the layer so"
        )
    w, u, biases = _weights(cell, cell.filters, 4)
    expect_shape(f"{FROM}: {cell.name!r}", "kernel", w, (*cell.kernel_size, w.shape[-2], 4 * cell.filters))
    bias = biases[0] if biases else np.zeros(4 * cell.filters, w.dtype)
    params = {"input": w, "recurrent": u, "bias": bias}
    options = {"strides": _same(cell.strides), "dilation": _same(cell.dilation_rate), "padding": cell.padding} | _gated(
        cell
    )
    made = ConvLSTM(cell.filters, kernel=tuple(cell.kernel_size), dims=cell.rank, peephole=False, **options)
    return made, params


def _same(sizes: Any) -> Any:
    """One int where all dimensions have the same, as the default says it."""
    return int(sizes[0]) if len(set(sizes)) == 1 else tuple(map(int, sizes))

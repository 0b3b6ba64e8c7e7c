"""Keras models whose layers stand in a row: Embedding, Masking, recurrent layers, dense heads, pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rnnjax.interop.arrays import to_jax
from rnnjax.interop.chains import Act, Affine, Chain, Drop, Lookup, Masked, Summary
from rnnjax.interop.keras_read import (
    ACTIVATIONS,
    FROM,
    activation,
    array,
    read_cell,
    read_layer,
    warn_about_training,
)
from rnnjax.interop.levels import build

if TYPE_CHECKING:
    import keras

IN_A_MODEL = (
    "Embedding", "Masking", "Dense", "Activation", "Dropout", "TimeDistributed", "GlobalAveragePooling1D", "GlobalMaxPooling1D",
)  # fmt: skip


def from_keras(layer: keras.Layer) -> tuple[Any, Any]:
    """A built Keras layer or model as ``(layer, params)``, a Keras cell as ``(cell, params)``, the same numbers.

    layer: SimpleRNN, LSTM, GRU (``reset_after`` both ways), ConvLSTM1D to 3D (strides, dilation, both paddings), Bidirectional of
    them, RNN of a cell or of stacked cells, SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells, each with any activation that is
    here; or a `keras.Sequential` (or a functional `keras.Model` whose layers stand in a row) of such layers, with Embedding or Masking
    first, and Dense, Activation, Dropout, TimeDistributed of these, GlobalAveragePooling1D, GlobalMaxPooling1D.
    Embedding becomes `Embed` round the first layer's cell, a linear Dense on one direction `Readout`, Dropout after a layer `Dropout`;
    what these cannot say becomes a layer without memory (`rnnjax.interop.Table`, `Dense`).
    Keras is batch first: call with ``time_axis=1``; a mask is ``mask=``. The whole sequence always comes back, so
    ``return_sequences=False`` is ``rj.last_output(ys, time_axis=1)``, with the same ``mask=`` and, where the layer goes backward,
    ``reverse=True`` (of `Bidirectional`, each half by its own direction). ``go_backwards`` becomes ``RNN(cell, reverse=True)``,
    whose ys keep the input order (Keras flips them); a layer on top of one then reads from the other end, as it does in Keras.
    Masking and ``mask_zero`` become `rnnjax.interop.Model`, which reads the mask off its input and repeats outputs where Keras does, so
    that the last in time is the last valid one. Pooling, and what stands on a Bidirectional with ``return_sequences=False``, become a
    `Model` with a summary, whose y is ``[B, O]`` as in Keras.
    Errors: TypeError for other layers, with the nearest that is known; ValueError naming an option without counterpart (``dropout``,
    ``recurrent_dropout``, ``stateful``, an activation of one's own, a mixed dtype policy, ...). Regularisers and constraints are no
    part of a layer here: a UserWarning names them.
    """
    try:
        built, params = _read(layer)
    except (AttributeError, KeyError, IndexError) as error:  # a layer whose attributes were changed after Keras made it
        raise TypeError(f"{FROM}: {type(layer).__name__} is not as Keras makes it: {error}") from None
    return built, to_jax(FROM, params)


def _read(layer: Any) -> tuple[Any, Any]:
    """A model, a cell or a layer, arrays as they came."""
    import keras

    if isinstance(layer, keras.Model):
        return read_model(layer)
    if isinstance(layer, keras.Layer) and hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN):
        return read_cell(layer)
    return build(read_layer(layer))


def read_model(model: Any) -> tuple[Any, Any]:
    """``(layer, params)`` of a Sequential or functional model. Raises: TypeError/ValueError naming the layer that does not fit."""
    layers, chain = list(_in_a_row(model)), Chain(FROM)
    for at, layer in enumerate(layers):
        for part in _parts(layer):
            chain.add(part)
        inner = getattr(layer, "forward_layer", layer)
        if hasattr(inner, "zero_output_for_mask"):
            chain.repeat = not inner.zero_output_for_mask  # Bidirectional sets it on what gives sequences
        if _gives_both_ends(layer) and (chain.mask_value is not None or _anything_more(layers[at + 1 :])):
            chain.add(Summary("last"))
    try:
        return chain.finish()
    except TypeError as error:
        raise TypeError(f"{error} (model {model.name!r})") from None


def _in_a_row(model: Any) -> Iterator[Any]:
    """The layers in order, those of models inside it among them, without inputs."""
    import keras

    if not isinstance(model, keras.Sequential):
        _check_in_a_row(model)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _in_a_row(layer)
        elif type(layer) is not keras.layers.InputLayer:
            yield layer


def _check_in_a_row(model: Any) -> None:
    """Every layer of a functional model reads what the one before gives, and nothing else."""
    import keras

    wanted = f"{FROM}: takes a Sequential model, or a functional one whose layers stand in a row, got {model.name!r}"
    if not getattr(model, "inputs", None):
        raise TypeError(f"{wanted}, a subclass of Model whose call cannot be read; convert its layers one by one")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise TypeError(f"{wanted} with {len(model.inputs)} inputs and {len(model.outputs)} outputs")
    flowing = model.inputs[0]
    for layer in model.layers:
        if type(layer) is keras.layers.InputLayer:
            continue
        if not _reads_only(layer, flowing):
            raise TypeError(f"{wanted}, where {layer.name!r} does not read what stands before it alone")
        flowing = layer.output
    if model.outputs[0] is not flowing:
        raise TypeError(f"{wanted}, whose output is not that of its last layer")


def _reads_only(layer: Any, flowing: Any) -> bool:
    """The layer reads this value, and beside it at most the mask that belongs to it."""
    first, *rest = layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]
    return first is flowing and all(other is getattr(flowing, "_keras_mask", None) for other in rest)


def _parts(layer: Any) -> list[Any]:
    """What one layer does."""
    import keras

    kinds = keras.layers
    inner = layer.layer if type(layer) is kinds.TimeDistributed else layer
    readers = {
        kinds.Embedding: _embedding,
        kinds.Masking: lambda layer: [Masked(float(layer.mask_value))],
        kinds.Dense: _dense,
        kinds.Dropout: _dropout,
        kinds.Activation: lambda layer: [Act(activation(layer, "activation", (*ACTIVATIONS, "softmax")))],
        kinds.GlobalAveragePooling1D: lambda layer: [_pooling(layer, "mean")],
        kinds.GlobalMaxPooling1D: lambda layer: [_pooling(layer, "max")],
    }
    known = type(inner) in readers and (inner is layer or type(inner) in (kinds.Dense, kinds.Dropout, kinds.Activation))
    return readers[type(inner)](inner) if known else read_layer(layer, IN_A_MODEL)


def _embedding(layer: Any) -> list[Any]:
    _check_weights(layer, "embeddings")
    return [Lookup(array(layer.embeddings)), *([Masked(0.0)] if layer.mask_zero else [])]


def _dense(layer: Any) -> list[Any]:
    _check_weights(layer, "kernel")
    bias = array(layer.bias) if layer.use_bias else None
    return [Affine(array(layer.kernel), bias, activation(layer, "activation", (*ACTIVATIONS, "softmax")))]


def _check_weights(layer: Any, name: str) -> None:
    """The weights are there, and nothing but them is added."""
    if not layer.built:
        raise ValueError(f"{FROM}: {layer.name!r} has no weights yet; build the model, e.g. by one call on data")
    for option in ("lora_enabled", "quantization_mode"):
        if getattr(layer, option, None):
            raise ValueError(
                f"{FROM}: {layer.name!r} has {option}={getattr(layer, option)!r}, so {name} is not all of it"
            )
    warn_about_training(layer)


def _dropout(layer: Any) -> list[Any]:
    if layer.noise_shape is not None:
        raise ValueError(f"{FROM}: Dropout {layer.name!r} must have no noise_shape, got {layer.noise_shape}")
    return [Drop(float(layer.rate))]


def _pooling(layer: Any, kind: str) -> Summary:
    if layer.data_format != "channels_last" or layer.keepdims:
        raise ValueError(f"{FROM}: {layer.name!r} must have data_format='channels_last' and keepdims=False")
    return Summary(kind)


def _gives_both_ends(layer: Any) -> bool:
    """A Bidirectional that gives what each half read last, which is no step of the sequence."""
    return type(layer).__name__ == "Bidirectional" and not layer.forward_layer.return_sequences


def _anything_more(layers: list[Any]) -> bool:
    """Whether any of these computes."""
    return any(type(layer).__name__ != "Dropout" for layer in layers)

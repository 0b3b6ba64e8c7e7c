"""An `EncoderDecoder` is built: its options checked, its params made, and none of them one that could not learn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Params, check_choice, check_input, param_dtype
from rnnjax.cells.shared.options import check_fields
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import alive, variables
from rnnjax.layers import as_layer
from rnnjax.protocols import input_axes
from rnnjax.seq2seq.attention import ATTENTIONS, attention_params
from rnnjax.wrappers.around import check_cell
from rnnjax.wrappers.stack import output_shape


def check_options(model: Any) -> None:
    """The fields of a model, which fit one another."""
    owner = "EncoderDecoder"
    check_fields(model)
    as_layer(owner, model.encoder)
    check_cell(owner, model.decoder)
    for name in ("encoder", "decoder"):
        if input_axes(getattr(model, name)) != 1:
            raise TypeError(
                f"{owner}: {name} must read vectors [*B, I], got {getattr(model, name)!r}; tokens are embedded here"
            )
    check_choice(owner, "attention", model.attention, (*ATTENTIONS, None))
    if model.attention is None and model.input_feeding:
        raise ValueError(f"{owner}: input_feeding feeds what attention found, got attention=None; drop one of them")


def make_params(model: Any, key: jax.Array, x: Any) -> Params:
    """Fresh params, checked."""
    x = source_vector(model, x)
    make = lambda key: _make_params(model, key, x)
    check_all_learn(model, jax.eval_shape(make, key), x)
    return make(key)


def source_vector(model: Any, x: Any) -> jax.ShapeDtypeStruct:
    """The type of one vector that the encoder reads ``[I]``, from one step of a source of floats."""
    if model.source_tokens is not None:
        if x is not None and not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(
                f"EncoderDecoder: has source_tokens={model.source_tokens}, so init takes no floats, got x of {x.dtype}"
            )
        return jax.ShapeDtypeStruct((model.features,), jnp.result_type(float))
    if x is None:
        raise ValueError(
            "EncoderDecoder: source_tokens=None, a source of floats: init(key, x) needs one step of it [*B, I]"
        )
    check_input("EncoderDecoder source", x)
    return jax.ShapeDtypeStruct(x.shape[-1:], x.dtype)


def _make_params(model: Any, key: jax.Array, x: jax.ShapeDtypeStruct) -> Params:
    k_source, k_target, k_encoder, k_decoder, k_attention, k_combine, k_output = jax.random.split(key, 7)
    dtype, embedded = param_dtype(x), model.features
    scale = embedded**-0.5 if model.tied else 1.0
    params: dict[str, Any] = {
        "target_table": scale * jax.random.normal(k_target, (model.target_tokens, embedded), dtype),
        "output_bias": jnp.zeros(model.target_tokens, dtype),
        "encoder": as_layer("EncoderDecoder", model.encoder).init(k_encoder, x),
    }
    if model.source_tokens is not None:
        params["source_table"] = jax.random.normal(k_source, (model.source_tokens, embedded), dtype)
    memory = encoder_features(model, params["encoder"], x) if model.attention else 0
    inputs = embedded + memory * (model.attention == "additive")
    hidden = decoder_features(model, inputs, dtype)
    vector = embedded if model.tied else hidden
    if model.input_feeding:
        inputs += vector
        check_steady(model, hidden, decoder_features(model, inputs, dtype))
    params["decoder"] = model.decoder.init(k_decoder, jax.ShapeDtypeStruct((inputs,), dtype))
    if model.attention:
        params["attention"] = attention_params(model.attention, k_attention, hidden, memory, dtype)
    if model.attention or vector != hidden:
        params["combine"] = initializers.lecun(k_combine, (hidden + memory, vector), dtype)
        params["combine_bias"] = jnp.zeros(vector, dtype)
    if not model.tied:
        params["output"] = initializers.lecun(k_output, (vector, model.target_tokens), dtype)
    return params


def encoder_features(model: Any, params: Params, x: jax.ShapeDtypeStruct) -> int:
    """M, of the encoder's output at one step."""
    xs = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    layer = as_layer("EncoderDecoder", model.encoder)
    return _one_vector(model, "encoder", jax.eval_shape(lambda p, xs: layer(p, xs)[1], params, xs), 2)


def decoder_features(model: Any, inputs: int, dtype: Any) -> int:
    """H, of the decoder's output at one step."""
    x = jax.ShapeDtypeStruct((inputs,), dtype)
    params = jax.eval_shape(lambda: model.decoder.init(jax.random.key(0), x))
    return _one_vector(model, "decoder", output_shape(model.decoder, params, x), 1)


def _one_vector(model: Any, name: str, y: Any, ndim: int) -> int:
    if getattr(y, "ndim", None) != ndim:
        raise TypeError(
            f"EncoderDecoder: {name} must put out one vector a step, got {y} of {getattr(model, name)!r}; merge them into one"
        )
    return y.shape[-1]


def check_steady(model: Any, before: int, after: int) -> None:
    """The decoder's output has the same size whatever it reads."""
    if before != after:
        raise ValueError(
            f"EncoderDecoder: input_feeding needs a decoder whose output does not grow with its input, got {model.decoder!r} with "
            f"{before} features, then {after}"
        )


def check_all_learn(model: Any, params: Params, x: jax.ShapeDtypeStruct) -> None:
    """Every one of the params is read on the way to the logits. Decided by the program of two plain steps on both sides."""
    tokens = jnp.zeros(2, int)
    source = tokens if model.source_tokens is not None else jnp.zeros((2, *x.shape), x.dtype)
    graph = to_graph(jax.make_jaxpr(lambda p: model(p, source, tokens, method="loop"))(params))
    read = {v for eqn in alive(graph.eqns, graph.outs) for v in variables(eqn.ins)}.union(variables(graph.outs))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    dead = [path for path, var in zip(paths, graph.ins, strict=True) if var not in read]
    if dead:
        raise ValueError(
            f"EncoderDecoder: params {', '.join(dead)} could never learn: no logit depends on them. A decoder that starts from the "
            "encoder's last carry has no use for a start of its own, and without attention nothing but that carry is read of the encoder; "
            f"leave out the wrapper that brings them, got {model.encoder!r} and {model.decoder!r}"
        )

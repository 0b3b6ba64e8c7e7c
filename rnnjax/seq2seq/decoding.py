"""One step of a decoder with all that `EncoderDecoder` puts round it, as a cell: tokens in, logits out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax._jax import place_as, placement
from rnnjax.base import Carry, Key, Params, any_rank, call_step, cell
from rnnjax.protocols import prepare
from rnnjax.seq2seq.attention import Memory, attend_once
from rnnjax.seq2seq.checks import widened
from rnnjax.wrappers.follow import carry_outputs
from rnnjax.wrappers.lookup import lookup


class DecoderState(NamedTuple):
    """decoder: the carry of the decoder cell; query: its last output, where attention comes before the cell; fed: the last
    attentional vector, where that is fed; drawn: the model's own next token, where it may be fed. None: not used."""

    decoder: Any
    query: Any = None
    fed: Any = None
    drawn: Any = None


class DecoderCarry(NamedTuple):
    """What `EncoderDecoder.decoder_step` carries: the memory, which no step changes (None without attention), and the state."""

    memory: Memory | None
    state: DecoderState


class Fed(NamedTuple):
    """What a step of scheduled sampling reads: the token given, whether the model's own is taken, the key of its draw."""

    token: Any
    own: Any
    key: Any


@cell
@any_rank
class Decoding:
    """``state', logits = step(params, state, token)``; params are those of the model, and ``memory`` with them.

    model: the `EncoderDecoder`. sampled: x is a `Fed`, and the state holds the model's own draw. weights: the output is the
    attention's weights ``[*B, S]`` in place of logits.
    """

    model: Any
    sampled: bool = False
    weights: bool = False

    input_ndim = 0

    def begin(self, params: Params, start: Carry | None, token: Any) -> DecoderState:
        """The state before the first token ``[*B]``: the decoder from ``start``, None its own; the query is the part of that
        which the decoder's output is (h of an LSTM), zeros where it is none; nothing fed."""
        x = jax.ShapeDtypeStruct((*token.shape, decoder_input(self.model, params)), params["target_table"].dtype)
        if start is None:
            start = self.model.decoder.initial_carry(params["decoder"], jnp.zeros(x.shape, x.dtype))
        before = self.model.attention == "additive"
        return DecoderState(
            decoder=start,
            query=self._first_query(params["decoder"], start, x) if before else None,
            fed=jnp.zeros((*token.shape, params["combine"].shape[-1]), x.dtype) if self.model.input_feeding else None,
            drawn=jnp.zeros_like(token) if self.sampled else None,
        )

    def _first_query(self, params: Params, start: Carry, x: Any) -> jax.Array:
        kinds = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
        params, carry = kinds(params), kinds(start)
        (part,) = carry_outputs(self.model.decoder, params, carry, x, None)
        if part is not None:
            return jax.tree.leaves(start)[part]
        y = jax.eval_shape(lambda *of_step: call_step(self.model.decoder, *of_step)[1], params, carry, x)
        return jnp.zeros(y.shape, y.dtype)

    def init(self, key: jax.Array, x: Any) -> Params:
        """The model's params."""
        return self.model.init(key)

    def initial_carry(self, params: Params, x: Any) -> DecoderState:
        """The state before the first token, the decoder's start its own."""
        return self.begin(params, None, x.token if self.sampled else x)

    def prepare(self, params: Params, key: Key, x: Any) -> Params:
        """What the decoder makes once per sequence."""
        token = x.token if self.sampled else x
        vector = jax.ShapeDtypeStruct((*token.shape, decoder_input(self.model, params)), params["target_table"].dtype)
        return params | {"decoder": prepare(self.model.decoder, params["decoder"], key, vector)}

    def __call__(self, params: Params, state: DecoderState, x: Any, key: Key = None) -> tuple[DecoderState, jax.Array]:
        model, memory, context, weights = self.model, params["memory"], None, None
        inputs = [
            fed_vector(params["target_table"], x, state.drawn) if self.sampled else lookup(params["target_table"], x)
        ]
        if model.input_feeding:
            inputs.append(state.fed)
        if model.attention == "additive":
            context, weights = attend_once(params["attention"], state.query, memory)
            inputs.append(context)
        start, y = call_step(model.decoder, params["decoder"], state.decoder, beside(inputs), key)
        if model.attention == "multiplicative":
            context, weights = attend_once(params["attention"], y, memory)
        vector = attentional(params, y, context)
        logits = to_logits(params, vector)
        new = DecoderState(
            decoder=start,
            query=None if state.query is None else y,
            fed=None if state.fed is None else vector,
            drawn=draw(x.key, logits).astype(state.drawn.dtype) if self.sampled else None,
        )
        return new, weights if self.weights else logits


def decoder_input(model: Any, params: Params) -> int:
    """How many features one step's input of the decoder has."""
    embedded = params["target_table"].shape[-1]
    fed = params["combine"].shape[-1] if model.input_feeding else 0
    return embedded + fed + (params["attention"]["memory"].shape[0] if model.attention == "additive" else 0)


def fed_vector(table: jax.Array, x: Fed, drawn: jax.Array) -> jax.Array:
    """The vector of the token that a step of scheduled sampling reads."""
    if placement(drawn) is None:
        return lookup(table, jnp.where(x.own, drawn, x.token))
    # On an explicit mesh a lookup by what the loop makes is a piece of a program on another mesh, which `rj.scan` takes apart;
    # a product is none, and says where it lies.
    vector = jax.nn.one_hot(drawn, len(table), dtype=table.dtype) @ table
    return jnp.where(x.own[..., None], vector, lookup(table, x.token))


def attentional(params: Params, y: jax.Array, context: jax.Array | None) -> jax.Array:
    """``tanh([y, context] W_c + b_c)``; y itself where there is no W_c."""
    if "combine" not in params:
        return y
    return jnp.tanh(beside([y] if context is None else [y, context]) @ params["combine"] + params["combine_bias"])


def to_logits(params: Params, vector: jax.Array) -> jax.Array:
    """``vector V + c``; V is the transposed table of the target where they are tied."""
    weight = params["output"] if "output" in params else params["target_table"].T
    return vector @ weight + params["output_bias"]


def beside(parts: list[jax.Array]) -> jax.Array:
    """Vectors side by side on the last axis."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def draw(key: jax.Array, logits: jax.Array) -> jax.Array:
    """A token ``[*B]`` of the softmax of ``logits [*B, V]``."""
    logits = widened(logits)
    return (logits + place_as(jax.random.gumbel(key, logits.shape, logits.dtype), logits)).argmax(-1)

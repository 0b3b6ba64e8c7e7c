"""`EncoderDecoder`: one sequence is read, another is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import place_batch_as
from rnnjax.base import Carry, Key, Params, any_rank, cell, check_params, check_tokens, name_of
from rnnjax.layers import as_layer
from rnnjax.seq2seq.attention import Memory, attend, remember
from rnnjax.seq2seq.decoding import DecoderCarry, Decoding, attentional, decoder_input, to_logits
from rnnjax.seq2seq.making import check_options, make_params
from rnnjax.seq2seq.reading import Source, is_sampled, read_source, read_target, scheduled
from rnnjax.sequence import unroll
from rnnjax.sequence.arguments import Steps
from rnnjax.sequence.start import start_carry
from rnnjax.wrappers.lookup import lookup

OPTIONS = ("method", "unroll", "checkpoint", "matmul_dtype", "fuse")


@cell
@any_rank
class EncoderDecoder:
    """Reads a source sequence with one cell or layer, writes a target sequence of tokens with another cell.

    ``e_s`` ``[*B, M]``: the encoder's outputs. ``x_t = E_target[token_t]``. ``s_t`` ``[*B, H]``: the decoder's output at step t.
    ``c_t = sum_s a_ts e_s``, ``a_t = softmax_s(score_ts)`` over the valid s; 0 where there are none.

    attention="additive" (Bahdanau's order, attention before the cell): ``score_ts = v . tanh(s_{t-1} W + e_s U + b)``;
    ``s_t = decoder([x_t, c_t])``. ``s_{-1}`` is the part of the decoder's start that its output is (h of an LSTM), else 0.
    attention="multiplicative" (Luong's order, attention after the cell, "general" score): ``s_t = decoder(x_t)``;
    ``score_ts = s_t . (e_s U)``.
    attention=None: ``s_t = decoder(x_t)``; all that is known of the source is where the decoder starts.
    Then ``h_t = tanh([s_t, c_t] W_c + b_c)``, without attention ``h_t = s_t``; ``logits_t = h_t V + b_V``.
    input_feeding: ``h_{t-1}`` (0 at first) is one more input of the decoder: ``[x_t, h_{t-1}]``, ``[x_t, h_{t-1}, c_t]``.
    tied: ``V = E_target^T``, and h has ``features``; without attention by ``h_t = tanh(s_t W_c + b_c)`` where H differs.

    encoder: a cell or a layer (`rnnjax.Bidirectional`, `rnnjax.Sequential`). decoder: a cell; stacks and wrappers are cells.
    source_tokens, target_tokens: sizes of the vocabularies; source_tokens=None: the source is floats ``[S, *B, I]``.
    features: of a token's vector, source and target.
    The decoder starts from the encoder's last carry where structure and shapes agree; else, with attention, from its own initial carry.
    params: ``source_table`` ``[source_tokens, features]`` (not for floats), ``target_table`` E, ``encoder``, ``decoder``, ``attention``
    (``memory`` U ``[M, H]``; additive: ``query`` W ``[H, H]``, ``bias`` b, ``score`` v ``[H]``), ``combine`` W_c ``[H + M, H]``,
    ``combine_bias``, ``output`` V ``[H, target_tokens]`` (not if tied), ``output_bias``. Every one of them has a gradient.
    Start: tables standard normal (tied: of variance 1 / features), W, U, v, W_c, V lecun, biases zero.
    Errors: ValueError/TypeError for options and shapes that do not fit; without attention, for a decoder that cannot start from the
    encoder's last carry; for params that could never learn (a readout on an encoder of which only the carry is read).

    Variant: Bahdanau's readout is a maxout of s, c and x, here it is Luong's for both; Luong's paper scores with ``s_t U e_s``, the
    same; TensorFlow Addons' and Luong's first decoders feed ``h`` always, here on request. Sources: Sutskever, Vinyals, Le 2014,
    arXiv:1409.3215 (None); Bahdanau, Cho, Bengio 2015, arXiv:1409.0473; Luong, Pham, Manning 2015, arXiv:1508.04025; tied: Press and Wolf
    2017, arXiv:1608.05859.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> model = rj.seq2seq.EncoderDecoder(rj.Bidirectional(rj.GRU(8)), rj.GRU(8), 20, 10, features=4)
    >>> params = model.init(jax.random.key(0))
    >>> source, target = jnp.ones((7, 2), int), jnp.array([[0, 0], [3, 4], [5, 1]])
    >>> model(params, source, target, source_lengths=jnp.array([7, 3])).shape
    (3, 2, 10)
    >>> step, carry = model.decoder_step(params, source)
    >>> tokens, lengths = rj.seq2seq.greedy(step, carry, target[0], end=1, length=5)
    >>> tokens.shape
    (5, 2)
    """

    encoder: Any
    decoder: Any
    source_tokens: int | None
    target_tokens: int
    _: KW_ONLY
    features: int
    attention: str | None = "additive"
    input_feeding: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        check_options(self)

    def init(self, key: jax.Array, x: Any = None) -> Params:
        """Fresh params. x: for a source of floats one step of it ``[*B, I]``, or its `jax.ShapeDtypeStruct`."""
        return make_params(self, key, x)

    def __call__(
        self,
        params: Params,
        source: Any,
        target: Any,
        *,
        source_lengths: Any = None,
        key: Key = None,
        sampling: Any = 0.0,
        **how: Any,
    ) -> jax.Array:
        """``logits [T, *B, target_tokens]``: what follows ``target[:t + 1]``, so that ``logits[t]`` predict ``target[t + 1]``.

        source: tokens ``[S, *B]``, or floats ``[S, *B, I]``. target: tokens ``[T, *B]``, the first the start symbol. source_lengths: int
        ``[*B]``; what lies beyond changes nothing. key: for noise inside of encoder and decoder, and for sampling.
        sampling: share of the steps, the first left out, that are fed with the model's own draw from its logits in place of the token
        given (scheduled sampling, Bengio et al. 2015, arXiv:1506.03099); a number in 0..1, or an array under jit.
        how: method, unroll, checkpoint, matmul_dtype, fuse of `rnnjax.unroll`, for encoder and decoder.
        Errors: ValueError/TypeError for tokens outside the vocabulary where they are known (inside jit they give NaN), for
        batch axes that differ, for sampling without a key.
        """
        read, target = self._read(source, target, source_lengths)
        sampled = is_sampled(sampling, key)
        k_encoder, k_decoder, k_draw = (None,) * 3 if key is None else jax.random.split(key, 3)
        memory, start = self._encode(params, read, k_encoder, how)
        if self._cell_first and not sampled:
            ys, context, _ = self._at_once(params, memory, start, target, k_decoder, how)
            return to_logits(params, attentional(params, ys, context))
        xs = scheduled(k_draw, target, sampling) if sampled else target
        return self._step_by_step(Decoding(self, sampled), params, memory, start, xs, k_decoder, how)

    def alignment(self, params: Params, source: Any, target: Any, *, source_lengths: Any = None) -> jax.Array:
        """The attention's weights ``a [T, *B, S]`` while the target is read; arguments as at the call. ValueError without attention.

        >>> import jax, jax.numpy as jnp, rnnjax as rj
        >>> model = rj.seq2seq.EncoderDecoder(rj.GRU(8), rj.GRU(8), 20, 10, features=4, attention="multiplicative")
        >>> source, target = jnp.ones((3, 1), int), jnp.ones((2, 1), int)
        >>> a = model.alignment(model.init(jax.random.key(0)), source, target, source_lengths=jnp.array([2]))
        >>> a.sum(-1).round(3).tolist(), a[..., 2].tolist()
        ([[1.0], [1.0]], [[0.0], [0.0]])
        """
        if self.attention is None:
            raise ValueError(f"{self!r}: there is no alignment without attention; build it with attention='additive'")
        read, target = self._read(source, target, source_lengths)
        memory, start = self._encode(params, read, None, {})
        if self._cell_first:
            return self._at_once(params, memory, start, target, None, {})[2]
        return self._step_by_step(Decoding(self, weights=True), params, memory, start, target, None, {})

    def decoder_step(
        self, params: Params, source: Any, *, source_lengths: Any = None
    ) -> tuple[Callable[[DecoderCarry, jax.Array], tuple[DecoderCarry, jax.Array]], DecoderCarry]:
        """``step(carry, token [*B]) -> (carry, logits [*B, target_tokens])`` and the carry to start from, which has read the source.

        For `rnnjax.seq2seq.greedy`, `sample`, `beam`. Every leaf of the carry leads with ``*B``, the memory among them. Steps over the
        tokens of a target give the logits that the call gives.
        """
        read = read_source(self, source, source_lengths)
        memory, start = self._encode(params, read, None, {})
        tokens = place_batch_as(jnp.zeros((1, *read.batch), int), read.steps, 1 + len(read.batch))
        one, of_step = Decoding(self), params | {"memory": memory}
        state, _ = start_carry(one, of_step, one.begin(of_step, start, tokens[0]), Steps(tokens))

        def step(carry: DecoderCarry, token: Any) -> tuple[DecoderCarry, jax.Array]:
            token = check_tokens("EncoderDecoder", "token", token, self.target_tokens)
            state, logits = one(params | {"memory": carry.memory}, carry.state, token)
            return DecoderCarry(carry.memory, state), logits

        return step, DecoderCarry(memory, state)

    # -- the parts -----------------------------------------------------------------------------------------------------

    @property
    def _cell_first(self) -> bool:
        """Whether the decoder reads nothing but tokens, so that it may run over all of them before attention does."""
        return self.attention != "additive" and not self.input_feeding

    def _read(self, source: Any, target: Any, lengths: Any) -> tuple[Source, jax.Array]:
        read = read_source(self, source, lengths)
        return read, read_target(self, target, read.batch)

    def _encode(
        self, params: Params, source: Source, key: Key, how: dict[str, Any]
    ) -> tuple[Memory | None, Carry | None]:
        """The memory (None without attention), and what the decoder starts from (None: its own initial carry)."""
        check_params(self, params, ("encoder", "decoder", "target_table", "output_bias"))
        check_how(how)
        xs = source.steps if self.source_tokens is None else lookup(params["source_table"], source.steps)
        layer = as_layer("EncoderDecoder", self.encoder)
        last, ys = layer(params["encoder"], xs, lengths=source.lengths, key=key, **how)
        start = first_carry(self, params, last, source.batch)
        if self.attention is None:
            return None, start
        valid = None if source.valid is None else jnp.moveaxis(source.valid, 0, -1)
        return remember(params["attention"], jnp.moveaxis(ys, 0, -2), valid), start

    def _at_once(
        self, params: Params, memory: Memory | None, start: Carry, target: jax.Array, key: Key, how: dict[str, Any]
    ) -> tuple[jax.Array, Any, Any]:
        """The decoder over all the target, then attention: outputs ``[T, *B, H]``, contexts ``[T, *B, M]``, weights ``[T, *B, S]``."""
        xs = lookup(params["target_table"], target)
        _, ys = unroll(self.decoder, params["decoder"], xs, carry=start, key=key, **how)
        if memory is None:
            return ys, None, None
        context, weights = attend(params["attention"], jnp.moveaxis(ys, 0, -2), memory)
        return ys, jnp.moveaxis(context, -2, 0), jnp.moveaxis(weights, -2, 0)

    def _step_by_step(
        self, one: Decoding, params: Params, memory: Any, start: Carry, xs: Any, key: Key, how: dict[str, Any]
    ) -> jax.Array:
        """Attention, decoder and output as one cell over the target."""
        params = params | {"memory": memory}
        state = one.begin(params, start, jax.tree.leaves(xs)[0][0])
        return unroll(one, params, xs, carry=state, key=key, **how)[1]


def first_carry(model: Any, params: Params, last: Carry, batch: tuple[int, ...]) -> Carry | None:
    """The encoder's last carry where it is one of the decoder; else None, or without attention a ValueError."""
    kinds = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
    shapes = lambda tree: (jax.tree.structure(tree), [a.shape for a in jax.tree.leaves(tree)])
    x = jax.ShapeDtypeStruct((*batch, decoder_input(model, params)), params["target_table"].dtype)
    own = jax.eval_shape(model.decoder.initial_carry, kinds(params["decoder"]), x)
    if shapes(own) == shapes(last):
        return last
    if model.attention is None:
        raise ValueError(
            f"EncoderDecoder: without attention the decoder starts from the encoder's last carry, and {name_of(model.decoder)} cannot "
            f"start from that of {name_of(model.encoder)}: it needs {own}, got {kinds(last)}; take cells of one kind and size, or attention"
        )
    return None


def check_how(how: dict[str, Any]) -> None:
    """Keyword arguments that say how the loops run, not what they compute."""
    for name in how:
        if name not in OPTIONS:
            raise TypeError(
                f"EncoderDecoder: takes no {name}=, got {how[name]!r}; of unroll's options it takes {', '.join(OPTIONS)}"
            )

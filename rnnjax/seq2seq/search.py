"""Tokens out of any pure step: the best one at a time, drawn, or the best sequences by a beam."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import handed_on, place_as, vary_over, varying_axes
from rnnjax.base import Carry
from rnnjax.seq2seq.checks import check_whole, widened

StepFunction = Callable[[Carry, jax.Array], tuple[Carry, jax.Array]]


def greedy(step: StepFunction, carry: Carry, start: Any, *, end: int, length: int) -> tuple[jax.Array, jax.Array]:
    """The most probable token at every step: ``token_t = argmax logits_t``, fed to the next.

    step: any pure ``step(carry, token [*B]) -> (carry, logits [*B, V])``. carry: every leaf leads with ``*B``.
    start: the token ``[*B]`` to begin with, not part of the result. end: the token that ends a row; one that no logit can
    give (-1) means that no row ends early. length: steps.
    Returns tokens ``[length, *B]``, all ``end`` after the first ``end``, and lengths ``[*B]``, that ``end`` counted.
    Rows end on their own; the loop runs ``length`` steps, in one program of static shapes, under jit, vmap and on a split batch.
    Errors: TypeError/ValueError for a start that is no token, a carry or logits that do not lead with ``*B``, a carry that a
    step changes in type, a negative length.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> count = lambda carry, token: (carry, 5.0 * jnp.eye(4)[(token + 1) % 4])
    >>> tokens, lengths = rj.seq2seq.greedy(count, None, jnp.array([0, 2]), end=3, length=4)
    >>> tokens.T.tolist(), lengths.tolist()
    ([[1, 2, 3, 3], [3, 3, 3, 3]], [3, 1])
    """
    return _one_by_one("greedy", step, carry, start, end, length, lambda logits, t: logits.argmax(-1))


def sample(
    step: StepFunction,
    carry: Carry,
    start: Any,
    key: jax.Array,
    *,
    end: int,
    length: int,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Tokens drawn from the softmax: ``token_t ~ softmax(logits_t / temperature)``, among those that top_k and top_p leave.

    key: one, or keys ``[*B]``, one a row; one key is split among the rows. Step t draws with ``fold_in(key of the row, t)``.
    temperature: 0 is `greedy`. top_k: only the k most probable. top_p: only the most probable, the smallest set with at
    least that mass, of what top_k left (Holtzman et al. 2020, arXiv:1904.09751). Equal logits: the lower token first.
    The rest as for `greedy`. Errors: ValueError for a negative temperature, top_k below 1, top_p outside (0, 1].

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> coin = lambda carry, token: (carry, jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.5, 0.3])), (500, 3)))
    >>> tokens, _ = rj.seq2seq.sample(coin, None, jnp.zeros(500, int), jax.random.key(0), end=-1, length=1, top_k=2)
    >>> bool((tokens > 0).all()), bool(abs((tokens == 1).mean() - 5 / 8) < 0.1)
    (True, True)
    """
    _check_sampling(temperature, top_k, top_p)
    start = _read_start("sample", start)
    keys = _keys_of_rows(key, start.shape)

    def choose(logits: jax.Array, t: jax.Array) -> jax.Array:
        warmth = jnp.asarray(temperature, logits.dtype)

        def noise(key: jax.Array) -> jax.Array:
            return jax.random.gumbel(jax.random.fold_in(key, t), logits.shape[-1:], logits.dtype)

        for _ in range(start.ndim):
            noise = jax.vmap(noise)
        logits = jnp.where(allowed(logits, warmth, top_k, top_p), logits, -jnp.inf)
        return (logits + warmth * place_as(noise(keys), logits)).argmax(-1)  # argmax(z / T + g)

    return _one_by_one("sample", step, carry, start, end, length, choose)


def allowed(logits: jax.Array, temperature: Any, top_k: int | None, top_p: Any) -> jax.Array:
    """Which tokens ``[*B, V]`` top_k and top_p leave."""
    if top_k is None and top_p is None:
        return jnp.full_like(logits, True, bool)
    order = jnp.argsort(logits, axis=-1, stable=True, descending=True)
    rank = jnp.argsort(order, axis=-1)
    left = rank < (logits.shape[-1] if top_k is None else top_k)
    if top_p is None:
        return left
    shifted = jnp.where(left, logits - logits.max(-1, keepdims=True), -jnp.inf)
    p = jax.nn.softmax(shifted / jnp.maximum(temperature, jnp.finfo(logits.dtype).tiny), axis=-1)
    in_order = jnp.take_along_axis(p, order, axis=-1)
    before = jnp.take_along_axis(jnp.cumsum(in_order, -1) - in_order, rank, axis=-1)
    top_p = jnp.asarray(top_p, logits.dtype)
    rounding = 8 * jnp.finfo(logits.dtype).eps
    return left & ((before < top_p - rounding) | (rank == 0) | (top_p >= 1))


def _one_by_one(
    owner: str, step: StepFunction, carry: Carry, start: Any, end: int, length: int, choose: Any
) -> tuple[jax.Array, jax.Array]:
    start, length = _read_start(owner, start), check_whole(owner, "length", length, 0)
    end = check_whole(owner, "end", end, np.iinfo(start.dtype).min)
    carry, start, _, _ = _look(owner, step, carry, start)

    def body(state: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        carry, token, done, count = state
        carry, logits = step(carry, token)
        token = jnp.where(done, end, choose(widened(logits), t).astype(token.dtype))
        count = jnp.where(done, count, count + 1)
        return (carry, token, done | (token == end), count), token

    state = carry, start, start != start, jnp.zeros_like(start)
    (_, _, _, lengths), tokens = jax.lax.scan(body, state, jnp.arange(length))
    return tokens, lengths


class _Beams(NamedTuple):
    """live: log p ``[K, *B]``; done: scores. Their tokens ``[K, length, *B]``, lengths of the done ones, the last live token."""

    live: jax.Array
    tokens: jax.Array
    token: jax.Array
    done: jax.Array
    done_tokens: jax.Array
    done_lengths: jax.Array


def beam(
    step: StepFunction, carry: Carry, start: Any, *, end: int, length: int, beams: int, length_penalty: float = 0.0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best sequences that a beam finds, best first.

    At every step the ``beams`` most probable continuations of the live sequences; those that end leave the beam for a list of
    the ``beams`` best ended ones. Score: ``sum_t log p(token_t) / ((5 + n) / 6) ** length_penalty`` with n tokens, ``end``
    counted; sequences that have not ended after ``length`` steps count like the others. With ``beams`` at least the number of
    sequences it is an exhaustive search; ``beams=1`` is `greedy`.

    Arguments as for `greedy`. Returns tokens ``[beams, length, *B]``, lengths and scores ``[beams, *B]``. Places without a
    sequence have score -inf, length 0, all ``end``, and come last. What a step hands on untouched (an encoder's memory) is
    neither copied nor moved for the beams.
    Errors: ValueError for beams below 1, a length_penalty that is not finite; else as for `greedy`.
    Source: Sutskever, Vinyals, Le 2014, arXiv:1409.3215; the penalty: Wu et al. 2016, arXiv:1609.08144, equation 14.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> chain = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.0, 0.0, 1.0]]))
    >>> tokens, lengths, scores = rj.seq2seq.beam(lambda c, t: (c, chain[t]), None, jnp.array(0), end=2, length=2, beams=2)
    >>> tokens.tolist(), [round(float(p), 2) for p in jnp.exp(scores)]
    ([[0, 0], [1, 0]], [0.25, 0.24])
    """
    start, length = _read_start("beam", start), check_whole("beam", "length", length, 0)
    end, beams = check_whole("beam", "end", end, np.iinfo(start.dtype).min), check_whole("beam", "beams", beams, 1)
    if not isinstance(length_penalty, (int, float)) or not math.isfinite(length_penalty):
        raise ValueError(f"beam: length_penalty must be a finite number, got {length_penalty!r}")
    carry, start, logits, same = _look("beam", step, carry, start)
    leaves, structure = jax.tree.flatten(carry)
    axes = jax.tree.unflatten(structure, [None if s else 0 for s in same])
    carry = jax.tree.unflatten(structure, [a if s else _copies(a, beams) for a, s in zip(leaves, same, strict=True)])

    def score(log_p: jax.Array, n: Any) -> jax.Array:
        return log_p / ((5 + jnp.asarray(n, log_p.dtype)) / 6) ** length_penalty

    def body(state: tuple[Carry, _Beams], t: jax.Array) -> tuple[Any, None]:
        carry, b = state
        carry, logits = jax.vmap(step, (axes, 0), (axes, 0))(carry, b.token)
        advance = lambda b, log_p: _advance(b, log_p, t, end, score)
        move = lambda leaf, parent: leaf[parent]
        for _ in range(start.ndim):
            advance = jax.vmap(advance, (_Beams(1, 2, 1, 1, 2, 1), 1), (_Beams(1, 2, 1, 1, 2, 1), 1))
            move = jax.vmap(move, 1, 1)
        b, parent = advance(b, jax.nn.log_softmax(widened(logits)))
        leaves = [a if s else move(a, parent) for a, s in zip(jax.tree.leaves(carry), same, strict=True)]
        return (jax.tree.unflatten(structure, leaves), b), None

    zero = jnp.zeros_like(start, logits.dtype)
    first = jnp.arange(beams).reshape(-1, *(1,) * start.ndim) == 0
    nothing = _copies(zero - jnp.inf, beams)
    tokens = _copies(_copies(jnp.full_like(start, end), length), beams)
    b = _Beams(
        jnp.where(first, zero, nothing), tokens, _copies(start, beams), nothing, tokens, _copies(start * 0, beams)
    )
    (_, b), _ = jax.lax.scan(body, (carry, b), jnp.arange(length))
    live = jnp.where(b.live > -jnp.inf, score(b.live, length), -jnp.inf)
    return _best(b, live, length, end, start.ndim)


def _advance(b: _Beams, log_p: jax.Array, t: jax.Array, end: int, score: Any) -> tuple[_Beams, jax.Array]:
    """One row: ``log_p [K, V]`` of the next token of each live sequence; its beams, and which each comes from."""
    count, vocabulary = log_p.shape
    reached = jnp.where(b.live[:, None] > -jnp.inf, b.live[:, None] + log_p, -jnp.inf)
    best, at = jax.lax.top_k(reached.reshape(-1), count)
    parent, token = at // vocabulary, (at % vocabulary).astype(b.token.dtype)
    tokens = b.tokens[parent].at[:, t].set(token)
    ended = token == end
    pool = jnp.concatenate([b.done, jnp.where(ended & (best > -jnp.inf), score(best, t + 1), -jnp.inf)])
    done, place = jax.lax.top_k(pool, count)
    done_tokens = jnp.concatenate([b.done_tokens, tokens])[place]
    done_lengths = jnp.concatenate([b.done_lengths, jnp.full_like(b.done_lengths, 1) * (t + 1).astype(token.dtype)])[
        place
    ]
    return _Beams(jnp.where(ended, -jnp.inf, best), tokens, token, done, done_tokens, done_lengths), parent


def _best(b: _Beams, live: jax.Array, length: int, end: int, ndim: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ended and live sequences together, best first; fillers last."""

    def row(done: Any, live: Any, done_tokens: Any, tokens: Any, done_lengths: Any) -> tuple[Any, Any, Any]:
        scores, place = jax.lax.top_k(jnp.concatenate([done, live]), len(live))
        lengths = jnp.concatenate([done_lengths, jnp.full_like(done_lengths, length)])[place]
        tokens = jnp.concatenate([done_tokens, tokens])[place]
        real = scores > -jnp.inf
        return jnp.where(real[:, None], tokens, end), jnp.where(real, lengths, 0), scores

    for _ in range(ndim):
        row = jax.vmap(row, (1, 1, 2, 2, 1), (2, 1, 1))
    return row(b.done, live, b.done_tokens, b.tokens, b.done_lengths)


# -- reading the arguments ---------------------------------------------------------------------------------------------


def _copies(a: jax.Array, count: int) -> jax.Array:
    return jnp.repeat(a[None], count, axis=0)


def _read_start(owner: str, start: Any) -> jax.Array:
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise TypeError(f"{owner}: start must be integer tokens [*B], got {start.dtype}")
    return start


def _look(owner: str, step: StepFunction, carry: Carry, start: jax.Array) -> tuple[Carry, jax.Array, Any, list[bool]]:
    """Carry and start typed as a step's, the type of its logits, and for each part of the carry whether it stays untouched."""
    carry = jax.tree.map(jnp.asarray, carry)
    for part in jax.tree.leaves(carry):
        if part.shape[: start.ndim] != start.shape:
            raise ValueError(
                f"{owner}: every part of the carry must lead with the batch axes of start {start.shape}, got a part of "
                f"shape {part.shape}; give start one token for each row"
            )

    new, logits = jax.eval_shape(step, carry, start)
    types = lambda tree: [(a.shape, a.dtype) for a in jax.tree.leaves(tree)]
    if jax.tree.structure(new) != jax.tree.structure(carry) or types(new) != types(carry):
        raise ValueError(
            f"{owner}: a step must return its carry in the types it got, {types(carry)}, got {types(new)}; "
            "start from what decoder_step gives, or cast in the step"
        )
    if logits.shape[:-1] != start.shape or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"{owner}: a step must return floating logits [*B, V] with *B {start.shape}, got {logits.dtype}{list(logits.shape)}"
        )
    same = handed_on(jax.make_jaxpr(step)(carry, start))[: len(jax.tree.leaves(carry))]
    logits = jax.eval_shape(widened, logits)
    token = jax.eval_shape(lambda z: z.argmax(-1).astype(start.dtype), logits)
    fit = lambda a, b: place_as(vary_over(a, varying_axes(b)), b)
    return jax.tree.map(fit, carry, new), fit(start, token), logits, same


def _keys_of_rows(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    keys = key if typed else jax.random.wrap_key_data(key)
    if keys.shape == () and batch:
        return jax.random.split(keys, batch)
    if keys.shape != batch:
        raise ValueError(f"sample: key must be one key, or one for each row {batch}, got keys of shape {keys.shape}")
    return keys


def _check_sampling(temperature: Any, top_k: Any, top_p: Any) -> None:
    if top_k is not None:
        check_whole("sample", "top_k", top_k, 1)
    if not isinstance(temperature, jax.core.Tracer) and not (np.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"sample: temperature must be finite and at least 0 (0 is greedy), got {temperature}")
    if top_p is not None and not isinstance(top_p, jax.core.Tracer) and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p must lie in (0, 1], got {top_p}; 1 leaves every token")

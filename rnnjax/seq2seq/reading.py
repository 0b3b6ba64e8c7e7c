"""The arguments of an `EncoderDecoder`, read and checked: the source, the target, and which tokens are its own draw."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import place_as
from rnnjax.base import Key, check_input, check_tokens, is_known
from rnnjax.seq2seq.checks import check_lengths
from rnnjax.seq2seq.decoding import Fed


class Source(NamedTuple):
    """steps: tokens ``[S, *B]`` or floats ``[S, *B, I]``; lengths ``[*B]`` and valid ``[S, *B]``, None where all is valid."""

    steps: jax.Array
    lengths: jax.Array | None
    valid: jax.Array | None
    batch: tuple[int, ...]


def read_source(model: Any, source: Any, lengths: Any) -> Source:
    """The source of a model; its tokens lie in the vocabulary where they are known and no padding."""
    steps, floats = jnp.asarray(source), model.source_tokens is None
    if floats:
        check_input("EncoderDecoder source", steps, ndim=2)
    elif steps.ndim < 1:
        raise ValueError("EncoderDecoder: source must be tokens [S, *B], got one token; did you mean source[None]?")
    shape = steps.shape[: steps.ndim - floats]
    valid = None
    if lengths is not None:
        lengths = check_lengths("EncoderDecoder", "source_lengths", lengths, shape)
        valid = jnp.arange(shape[0]).reshape(-1, *(1,) * lengths.ndim) < lengths
    if not floats:
        steps = check_tokens("EncoderDecoder", "source", steps, model.source_tokens, valid)
    return Source(steps, lengths, valid, shape[1:])


def read_target(model: Any, target: Any, batch: tuple[int, ...]) -> jax.Array:
    """The target of a model, tokens ``[T, *B]`` of its vocabulary with the batch axes of the source."""
    target = check_tokens("EncoderDecoder", "target", target, model.target_tokens)
    if target.ndim < 1 or target.shape[1:] != batch:
        raise ValueError(
            f"EncoderDecoder: target must be [T, *B] with the batch axes of the source {batch}, got shape {target.shape}"
        )
    return target


def is_sampled(sampling: Any, key: Key) -> bool:
    """Whether some steps may be fed with the model's own draw. Raises: ValueError for a share outside 0..1, or without a key."""
    if is_known(sampling):
        shares = np.asarray(sampling)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"EncoderDecoder: sampling is a share of steps, 0 to 1, got {sampling}")
        if not shares.any():
            return False
    if key is None:
        raise ValueError(f"EncoderDecoder: sampling={sampling} draws tokens and needs key=; sampling=0.0 needs none")
    return True


def scheduled(key: jax.Array, target: jax.Array, sampling: Any) -> Fed:
    """What the steps read where each but the first takes the model's own draw with probability ``sampling``."""
    k_own, k_draw = jax.random.split(key)
    own = jax.random.bernoulli(k_own, sampling, target.shape)
    own = own & (jnp.arange(len(target)).reshape(-1, *(1,) * (target.ndim - 1)) > 0)
    return Fed(target, place_as(own, target), jax.random.split(k_draw, len(target)))

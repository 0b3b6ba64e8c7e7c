"""The standard error of a mean over time whose terms depend on one another: from the means of long blocks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

FEWEST = 16  # terms: four blocks of four
MOST_BLOCKS = 32


def standard_error(terms: jax.Array) -> jax.Array:
    """Of the mean of ``terms [n, ...]`` over n: ``std(block means) / sqrt(blocks)``, ``[...]``.

    ``min(sqrt(n), 32)`` blocks of equal length: long beside the memory of the process once n is. What does not fill a block is
    left out at the start. The truth lies within 1.96 of them about 95 times in 100 where n is above 1000, somewhat less often
    below.
    """
    blocks = min(MOST_BLOCKS, math.isqrt(len(terms)))
    size = len(terms) // blocks
    means = terms[len(terms) - blocks * size :].reshape(blocks, size, *terms.shape[1:]).mean(1)
    return jnp.std(means, axis=0, ddof=1) / math.sqrt(blocks)

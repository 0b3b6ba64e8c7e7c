"""Pictures that move."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


def moving(images: Any, seed: Any, batch: int, time: int, *, size: int = 16, count: int = 1) -> np.ndarray:
    """Pictures moving over a field: ``[T, B, size, size]`` float32; each goes straight on and bounces off the borders.

    images: ``[N, h, w]``, of which ``count`` are drawn for each row of the batch; where they cross the brighter one is seen.
    They start anywhere with a speed of up to two places a step. Source: Srivastava et al. 2015, arXiv:1502.04681 (moving MNIST).
    Raises: DataError where a picture is larger than the field.

    >>> film = moving(np.ones((1, 2, 2)), seed=0, batch=3, time=5, size=6)
    >>> film.shape, film.sum((2, 3)).min(), film.sum((2, 3)).max()
    ((5, 3, 6, 6), np.float32(4.0), np.float32(4.0))
    """
    images = np.asarray(images, np.float32)
    room = np.array([size, size]) - images.shape[1:]
    if images.ndim != 3 or room.min() < 0:
        raise DataError(f"moving: images must be [N, h, w] of at most {size} by {size}, got {images.shape}")
    rng = np.random.default_rng(seed)
    film = np.zeros((time, batch, size, size), np.float32)
    chosen = images[rng.integers(0, len(images), (batch, count))]
    start, speed = rng.random((batch, count, 2)) * room, rng.uniform(-2, 2, (batch, count, 2))
    for t in range(time):
        for row, many in enumerate(bounced(start + t * speed, room).round().astype(int)):
            for (y, x), image in zip(many, chosen[row]):
                seen = film[t, row, y : y + image.shape[0], x : x + image.shape[1]]
                np.maximum(seen, image, out=seen)
    return film


def bounced(place: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Where something is that would be at ``place`` without the walls at 0 and ``room``: a triangle wave."""
    turn = np.mod(place, 2 * np.maximum(room, 1e-9))
    return np.minimum(turn, 2 * room - turn).clip(0, room)

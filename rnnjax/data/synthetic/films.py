"""Films of digits that move in one way each, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.errors import DataError

MOVES = ("left", "right", "up", "down", "clockwise", "anticlockwise", "still")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STRAIGHT = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "still": (0, 0)}
RADIUS, ROUND = 3, 8  # of a circle: places, and frames that it takes


class Films(NamedTuple):
    """frames ``[T, B, size, size]`` float32, rows from above. labels ``[B, count]`` of the pictures.
    moves ``[B, count]``: places in `MOVES`."""

    frames: np.ndarray
    labels: np.ndarray
    moves: np.ndarray


def films(
    images: Any,
    labels: Any,
    seed: Any,
    batch: int,
    time: int,
    *,
    size: int = 16,
    count: int = 1,
    moves: Sequence[str] = MOVES,
) -> Films:
    """``count`` pictures of ``images [N, h, w]`` a film, each moving in one of ``moves``, from anywhere, one or two places a frame.

    The field has no border: what leaves it on one side comes back on the other, so that where a picture stands does not tell how it
    moves. Circles have a radius of three places and take eight frames. Where pictures cross the brighter one is seen.
    Raises: DataError where a picture is larger than the field, and for a move that is none of `MOVES`.

    >>> film = films(np.ones((1, 2, 2)), [7], 0, batch=3, time=5, moves=["left"])
    >>> film.frames.shape, film.frames.sum((2, 3)).tolist() == [[4.0] * 3] * 5, film.moves.ravel().tolist()
    ((5, 3, 16, 16), True, [0, 0, 0])
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 3 or max(images.shape[1:]) > size:
        raise DataError(f"films: images must be [N, h, w] of at most {size} by {size}, got {images.shape}")
    if unknown := set(moves) - set(MOVES):
        raise DataError(f"films: there is no move {min(unknown)!r}; the moves are {', '.join(MOVES)}")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(images), (batch, count))
    move = np.array([MOVES.index(name) for name in moves])[rng.integers(0, len(moves), (batch, count))]
    start, speed = rng.integers(0, size, (batch, count, 2)), rng.integers(1, 3, (batch, count, 1))
    phase = rng.integers(0, ROUND, (batch, count))
    place = np.stack([start + _gone(move, speed, phase, t) for t in range(time)])
    frames = np.zeros((time, batch, size, size), np.float32)
    for each in range(count):
        _draw(frames, images[chosen[:, each]], place[:, :, each] % size)
    return Films(frames, np.asarray(labels, np.int32)[chosen], move.astype(np.int32))


def _gone(move: np.ndarray, speed: np.ndarray, phase: np.ndarray, t: int) -> np.ndarray:
    """How far everything has gone after t frames, rows and columns ``[B, count, 2]``."""
    straight = np.array([STRAIGHT.get(name, (0, 0)) for name in MOVES])[move] * speed * t
    turn = np.array([{"clockwise": 1, "anticlockwise": -1}.get(name, 0) for name in MOVES])[move]
    angle = 2 * np.pi * (phase + turn * t) / ROUND
    circle = np.rint(RADIUS * np.stack([np.sin(angle), np.cos(angle)], -1)).astype(int)  # rows grow downwards
    return straight + circle * np.abs(turn)[..., None]


def _draw(frames: np.ndarray, images: np.ndarray, place: np.ndarray) -> None:
    """Pictures ``[B, h, w]`` into frames at ``place [T, B, 2]``, round the borders."""
    (time, batch, size, _), (h, w) = frames.shape, images.shape[1:]
    rows = (place[..., 0, None] + np.arange(h)) % size
    columns = (place[..., 1, None] + np.arange(w)) % size
    at = np.arange(time)[:, None, None, None], np.arange(batch)[:, None, None], rows[..., None], columns[..., None, :]
    frames[at] = np.maximum(frames[at], images)


def caption(labels: Sequence[int], moves: Sequence[int]) -> str:
    """What is said of a film: the smaller digit first; a verb is not said twice.

    >>> caption([7, 3], [MOVES.index("up"), MOVES.index("left")])
    'a three moves left , a seven up'
    >>> caption([7, 3], [MOVES.index("still"), MOVES.index("clockwise")])
    'a three turns clockwise , a seven stands still'
    """
    said, before = [], ""
    for label, move in sorted(zip(labels, moves)):
        verb = VERBS.get(MOVES[move], "moves")
        said.append(" ".join(["a", NUMBERS[label], *([] if verb == before else [verb]), MOVES[move]]))
        before = verb
    return " , ".join(said)


VERBS = {"still": "stands", "clockwise": "turns", "anticlockwise": "turns"}

"""Sequences of many lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


def pad(
    sequences: Sequence[Any], time: int | None = None, *, multiple: int = 1, value: Any = 0, cut: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """``(padded [T, B, ...], lengths [B])``: sequences ``[t, ...]`` side by side, ``value`` after their ends.

    time: T; None is that of the longest, rounded up to a ``multiple``, so that few shapes are compiled. Dtypes are kept.
    cut: longer ones lose their end.
    Raises: DataError for no sequences, steps of different shapes, and one longer than ``time``.

    >>> padded, lengths = pad([np.array([1, 2, 3]), np.array([4])], multiple=4)
    >>> padded.T.tolist(), lengths.tolist()
    ([[1, 2, 3, 0], [4, 0, 0, 0]], [3, 1])
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays or any(a.ndim == 0 or a.shape[1:] != arrays[0].shape[1:] for a in arrays):
        raise DataError(
            f"pad: needs one or more sequences [t, ...] alike but for t, got {sorted({a.shape for a in arrays})}"
        )
    if cut and time is not None:
        arrays = [a[:time] for a in arrays]
    lengths = np.array([len(a) for a in arrays], np.int32)
    longest = int(lengths.max())
    time = max(-(-longest // multiple) * multiple, multiple) if time is None else time
    if longest > time:
        raise DataError(f"pad: a sequence of {longest} steps does not fit into time={time}; raise it, or cut=True")
    padded = np.full((time, len(arrays), *arrays[0].shape[1:]), value, np.result_type(*arrays))
    for b, a in enumerate(arrays):
        padded[: len(a), b] = a
    return padded, lengths

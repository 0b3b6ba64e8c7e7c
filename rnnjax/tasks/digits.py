"""Pictures of digits for films: scikit-learn's, in splits."""

from __future__ import annotations

import numpy as np

from rnnjax.data import sets
from rnnjax.tasks.floors import MISSING


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Written digits, ``[N, 8, 8]`` in 0..1, and which they are ``[N]``; eight tenths, a tenth and a tenth by a hash of each.

    They come with scikit-learn (1,797 of Alpaydin and Kaynak 1998, UCI). Raises: ImportError where it is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(MISSING.replace("the floor of this task", "the digits of this task")) from None
    found = load_digits()
    pairs = list(zip(found.images.astype(np.float32) / 16, found.target.tolist()))
    images, labels = zip(*sets.split_of(pairs, split, sets.of_array))
    return np.stack(images), np.array(labels, np.int32)

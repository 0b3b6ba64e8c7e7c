"""Predictors without recurrence, which a network has to beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Part = tuple[Any, Any]  # what is given, and the answers
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
MISSING = 'the floor of this task needs scikit-learn; pip install "rnnjax[data]"'


def majority(train: Sequence[Hashable], test: Sequence[Hashable]) -> float:
    """Accuracy of always giving the most frequent answer of the training part.

    >>> majority("aab", "ab")
    0.5
    """
    (most, _), *_ = Counter(train).most_common(1)
    return float(np.mean([answer == most for answer in test]))


def logistic(train: Part, valid: Part, test: Part, *, solver: str = "lbfgs") -> float:
    """Test accuracy of a logistic regression on features ``[N, F]``; its strength is chosen on valid.

    solver: as scikit-learn calls it; "liblinear" is the fast one for words and two answers.

    Raises: ImportError where scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        raise ImportError(MISSING) from None
    with threadpool_limits(
        1
    ):  # its many small products wait for each other's threads where a machine is busy: minutes for seconds
        fits = [LogisticRegression(C=strength, max_iter=2000, solver=solver).fit(*train) for strength in STRENGTHS]
        return float(max(fits, key=lambda fitted: fitted.score(*valid)).score(*test))


def word_regression(train: Part, valid: Part, test: Part) -> float:
    """`logistic` on how much each word, and each pair of neighbours, stands out in a text (TF-IDF)."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise ImportError(MISSING) from None
    weigh = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit(train[0])
    return logistic(*((weigh.transform(texts), answers) for texts, answers in (train, valid, test)), solver="liblinear")

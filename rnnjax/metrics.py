"""What papers report of text: perplexity, BLEU, chrF, word and character error rates.

The scores of texts are those of the libraries that the field cites, sacrebleu and jiwer, so that they compare with published
numbers; both come with the extra ``metrics``. Higher is better for BLEU and chrF, lower for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.losses import over_time

MISSING = '{owner} is computed by {library}, which is not installed; pip install "rnnjax[metrics]"'


def perplexity(nats: Any, *, mask: Any = None) -> jax.Array:
    """``exp(mean of -log p(token))``: among how many equally likely tokens the model is undecided.

    nats: the losses of all steps ``[T, *B]``, as `rnnjax.losses.softmax_cross_entropy` gives them without smoothing, or their mean.
    mask: ``[T, *B]``, the steps that count.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> logits, labels = jnp.zeros((3, 2, 8)), jnp.ones((3, 2), int)
    >>> round(float(rj.metrics.perplexity(rj.losses.softmax_cross_entropy(logits, labels))), 3)
    8.0
    """
    return jnp.exp(over_time(jnp.asarray(nats), mask))


def bleu(texts: Sequence[str], references: Sequence[Any], **options: Any) -> float:
    """BLEU of a corpus, 0 to 100 (Papineni et al. 2002), by sacrebleu (Post 2018, arXiv:1804.08771).

    texts: what the model wrote, detokenised. references: for each text a str, or several of them.
    options: those of ``sacrebleu.metrics.BLEU``, ``tokenize="13a"`` and ``lowercase=False`` unless told.
    Errors: ImportError saying what to install; TypeError/ValueError for texts and references that do not pair up.

    >>> import rnnjax as rj
    >>> round(rj.metrics.bleu(["the cat sat on the mat"], ["the cat sat on the mat"]), 1)  # doctest: +SKIP
    100.0
    """
    return _by_sacrebleu("BLEU", "bleu", texts, references, options)


def chrf(texts: Sequence[str], references: Sequence[Any], **options: Any) -> float:
    """chrF of a corpus, 0 to 100: the F-score of character n-grams (Popovic 2015), by sacrebleu.

    options: those of ``sacrebleu.metrics.CHRF``; ``word_order=2`` is chrF++. The rest as for `bleu`.
    """
    return _by_sacrebleu("CHRF", "chrf", texts, references, options)


def word_error_rate(texts: Sequence[str], references: Sequence[str]) -> float:
    """Words to substitute, delete and insert, over all words of the references; above 1 where many are inserted. By jiwer.

    texts: what the model heard. references: what was said, one a text, none of them empty. Words are what spaces part; case and
    punctuation count. Errors: ImportError saying what to install; TypeError/ValueError for what does not pair up.
    """
    return _by_jiwer("wer", "word_error_rate", texts, references)


def character_error_rate(texts: Sequence[str], references: Sequence[str]) -> float:
    """The same of characters, spaces among them; see `word_error_rate`."""
    return _by_jiwer("cer", "character_error_rate", texts, references)


def _by_sacrebleu(kind: str, owner: str, texts: Any, references: Any, options: dict[str, Any]) -> float:
    several = [[r] if isinstance(r, str) else list(r) for r in _sequence(owner, "references", references)]
    texts = _texts(owner, "texts", texts, len(several))
    for row in several:
        _texts(owner, "references", row, None)
    score = getattr(_sacrebleu(owner), kind)(**options)
    most = max(map(len, several), default=0)
    streams = [[row[n] if n < len(row) else None for row in several] for n in range(most)]
    return float(score.corpus_score(texts, streams).score)


def _by_jiwer(kind: str, owner: str, texts: Any, references: Any) -> float:
    references = _texts(owner, "references", references, None)
    texts = _texts(owner, "texts", texts, len(references))
    if not all(r.strip() for r in references):
        raise ValueError(
            f"{owner}: references must not be empty, an error rate of no words is not defined; leave that text out"
        )
    return float(getattr(_jiwer(owner), kind)(references, texts))


def _sacrebleu(owner: str) -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise ImportError(MISSING.format(owner=owner, library="sacrebleu")) from None
    return sacrebleu.metrics


def _jiwer(owner: str) -> Any:
    try:
        import jiwer
    except ImportError:
        raise ImportError(MISSING.format(owner=owner, library="jiwer")) from None
    return jiwer


def _sequence(owner: str, name: str, values: Any) -> list[Any]:
    if isinstance(values, str):
        raise TypeError(f"{owner}: {name} must be a list of texts, got one str; write [{values[:20]!r}]")
    values = list(values)
    if not values:
        raise ValueError(f"{owner}: {name} is empty; there is no score of nothing")
    return values


def _texts(owner: str, name: str, values: Any, count: int | None) -> list[str]:
    values = _sequence(owner, name, values)
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{owner}: {name} must be str, got {type(value).__name__}; decode tokens first")
    if count is not None and len(values) != count:
        raise ValueError(f"{owner}: there must be one text for each reference, got {len(values)} for {count}")
    return values

"""Metrics of texts against their definitions, worked out by hand; what to install where a library is away."""

import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj


def test_perplexity_is_the_exponential_of_the_mean_over_what_counts():
    p = np.array([[0.5, 0.25], [0.125, 1e-9]], np.float32)
    got = rj.metrics.perplexity(-np.log(p), mask=np.array([[True, True], [True, False]]))
    np.testing.assert_allclose(got, (0.5 * 0.25 * 0.125) ** (-1 / 3), rtol=1e-5)
    np.testing.assert_allclose(rj.metrics.perplexity(jnp.log(7.0)), 7, rtol=1e-5)


def test_bleu_is_its_formula():
    """Six words against seven: 5 of 6 words, 3 of 5 pairs, 1 of 4 triples and 1 of 2 * 3 quadruples (none found, smoothed)."""
    pytest.importorskip("sacrebleu")
    text, reference = "the cat sat on the mat", "the cat is on the mat today"
    precisions = [5 / 6, 3 / 5, 1 / 4, 1 / (2 * 3)]
    want = 100 * math.exp(1 - 7 / 6) * math.prod(precisions) ** (1 / 4)
    assert abs(rj.metrics.bleu([text], [reference]) - want) < 1e-4
    assert abs(rj.metrics.bleu([text], [[reference, text]]) - 100) < 1e-4  # the best of several references
    assert rj.metrics.bleu([text.upper()], [text]) < 1 < rj.metrics.bleu([text.upper()], [text], lowercase=True)


def test_chrf_is_the_f_score_of_character_ngrams():
    """ "abcd" against "abce", up to pairs: precision and recall 3/4 and 2/3 alike."""
    pytest.importorskip("sacrebleu")
    assert abs(rj.metrics.chrf(["abcd"], ["abce"], char_order=2) - 100 * (3 / 4 + 2 / 3) / 2) < 1e-4
    assert rj.metrics.chrf(["abcd"], ["abcd"]) == 100


def test_error_rates_are_edits_over_the_length_of_the_references():
    """One word for another, one left out, one too many: 3 of 8 words; of characters, 1 + 4 + 2 of 30."""
    pytest.importorskip("jiwer")
    said = ["the cat sat on the mat", "good day"]
    heard = ["the bat sat on mat", "good day a"]
    assert abs(rj.metrics.word_error_rate(heard, said) - 3 / 8) < 1e-6
    assert abs(rj.metrics.character_error_rate(heard, said) - 7 / 30) < 1e-6
    assert rj.metrics.word_error_rate(said, said) == 0


def test_bad_input(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "jiwer", None)
    for error, message, call in [
        (ImportError, r'bleu is computed by sacrebleu.*"rnnjax\[metrics\]"', lambda: rj.metrics.bleu(["a"], ["a"])),
        (ImportError, "chrf is computed by sacrebleu", lambda: rj.metrics.chrf(["a"], ["a"])),
        (ImportError, r'rate is computed by jiwer.*"rnnjax\[', lambda: rj.metrics.word_error_rate(["a"], ["a"])),
        (TypeError, "texts must be a list of texts, got one str", lambda: rj.metrics.bleu("a", ["a"])),
        (TypeError, "references must be str, got int", lambda: rj.metrics.bleu(["a"], [[3]])),
        (ValueError, "one text for each reference, got 1 for 2", lambda: rj.metrics.bleu(["a"], ["a", "b"])),
        (ValueError, "texts is empty|references is empty", lambda: rj.metrics.chrf([], [])),
        (ValueError, "references must not be empty", lambda: rj.metrics.character_error_rate(["a"], [" "])),
    ]:
        with pytest.raises(error, match=message):
            call()

"""The language model of words: its text stands once, its noise is of training alone, and a few steps bring it down."""

import jax
import numpy as np
import pytest

from rnnjax.tasks import Setting, run, words


def test_a_paragraph_stands_on_one_side():
    text = words.documentation()
    parts = text.split("\n\n")
    assert len(parts) == len(set(parts)) > 1000
    tokens, vocabulary = words.read(text)
    sizes = [len(tokens[split]) for split in ("train", "valid", "test")]
    np.testing.assert_allclose(np.array(sizes) / sum(sizes), [0.8, 0.1, 0.1], atol=1e-4)
    whole = np.concatenate([tokens[split] for split in ("train", "valid", "test")])
    said = words.WORD.findall(text)
    assert all(vocabulary[t] in (word, "<unknown>") for t, word in zip(whole, said, strict=True))


@pytest.mark.slow
def test_a_few_steps_and_no_noise_where_it_is_measured():
    problem = words.make(Setting(small=True))
    even = len(problem.params["bias"])
    first = problem.score(problem.params, "valid").value
    assert first == problem.score(problem.params, "valid").value and 0.5 * even < first < 2 * even
    batch = problem.batches(0)
    losses = [float(problem.loss(problem.params, problem.carry, batch, jax.random.key(k))[1]) for k in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    result = run(words.RECIPE, setting=Setting(small=True, steps=40), progress=False)
    assert 1 < result.ours < 0.98 * first and 1 < result.floor < even and len(result.shown.split(" ")) >= 100

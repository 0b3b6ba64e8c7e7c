"""Speech: warping against its recursion, the speaker against itself step by step, rows of prompts, and the splits as they are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.data import DataError, sets
from rnnjax.tasks import Setting, prompts, recognition, run, synthesis
from rnnjax.tasks.prompts import ROW, Prompt
from rnnjax.tasks.speaker import Speaker, forward
from rnnjax.tasks.warping import warped_distance

RNG = np.random.default_rng(0)
TEXTS = ("press one", "please try again", "thank you", "goodbye", "i'm sorry", "the number", "is not valid", "seven")


def made_up(count):
    """Noise as long as its text."""
    texts = [f"{TEXTS[i % 8]} {TEXTS[i // 8]}" for i in range(count)]
    return [Prompt(RNG.normal(size=(10 * len(text), 40)).astype(np.float32), text) for text in texts]


def test_warping_by_its_recursion():
    a, b = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3))
    cost = np.array([[np.sqrt(((x - y) ** 2).mean()) for y in b] for x in a])
    best = np.full((8, 6), np.inf)
    best[0, 0] = 0
    for i in range(7):
        for j in range(5):
            best[i + 1, j + 1] = cost[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    assert warped_distance(a, b) == pytest.approx(best[7, 5] / 5)
    slower = np.repeat(b, [1, 3, 1, 2, 1], axis=0)
    assert warped_distance(slower, b) == pytest.approx(0, abs=1e-7)
    still = np.tile(a[:1], (5, 1))  # a frame that stays: the mean over the recorded ones
    assert warped_distance(still, b) == pytest.approx(np.sqrt(((a[:1] - b) ** 2).mean(1)).mean())


def test_evenly_spread_letters_find_a_law_of_letters():
    """Frames that are a linear map of the letter at hand are found to the ridge's shrinking; other texts too."""
    law = RNG.normal(size=(29, 40)).astype(np.float32)
    data = {"train": made_up(40), "valid": made_up(3), "test": made_up(9)}
    spread = lambda text: np.repeat(prompts.places(text), 3)
    data = {split: [Prompt(law[spread(p.words)], p.words) for p in part] for split, part in data.items()}
    found = synthesis.evenly(data, (1e-3, 1e9))
    assert synthesis.distance(found) < 0.01 * synthesis.DECIBELS


def test_rows_of_prompts_fit():
    some = made_up(64)
    rng = np.random.default_rng(1)
    rows = [recognition.strung(rng, some) for _ in range(50)]
    assert max(len(row.frames) for row in rows) <= ROW[0] and max(len(row.words) for row in rows) <= ROW[1]
    assert np.mean([len(row.frames) for row in rows]) > 0.6 * ROW[0]  # little of a row is padding
    texts = [[p.words for p in prompts.drawn(rng, some)] for _ in range(100)]
    assert all(len(set(row)) == len(row) for row in texts) and len({text for row in texts for text in row}) == 64


def test_words_right_among_known_and_new_ones():
    pytest.importorskip("jiwer")
    parts = recognition.by_word(["press won", "the key"], ["press one", "the pound key"], {"press", "the", "one"})
    assert parts["words right, of those in training"] == 2 / 3 and parts["words right, of new ones"] == 1 / 2
    assert parts["share of words that are new"] == 2 / 5


def test_attention_sums_over_all_paths_that_stay_or_move_on():
    """Every path of five steps, each to stay or to move on; none beyond the last letter."""
    moves, scores = RNG.uniform(0.2, 0.8, 5), 3 * RNG.normal(size=(5, 6))
    valid = np.arange(6) < 4
    attention = jnp.zeros((1, 6)).at[0, 0].set(1)
    for move, score in zip(moves, scores):
        attention = forward(attention, jnp.array([move]), jnp.array(score)[None], jnp.array(valid)[None])
    total = np.zeros(6)
    for path in itertools.product([0, 1], repeat=5):
        places = np.cumsum(path)
        if valid[places].all():
            shares = np.where(path, moves, 1 - moves) * np.exp(4 * np.tanh(scores[range(5), places] / 4))
            total[places[-1]] += shares.prod()
    np.testing.assert_allclose(attention[0], total / total.sum(), atol=1e-6)


@pytest.mark.slow
def test_speaking_is_following_what_was_said(key):
    """Free running and teacher forcing on its own frames are one; letters beyond the end change nothing; attention is on letters."""
    model = Speaker(30, 8, hidden=6, reader=5, prenet=4)
    params = jax.tree.map(lambda a: 2 * a, model.init(key))
    letters, lengths = jnp.asarray(RNG.integers(1, 30, (7, 2)), jnp.int32), jnp.array([7, 4])
    speak = jax.jit(lambda letters: model.speak(params, letters, lengths, 9))
    follow = jax.jit(lambda frames, key=None: model.follow(params, letters, lengths, frames, key))
    said = speak(letters)
    followed = follow(said.frames)
    for a, b in zip(said, followed):
        np.testing.assert_allclose(a, b, atol=1e-5)
    junk = speak(letters.at[4:, 1].set(3))
    np.testing.assert_array_equal(junk.frames, said.frames)
    np.testing.assert_allclose(said.attention.sum(-1), 1, atol=1e-6)
    assert (said.attention[:, 1, 4:] == 0).all() and said.attention[0, 0, 2:].max() == 0  # one letter a step at most
    noisy = [follow(said.frames, k).frames for k in jax.random.split(key)]
    assert (noisy[0] != noisy[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recognition.RECIPE, synthesis.RECIPE], ids=lambda recipe: recipe.name)
def test_recipes_on_made_up_prompts(recipe, tmp_path, monkeypatch):
    """A few steps: every file there, sounds among them, and scores that a count by hand gives."""
    pytest.importorskip("jiwer")
    monkeypatch.setattr(prompts, "prompts", lambda: {split: tuple(made_up(12)) for split in sets.SPLITS})
    result = run(recipe, tmp_path, setting=Setting(small=True), progress=False)
    assert np.isfinite(result.ours) and result.floor == min(result.floors.values()) > 0
    sounds = {"said.wav", "recorded.wav"} if recipe.name == "synthesis" else set()
    assert {"result.json", "metrics.jsonl", *sounds} <= {entry.name for entry in tmp_path.iterdir()}
    assert all((tmp_path / name).read_bytes().startswith(b"RIFF") for name in sounds)


@pytest.mark.slow
def test_no_text_stands_on_two_sides():
    """Needs the packages, kept or on the mirror: counts, words and seconds as the recipes tell them."""
    try:
        found, scale = prompts.splits()
    except DataError as error:
        pytest.skip(str(error))
    texts = {split: {prompt.words for prompt in part} for split, part in found.items()}
    assert not texts["train"] & texts["valid"] and not (texts["train"] | texts["valid"]) & texts["test"]
    assert {split: len(part) for split, part in found.items()} == {"train": 396, "valid": 55, "test": 54}
    assert set("".join(set().union(*texts.values()))) <= set(prompts.LETTERS)
    assert all(len(p.frames) <= ROW[0] and len(p.words) < ROW[1] for part in found.values() for p in part)
    frames = np.concatenate([prompt.frames for prompt in scale(found["train"])])
    np.testing.assert_allclose([frames.mean(), frames.std()], [0, 1], atol=1e-3)

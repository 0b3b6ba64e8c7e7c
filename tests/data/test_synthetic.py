"""What is made on the fly, each against a solver of its own; padding and batches."""

import re

import numpy as np
import pytest

import rnnjax as rj
from rnnjax.data import DataError, batches, pad, sets, synthetic


def by_python(name, string):
    """The answer by the definition, with Python's own arithmetic."""
    text = "".join("01234+-*"[i] for i in string)
    return {
        "parity": lambda: text.count("1") % 2,
        "even_pairs": lambda: int(sum(a != b for a, b in zip(text, text[1:])) % 2 == 0),
        "modular_arithmetic": lambda: eval(text) % 5,
        "cycle_navigation": lambda: sum({0: 0, 1: 1, 2: -1}[i] for i in string) % 5,
        "reverse_string": lambda: list(string[::-1]),
    }[name]()


@pytest.mark.parametrize("name", synthetic.LANGUAGES)
def test_languages(name):
    drawn, language = synthetic.strings(name, [0, 1], 300, 12), synthetic.LANGUAGES[name]
    for tokens, targets, n in zip(drawn.tokens.T, drawn.targets.T, drawn.lengths):
        asked = targets[targets >= 0].tolist()
        assert asked == by_python(name, tokens[:n]) if language.spelled else asked == [by_python(name, tokens[:n])]
        last = 2 * n - 1 if language.spelled else n - 1
        assert targets[last] >= 0 and (targets[last + 1 :] == -1).all() and (tokens[last + 1 :] == 0).all()
    assert set(drawn.lengths.tolist()) == set(range(1, 13, 2 if name == "modular_arithmetic" else 1))
    answers = drawn.targets[drawn.targets >= 0]
    assert drawn.tokens.max() < language.symbols and set(answers.tolist()) == set(range(language.answers))
    dense = synthetic.strings(name, [0, 1], 300, 12, prefixes=True)
    np.testing.assert_array_equal(dense.tokens, drawn.tokens)
    if not language.spelled:
        ends = [i for i in range(int(drawn.lengths[0])) if name != "modular_arithmetic" or i % 2 == 0]
        assert dense.targets[ends, 0].tolist() == [by_python(name, dense.tokens[: i + 1, 0]) for i in ends]
    again = synthetic.strings(name, [0, 1], 300, 12)
    np.testing.assert_array_equal(again.tokens, drawn.tokens)
    assert (synthetic.strings(name, [0, 2], 300, 12).tokens != drawn.tokens).any()


def where(text):
    return dict(re.findall(r"(\w+) (?:went|walked|ran) to the (\w+)\.", text))


def solve(story):
    """The answers of forms 1, 2, 4, 15 and 18 by reading the text."""
    text, question = story.text.rsplit(". ", 1)
    text += "."
    last = question.rstrip("?").split()[-1]
    if story.form == 1:
        return where(text)[last]
    if story.form == 2:
        place, holder = {}, None
        for sentence in text.split(". "):
            who, act, *_, what = sentence.rstrip(".").split()
            if act in ("took", "left"):
                holder = (who if act == "took" else None) if what == last else holder
            else:
                place[who] = what
            place[last] = place.get(holder, place.get(last))
        return place[last]
    if story.form == 4:
        facts = re.findall(r"the (\w+) is (\w+) of the (\w+)\.", text)
        if found := re.match(r"what is (\w+) of the (\w+)", question):
            return next(a for a, way, b in facts if (way, b) == found.groups())
        a, way = re.match(r"what is the (\w+) (\w+) of", question).groups()
        return next(c for b, w, c in facts if (b, w) == (a, way))
    if story.form == 15:
        who = question.split()[2]
        kind = re.search(rf"{who} is an? (\w+)\.", text)[1]
        one = {"foxes": "fox", "geese": "goose", "hawks": "hawk", "owls": "owl"}
        return next(one[b] for a, b in re.findall(r"(\w+) are afraid of (\w+)\.", text) if one[a] == kind)
    smaller = {tuple(pair) for pair in re.findall(r"the (\w+) fits in the (\w+)\.", text)}
    smaller |= {(a, b) for b, a in re.findall(r"the (\w+) is bigger than the (\w+)\.", text)}
    for _ in range(5):
        smaller |= {(a, d) for a, b in smaller for c, d in smaller if b == c}
    a, b = re.findall(r"the (\w+)", question)
    return "yes" if ((a, b) if question.startswith("does") else (b, a)) in smaller else "no"


def test_stories(monkeypatch):
    told = synthetic.stories(synthetic.FORMS, 200, seed=1)
    assert len(told) == len({story.text for story in told}) == 1200
    for story in told:
        assert story.form == 5 or solve(story) == story.answer, story
    for story in (story for story in told if story.form == 5):
        giver, thing, taker = re.findall(r"(\w+) gave the (\w+) to (\w+)\.", story.text)[-1]
        assert story.answer in (giver, thing, taker) and story.answer not in story.text.rsplit(". ", 1)[1]
    assert told == synthetic.stories(synthetic.FORMS, 200, seed=1)
    with pytest.raises(DataError, match="no form 3; the forms are 1, 2, 4"):
        synthetic.stories([3], 1)
    monkeypatch.setitem(synthetic.FORMS, 4, lambda rng: (f"{rng.integers(3)}?", "x"))
    with pytest.raises(DataError, match="form 4 has hardly 4 different"):
        synthetic.stories([4], 4)


def test_no_story_and_no_sum_is_in_two_splits():
    for examples, group in (
        (synthetic.stories([1, 18], 300), lambda story: story.text),
        (synthetic.sums(0, 2000), lambda pair: pair[0]),
    ):
        parts = [{group(e) for e in sets.split_of(examples, split, group)} for split in sets.SPLITS]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(examples)
        assert 0.05 < len(parts[2]) / len(examples) < 0.15


def test_sums_memory_and_films():
    asked = synthetic.sums(3, 2000, digits=2)
    assert len(dict(asked)) == 2000 and all(eval(q) == int(a) for q, a in asked)
    assert {len(q) for q, _ in asked} == {3, 4, 5}
    with pytest.raises(DataError, match="too many; take at most 25"):
        synthetic.sums(0, 26, digits=1)
    xs, target = synthetic.adding(0, 4000, 30)
    assert (xs[:15, :, 1].sum(0) == 1).all() and (xs[15:, :, 1].sum(0) == 1).all()
    assert abs(np.mean((target - 1) ** 2) - 1 / 6) < 0.015
    tokens, targets = synthetic.copying(0, 3, blanks=7)
    assert tokens.shape == targets.shape == (27, 3) and (targets[:17] == 8).all() and (tokens[16] == 9).all()
    np.testing.assert_array_equal(tokens[:10], targets[17:])
    film = synthetic.moving(np.ones((2, 3, 3)), 0, batch=8, time=20, size=9)
    assert (film.sum((2, 3)) == 9).all()  # never cut by the border
    centre = np.stack([(film * np.arange(9)[:, None]).sum((2, 3)), (film * np.arange(9)).sum((2, 3))], -1) / 9
    assert 0 < np.abs(np.diff(centre, axis=0)).max() <= 3 and (centre.std(0) > 0).any(-1).all()
    with pytest.raises(DataError, match="at most 2 by 2"):
        synthetic.moving(np.ones((1, 3, 3)), 0, 1, 1, size=2)


def test_pad():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 7, 1)]
    padded, lengths = pad(arrays, multiple=4, value=-9.0)
    assert padded.shape == (8, 3, 2) and padded.dtype == np.float32 and lengths.tolist() == [3, 7, 1]
    for b, a in enumerate(arrays):
        np.testing.assert_array_equal(padded[: len(a), b], a)
        assert (padded[len(a) :, b] == -9).all()
    assert pad([[1, 2, 3], [4]], 2, cut=True)[0].T.tolist() == [[1, 2], [4, 0]]
    for wrong, said in [(([[1, 2, 3]], 2), "3 steps does not fit into time=2"), (([],), "one or more sequences")]:
        with pytest.raises(DataError, match=said):
            pad(*wrong)


@pytest.mark.parametrize("count, batch, pool", [(100, 8, 3), (64, 8, 20), (10, 10, 1), (7, 3, 1)])
def test_batches_go_once_through_all_and_can_be_entered_anywhere(count, batch, pool):
    lengths = np.random.default_rng(1).integers(1, 50, count)
    order = batches(lengths, batch, seed=5, pool=pool)
    assert order.lap == count // batch
    laps = [np.concatenate([order(lap * order.lap + i) for i in range(order.lap)]) for lap in range(2)]
    for lap in laps:
        assert len(set(lap.tolist())) == order.lap * batch  # nobody twice
    assert count < 12 or (laps[0] != laps[1]).any()
    late = batches(lengths, batch, seed=5, pool=pool)
    np.testing.assert_array_equal(late(order.lap), laps[1][:batch])
    assert rj.data.batches is batches


def test_batches_hold_like_lengths():
    lengths = np.random.default_rng(1).integers(1, 100, 2000)
    waste = lambda order: np.mean([lengths[order(i)].max() - lengths[order(i)].mean() for i in range(order.lap)])
    assert waste(batches(lengths, 20)) < 0.15 * waste(batches(lengths, 20, pool=1))
    with pytest.raises(DataError, match="batch must be between 1 and the number of examples"):
        batches([1, 2], 3)

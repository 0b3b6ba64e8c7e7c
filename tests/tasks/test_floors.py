"""What recipes have to beat, against fractions worked out by hand and against trying all ways."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from rnnjax.tasks import graphones, ibm, ngrams

THE, HOUSE, BOOK = 1, 2, 3
DAS, HAUS, BUCH = 1, 2, 3
TWO = [(np.array([THE, HOUSE]), np.array([DAS, HAUS])), (np.array([THE, BOOK]), np.array([DAS, BUCH]))]


def by_words(gives):
    return {(e, f): t for e, f, t in zip(gives.e.tolist(), gives.f.tolist(), gives.t.tolist())}


def test_model_1_on_two_sentences_by_hand():
    """Round 1, all even: of each target word a third comes from the, house and nothing. Round 2 from these."""
    once = by_words(ibm.model1(TWO, rounds=1))
    assert once[THE, DAS] == pytest.approx(1 / 2) and once[THE, HAUS] == pytest.approx(1 / 4)
    assert once[HOUSE, DAS] == pytest.approx(1 / 2) and once[HOUSE, HAUS] == pytest.approx(1 / 2)
    gives = ibm.model1(TWO, rounds=2)
    twice = by_words(gives)
    # das: 1/2 : 1/2 : 1/2, a third each; haus: 1/4 from the and from nothing, 1/2 from house
    assert twice[THE, DAS] == pytest.approx((2 / 3) / (7 / 6)) and twice[THE, HAUS] == pytest.approx((1 / 4) / (7 / 6))
    assert twice[HOUSE, HAUS] == pytest.approx((1 / 2) / (5 / 6))
    np.testing.assert_allclose(gives.fertility, [7 / 12, 7 / 12, 5 / 6, 5 / 6])
    assert ibm.best(ibm.model1(TWO, rounds=20)) == {THE: DAS, HOUSE: HAUS, BOOK: BUCH}


def test_model_1_with_dictionaries():
    """The same sums word by word, sentences of many lengths, words twice in one."""
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(1, 5, rng.integers(1, 5)), rng.integers(1, 6, rng.integers(1, 6))) for _ in range(12)]
    t = defaultdict(lambda: 1.0)
    for _ in range(4):
        often, total = defaultdict(float), defaultdict(float)
        for e, f in pairs:
            for word in f.tolist():
                all_of_it = sum(t[x, word] for x in [0, *e.tolist()])
                for x in [0, *e.tolist()]:
                    often[x, word] += t[x, word] / all_of_it
                    total[x] += t[x, word] / all_of_it
        t = {key: n / total[key[0]] for key, n in often.items()}
    found = by_words(ibm.model1(pairs, rounds=4))
    assert found.keys() == t.keys()
    np.testing.assert_allclose([found[key] for key in t], list(t.values()), rtol=1e-9)


def test_word_for_word_leaves_out_what_gives_little_and_what_is_new_as_it_is():
    pairs = [(["oh", "a", "cat"], ["gato"]), (["oh", "a", "dog"], ["perro"]), (["cat"], ["gato"]), (["dog"], ["perro"])]
    assert ibm.word_for_word(pairs, [["cat", "xyz", "dog"]]) == [["gato", "xyz", "perro"]]
    assert ibm.word_for_word(pairs, [["oh", "a", "dog"]], least=0.4) == [["perro"]]


def ways(letters, phones):
    """All pairs of letters with 0 to 2 phones in a row."""
    if not letters:
        return [[]] if not phones else []
    return [
        [(letters[0], phones[:n]), *rest]
        for n in range(min(2, len(phones)) + 1)
        for rest in ways(letters[1:], phones[n:])
    ]


WORDS = [
    ("ax", ("A", "K", "S")),
    ("ha", ("A",)),
    ("xa", ("S", "A")),
    ("hah", ("H", "A")),
    ("a", ("A",)),
    ("axx", ("A", "K", "S")),
]


@pytest.mark.parametrize("rounds", [1, 4])
def test_the_aligner_against_all_ways(rounds):
    p = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        often, total = defaultdict(float), defaultdict(float)
        for word, said in WORDS:
            weights = [math.prod(p[pair] for pair in way) for way in ways(word, said)]
            for way, weight in zip(ways(word, said), weights):
                for pair in way:
                    often[pair] += weight / sum(weights)
                    total[pair[0]] += weight / sum(weights)
        p = defaultdict(float, {pair: n / total[pair[0]] for pair, n in often.items()})
    aligned = graphones.align(WORDS, rounds)
    by_length = sorted(WORDS, key=lambda pair: len(pair[0]))
    assert ["".join(letter for letter, _ in way) for way in aligned] == [word for word, _ in by_length]
    for way, (word, said) in zip(aligned, by_length):
        probabilities = [math.prod(p[pair] for pair in other) for other in ways(word, said)]
        assert math.prod(p[pair] for pair in way) == pytest.approx(max(probabilities), rel=1e-9)
    if rounds > 1:
        assert aligned[1] == [("a", ("A",)), ("x", ("K", "S"))]


def test_words_that_say_more_than_their_letters_can_are_left_out():
    assert graphones.align([("a", ("A", "B", "C")), ("a", ("A",))]) == [[("a", ("A",))]]


def test_ngrams_by_hand():
    """Kneser and Ney's formula with dictionaries, symbol by symbol; all probabilities of a context sum to one."""
    rng = np.random.default_rng(1)
    symbols, order = 5, 3
    sequences = [rng.integers(2, symbols, rng.integers(1, 7)) for _ in range(25)]
    begun = [[0] * (order - 1) + s.tolist() + [1] for s in sequences]
    grams = lambda k: [tuple(s[i - k + 1 : i + 1]) for s in begun for i in range(order - 1, len(s))]
    counts = {}
    for k in range(1, order + 1):
        raw, kinds = grams(k), set(grams(k + 1)) if k < order else set()
        counts[k] = {
            g: raw.count(g) if k == order or g[0] == 0 else len({long[0] for long in kinds if long[1:] == g})
            for g in set(raw)
        }

    def probability(history, symbol):
        k = len(history) + 1
        lower = probability(history[1:], symbol) if history else 1 / symbols
        follow = {g[-1]: n for g, n in counts[k].items() if g[:-1] == history}
        if not follow:
            return lower
        n1, n2 = (list(counts[k].values()).count(n) for n in (1, 2))
        discount = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        return (max(follow.get(symbol, 0) - discount, 0) + discount * len(follow) * lower) / sum(follow.values())

    model = ngrams.NGrams.of(sequences, symbols, order)
    histories = list(itertools.product(range(symbols), repeat=order - 1))
    asked = np.array([[(a * symbols + b) * symbols + s for s in range(symbols)] for a, b in histories])
    found = model.probability(asked)
    np.testing.assert_allclose(found, [[probability(h, s) for s in range(symbols)] for h in histories], rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-9)
    with pytest.raises(ValueError, match="grams must fit in 63 bits"):
        ngrams.NGrams.of(sequences, 1000, 7)


def test_a_wide_beam_finds_the_best_pairs_of_all():
    """Every choice of pairs of a word, scored symbol by symbol."""
    aligned = graphones.align(WORDS * 3)
    model = graphones.Graphones.of(aligned, order=3)
    size = model.model.symbols

    def log_p(symbols):
        whole = [0, 0, *symbols, 1]
        return sum(
            math.log(model.model.probability(np.array([(whole[i - 2] * size + whole[i - 1]) * size + whole[i]]))[0])
            for i in range(2, len(whole))
        )

    for word in ("ax", "haxa", "xh"):
        choices = [[s for s in model.choices[graphones.LETTERS.index(letter)] if s >= 0] for letter in word]
        best = max(itertools.product(*choices), key=log_p)
        want = tuple(phone for symbol in best for phone in model.pairs[symbol - 2][1])
        assert model.speak([word, "a"], beams=100)[0] == want

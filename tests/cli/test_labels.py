"""Labelled sequences by the command: texts and numbers, what is said beside the accuracy, measuring and predicting again."""

import csv
import io
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli.command import fails, valid_lines

from rnnjax.cli import main
from rnnjax.cli.labels import Scale, confusion, naive_bayes, scores
from rnnjax.cli.load import load
from rnnjax.data.labelled import set_apart
from rnnjax.data.words import Words

GOOD, BAD = "good great fine lovely superb".split(), "bad awful poor dull boring".split()
FILL = "the a film plot was and of it really very".split()
SMALL = ["--hidden", "8", "--validate-every", "20", "--rate", "0.02", "--dropout", "0.1"]


def reviews(count, seed=0):
    """Texts of which one word says the mood."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        mood = "pos" if rng.random() < 0.6 else "neg"
        words = list(rng.choice(FILL, rng.integers(3, 12)))
        words.insert(int(rng.integers(len(words))), str(rng.choice(GOOD if mood == "pos" else BAD)))
        rows.append((" ".join(words), mood))
    return rows


def write(path, header, rows, **how):
    with open(path, "w", newline="") as file:
        csv.writer(file, **how).writerows([header, *rows])
    return path


def train(path, out, *flags):
    return main(["train", "--data", str(path), "--out", str(out), *SMALL, *map(str, flags)])


@pytest.fixture(scope="module")
def moods(tmp_path_factory):
    """A run on texts and what it said; the data have a line break in a text, a blank label, a hash sign in front."""
    folder = tmp_path_factory.mktemp("moods")
    rows = [(i, *row) for i, row in enumerate(reviews(200))]
    rows[3] = (3, "# one\n\nawful, film", "neg")
    rows += [(200, "the plot was", ""), (201, " ", "pos")]
    path = write(folder / "reviews.csv", ["id", "review", "mood"], rows)
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        said = io.StringIO()
        patch.setattr("sys.stdout", said)
        assert train(path, out, "--text", "review", "--label", "mood", "--steps", 80) == 0
    return path, out, said.getvalue(), rows


def test_texts_are_told_apart_and_everything_is_said(moods):
    path, out, said, rows = moods
    known = [row for row in rows if row[2] and row[1].strip()]
    counts = [sum(row[2] == mood for row in known) for mood in ("neg", "pos")]
    assert said.startswith(
        f"200 texts by words, 20 known, in 2 classes: {counts[0]} neg, {counts[1]} pos, left out: id\n"
    )
    assert "2 left out, having no label or nothing in them" in said
    held = [round(0.1 * n) for n in counts]
    assert f"accuracy on {sum(held)} sequences held out (higher is better)" in said
    assert re.search(rf"majority class \(pos\) +{held[1] / sum(held):.4f}", said)
    assert max(line["accuracy"] for line in valid_lines(out)) > 0.85
    table = re.search(r"is \\ said +neg +pos\n +neg +(\d+) +(\d+)\n +pos +(\d+) +(\d+)", said)
    a, b, c, d = map(int, table.groups())
    assert [a + b, c + d] == held
    assert f"{(a + d) / sum(held):.4f}" in said and f"rnnjax predict {out} FILE" in said
    pytest.importorskip("matplotlib")
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_eval_and_predict_agree_with_the_run(moods, tmp_path, capsys):
    """The labels that `predict` writes, counted here against those of the file, are the accuracy that `eval` says."""
    path, out, *_ = moods
    capsys.readouterr()
    assert main(["eval", str(out)]) == 0
    said = capsys.readouterr().out
    measured = float(said.split()[1])
    best = min(valid_lines(out), key=lambda line: line["loss"])
    assert measured == best["accuracy"] and f"recorded in training: {measured!r} at step {best['step']}" in said
    fresh = reviews(50, seed=1)
    other = write(tmp_path / "other.csv", ["mood", "review"], [row[::-1] for row in fresh], delimiter=";")
    assert main(["eval", str(out), "--data", str(other)]) == 0
    accuracy = float(capsys.readouterr().out.split()[1])
    unlabelled = write(tmp_path / "more.csv", ["review", "n"], [(row[0], i) for i, row in enumerate(fresh)])
    assert main(["predict", str(out), str(unlabelled)]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["review"] for row in found] == [row[0] for row in fresh]
    right = [row["predicted"] == mood for row, (_, mood) in zip(found, fresh)]
    assert accuracy == np.mean(right) > 0.85
    assert all(0.5 <= float(row["probability"]) <= 1 for row in found)


def test_a_run_whose_best_was_not_the_last_says_the_number_of_the_best(tmp_path, capsys):
    """Classes at random: soon nothing gets better, and the line of the best is repeated at the end."""
    rng = np.random.default_rng(0)
    rows = [(row[0], str(rng.choice(["a", "b"]))) for row in reviews(60)]
    path, out = write(tmp_path / "r.csv", ["t", "y"], rows), tmp_path / "run"
    flags = ["--text", "t", "--label", "y", "--steps", 60, "--held-out", 0.3, "--validate-every", 5, "--patience", 2]
    assert train(path, out, *flags) == 0
    said, lines = capsys.readouterr().out, valid_lines(out)
    best = min(lines, key=lambda line: line["loss"])
    assert lines[-1].get("kept") and lines[-1]["step"] == best["step"] < lines[-2]["step"]
    assert re.search(rf"this network \(step {best['step']}\) +{best['accuracy']:.4f}", said)
    assert main(["eval", str(out)]) == 0
    assert f"recorded in training: {best['accuracy']!r} at step {best['step']}" in capsys.readouterr().out


def test_the_held_out_part_is_that_of_each_class_and_repeats_stay_together():
    rng = np.random.default_rng(0)
    texts = [f"text {n}" for n in rng.integers(0, 150, 400)]
    labels = ["a" if rng.random() < 0.8 else "b" for _ in texts]
    held = set_apart(texts, labels, 0.2)
    for label in "ab":
        mine = {(text, bool(out)) for text, out, other in zip(texts, held, labels) if other == label}
        assert len(mine) == len({text for text, _ in mine})  # none is on both sides
        assert 0.1 < np.mean([out for out, other in zip(held, labels) if other == label]) <= 0.2
    again = rng.permutation(len(texts))
    np.testing.assert_array_equal(set_apart([texts[i] for i in again], [labels[i] for i in again], 0.2), held[again])


def test_texts_that_are_repeated_more_often_than_the_share_are_held_out_one_whole():
    texts, labels = [f"{label} {i % 3}" for i in range(30) for label in "ab"], list("ab") * 30
    held = set_apart(texts, labels, 0.1)
    out = {text for text, apart in zip(texts, held) if apart}
    assert sorted(text[0] for text in out) == ["a", "b"] and held.sum() == 20  # one of three, all ten of it
    assert not set_apart(["one"] * 20, ["a"] * 20, 0.1).any()


def steps_of(count=40):
    """Sequences in long format: the class is whether x, which has gaps, rises."""
    rng, rows = np.random.default_rng(0), []
    for i in range(count):
        rise = rng.choice([-1, 1])
        length = rng.integers(4, 12)
        for t in range(length):
            x = "" if rng.random() < 0.1 else f"{rise * t + 0.1 * rng.normal():.3f}"
            rows.append((f"s{i}", x, f"{1e6 * rng.normal():.1f}", "site", "up" if rise > 0 else "down"))
    return rows


def test_numbers_in_long_format(tmp_path, capsys):
    rows = steps_of()
    rows = [row for row in rows if int(row[0][1:]) % 2] + [row for row in rows if not int(row[0][1:]) % 2]
    path, out = write(tmp_path / "steps.csv", ["id", "x", "noise", "where", "way"], rows), tmp_path / "run"
    assert train(path, out, "--series", "id", "--label", "way", "--steps", 60, "--held-out", 0.25) == 0
    said = capsys.readouterr().out
    ups = len({row[0] for row in rows if row[4] == "up"})
    assert said.startswith(f"40 sequences of x, noise, in 2 classes: {40 - ups} down, {ups} up, left out: where\n")
    assert max(line["accuracy"] for line in valid_lines(out)) == 1
    assert main(["predict", str(out), str(path)]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in found] == [f"s{i}" for i in (*range(1, 40, 2), *range(0, 40, 2))]
    truth = {row[0]: row[4] for row in rows}
    assert np.mean([row["predicted"] == truth[row["id"]] for row in found]) > 0.9
    assert main(["eval", str(out)]) == 0
    assert "has no column 'noise'; it has id, x" in fails(
        capsys, "predict", out, write(tmp_path / "few.csv", ["id", "x"], [("a", 1.5)])
    )
    assert "tells classes apart and writes nothing" in fails(capsys, "sample", out)
    assert "is written as safetensors only" in fails(capsys, "export", out, "--to", "onnx")


def test_a_network_is_blind_to_padding_and_order_of_the_file(moods):
    """Each text alone, without any padding, against all together."""
    from rnnjax.cli.classifier import logits_of, padded
    from rnnjax.cli.labels import Seen

    loaded = load(moods[1])
    encoded = Seen.of(loaded.memory).encode([row[1] for row in moods[3][:9]] + [""])
    together = logits_of(loaded.cell, encoded, batch=4)(loaded.params)
    for sequence, found in list(zip(encoded, together))[:: len(encoded) - 1]:
        alone = loaded.cell(loaded.params, *padded([sequence], [max(1, len(sequence))]))[0]
        np.testing.assert_allclose(alone, found, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_each_member_is_the_network_alone_and_the_mean_of_their_probabilities_counts(moods):
    """By NumPy from the logits of each, and what its dropout leaves out is not what another's does."""
    from rnnjax.cli.classifier import padded
    from rnnjax.cli.labels import Seen

    loaded = load(moods[1])
    network, words = loaded.cell, Seen.of(loaded.memory).encode([row[1] for row in moods[3][:4]])
    alone, each = replace(network, members=1), lambda i: jax.tree.map(lambda a: a[i], loaded.params)
    batch = padded(words, [max(map(len, words))])
    say = jax.jit(alone)
    logits = np.stack([say(each(i), *batch) for i in range(network.members)]).astype(float)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert network.members == 8 and np.ptp(p, axis=0).min() > 0
    np.testing.assert_allclose(np.exp(network(loaded.params, *batch)), p.mean(0), rtol=1e-5)
    same = jax.tree.map(lambda a: jnp.broadcast_to(a[:1], a.shape), loaded.params)
    noisy = np.asarray(network.each(same, *batch, key=jax.random.key(0)))
    assert all((noisy[i] != noisy[0]).all() for i in range(1, network.members))


def test_scores_and_confusion_by_hand():
    logits, truth = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0]], np.float32), np.array([0, 1, 2])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = scores(logits, truth)
    assert found["accuracy"] == 2 / 3
    np.testing.assert_allclose(found["loss"], -np.log(p[[0, 1, 2], truth]).mean(), rtol=1e-6)
    assert confusion(logits, truth).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_naive_bayes_is_the_textbook_s():
    """Manning, Raghavan and Schuetze 2008, example 13.1: the probabilities of China, whose prior is 3/4 there (smoothed here)."""
    docs = ["Chinese Beijing Chinese", "Chinese Chinese Shanghai", "Chinese Macao", "Tokyo Japan Chinese"]
    words = Words("words", ("chinese", "beijing", "shanghai", "macao", "tokyo", "japan"))
    labels, new = np.array([0, 0, 0, 1]), "Chinese Chinese Chinese Tokyo Japan"
    counts = lambda word, some: sum(doc.split().count(word) for doc in some)
    p = lambda word, some: (counts(word, some) + 1) / (sum(len(d.split()) for d in some) + 7)
    china, other = (np.prod([p(word, some) for word in new.split()]) * (len(some) + 1) for some in (docs[:3], docs[3:]))
    found = naive_bayes(words.encode_all(docs), labels, words.encode_all([new]), len(words), 2)
    assert found.tolist() == [int(other > china)]


def test_the_scale_of_numbers_by_numpy():
    rng = np.random.default_rng(0)
    whole = [rng.normal(3, 50, (n, 2)) for n in (4, 9)]
    whole[0][1, 0] = np.nan
    scale, steps = Scale.of(whole), np.concatenate(whole)
    got = scale.encode(whole[0])
    want = (whole[0] - np.nanmean(steps, 0)) / np.nanstd(steps, 0)
    np.testing.assert_allclose(got[:, :2], np.nan_to_num(want, nan=0.0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[:, 2:], np.isnan(want))
    assert np.isfinite(Scale.of([np.array([[1e302], [9e302]])]).encode(np.array([[5e302]]))).all()


REVIEWS = reviews(40)


@pytest.mark.parametrize(
    ("header", "rows", "flags", "message"),
    [
        ("review,mood", REVIEWS, "--label mood", "--label mood needs the column of the sequences too: --text COLUMN"),
        ("review,mood", REVIEWS, "--text review", "--text review needs --label COLUMN"),
        ("review,mood", REVIEWS, "--text review --series mood --label mood", "--text and --series exclude each other"),
        ("review,mood", REVIEWS, "--text reviw --label mood", "has no column 'reviw'; did you mean 'review'? It has review, mood"),
        ("review,mood", REVIEWS, "--text review --label Mod", "has no column 'Mod'; did you mean 'mood'?"),
        ("review,mood", REVIEWS, "--text review --label xyz", "has no column 'xyz'; it has review, mood"),
        ("review,mood", REVIEWS, "--text review --label review", "--label is 'review', as the column of the sequences"),
        ("review,mood", REVIEWS, "--series review --label mood", "has no numeric column beside 'review'; its columns are"),
        ("review,review", REVIEWS, "--text review --label mood", "has two columns named 'review'"),
        ("review,mood", [(a, "pos") for a, _ in REVIEWS], "--text review --label mood", "column 'mood' has one class, 'pos'"),
        ("review,mood", [(i, b) for i, (_, b) in enumerate(REVIEWS)], "--text review --label mood", "holds numbers ('0'), no text"),
        ("review,mood", [(a, i) for i, (a, _) in enumerate(REVIEWS)], "--text review --label mood", "has 40 classes in 40"),
        ("review,mood", [*REVIEWS, ("x", "y", "z")], "--text review --label mood", "has 3 fields where the first line has 2"),
        ("review,mood", REVIEWS[:9], "--text review --label mood", "is too short: it has 9 labelled sequences, at least 20"),
        ("review,mood", [(a, "") for a, _ in REVIEWS], "--text review --label mood", "it has 0 labelled sequences"),
        ("review,mood", [], "--text review --label mood", "has a header and no rows"),
        ("id,x,y", [("a", 1, "p"), ("a", 2, "q")] * 9, "--series id --label y", "'a' has the labels 'p' and 'q'; a sequence has one"),
        ("id,x,y", [("a", 1, "p"), (" ", 2, "q")], "--series id --label y", "line 3: column 'id' is blank"),
        ("id,x,y", [("a", 1, "p"), ("b", "oops", "q"), *[("b", 2, "q")] * 2], "--series id --label y", "line 3: column 'x' is 'oops'"),
    ],
)  # fmt: skip
def test_bad_labels(header, rows, flags, message, tmp_path, capsys):
    path = tmp_path / "data.csv"
    write(path, header.split(","), rows)
    assert message in fails(capsys, "train", "--data", path, "--out", tmp_path / "run", *flags.split())
    assert not (tmp_path / "run").exists()


def test_bad_use_of_a_run(moods, tmp_path, capsys):
    _, out, *_ = moods
    mixed = write(tmp_path / "m.csv", ["review", "mood"], [("a fine film", "great")])
    assert "the model knows no class 'great' of column 'mood'; it knows neg, pos" in fails(
        capsys, "eval", out, "--data", mixed
    )
    assert "did you mean 'Review'" in fails(
        capsys, "predict", out, write(tmp_path / "c.csv", ["Review"], [("a film",)])
    )
    assert "does not exist" in fails(capsys, "predict", out, tmp_path / "none.csv")
    assert "is a folder" in fails(capsys, "predict", out, tmp_path)
    assert "--label needs --data FILE" in fails(capsys, "train", "--text", "a", "--label", "b")
    (tmp_path / "empty.csv").write_text("")
    assert "is empty" in fails(capsys, "predict", out, tmp_path / "empty.csv")


def test_what_is_read_as_characters_and_as_words():
    assert Words.of(["ACGTACGGT", "ACCCTTTAG"] * 3).unit == "characters"
    words = Words.of(["Don't stop!", "don't  go!"])
    assert words.known == ("!", "don't") and words.encode("GO! Don't").tolist() == [0, 1, 2]
    assert Words.of(["ab", "ba"]).encode("abx").tolist() == [1, 2, 0]


@pytest.mark.slow
def test_an_order_that_counts_do_not_show(tmp_path, capsys):
    """Which of two letters comes first: naive Bayes is at chance, the network finds it, on two devices as on one."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(300):
        word = list(rng.choice(list("cdefgh"), 12))
        i, j = sorted(rng.choice(12, 2, replace=False))
        first = rng.random() < 0.5
        word[i], word[j] = ("a", "b") if first else ("b", "a")
        rows.append(("".join(word), "a" if first else "b"))
    path, out = write(tmp_path / "order.csv", ["word", "first"], rows), tmp_path / "run"
    assert (
        train(
            path,
            out,
            "--text",
            "word",
            "--label",
            "first",
            "--steps",
            400,
            "--hidden",
            16,
            "--members",
            2,
            "--patience",
            99,
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "300 texts by characters" in said
    assert float(re.search(r"naive Bayes of characters +([\d.]+)", said)[1]) < 0.8
    assert max(line["accuracy"] for line in valid_lines(out)) > 0.9


def test_help_names_the_flags_of_labels(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--text COLUMN" in said and "--series COLUMN" in said and "for labels 400" in said

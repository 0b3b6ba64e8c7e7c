"""The runner on a task of a second; recipes on a few steps of little data; what the command says of them."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax as rj
from rnnjax.cli import main
from rnnjax.data import DataError
from rnnjax.tasks import Problem, Recipe, Score, Setting, floors, listing, named, recipes, run
from rnnjax.tasks import __main__ as table
from rnnjax.tasks.markov import markov_bits

NAMES = {"task", "metric", "better", "floor", "ours", "seconds", "beaten"}


def line_task(better="lower", start=0.0, asked=None):
    """Fits the number 3; `asked` collects which split was looked at with which number."""

    def make(setting):
        def score(params, split):
            asked is not None and asked.append((split, float(params)))
            error = abs(float(params) - 3)
            return Score(error if better == "lower" else max(0.0, 1 - error), {"twice": 2 * error})

        loss = lambda params, carry, batch, key: (carry, (params - batch) ** 2)
        guesses = {"zero": lambda: 3.0, "one": lambda: 2.0} if better == "lower" else {"zero": lambda: 0.5}
        return Problem(
            jnp.array(start), loss, [jnp.array(3.0)], score, guesses, optax.sgd(0.3), setting.steps or 20, validations=5
        )

    return Recipe("line", "a number", "distance", better, "a guess", make)


def test_the_runner_measures_the_test_split_once_with_the_best_of_valid(tmp_path):
    asked = []
    result = run(line_task(asked=asked), tmp_path / "run", progress=False)
    assert [split for split, _ in asked] == ["valid"] * 5 + ["test"]
    best = min(asked[:-1], key=lambda row: abs(row[1] - 3))
    assert asked[-1][1] == best[1]
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(found) == NAMES and found == result.summary()
    assert (found["floor"], found["beaten"], found["better"]) == (2.0, True, "lower") and found["ours"] < 1e-3
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("split") == "valid"][:5] == [4, 8, 12, 16, 20]
    assert lines[-1]["split"] == "test" and lines[-1]["floors"] == {"zero": 3.0, "one": 2.0}
    with pytest.raises(FileExistsError):
        run(line_task(), tmp_path / "run", progress=False)


def test_a_floor_that_is_not_beaten_is_said_and_higher_is_better_for_shares():
    worse = run(line_task(start=50.0), setting=Setting(steps=1), progress=False)  # clipped: still far away
    assert not worse.beaten and worse.floor == 2.0 and worse.ours > 40
    share = run(line_task("higher"), progress=False)
    assert share.beaten and share.floor == 0.5 and share.ours > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["addition", "answers", "languages"])
def test_recipes_of_generated_data(name, tmp_path):
    """A few steps of each: every file there, a floor that is a share, and no example on two sides (by the run's own data)."""
    result = run(named(name), tmp_path, setting=Setting(small=True), progress=False)
    assert 0 <= result.ours <= 1 and 0 < result.floor < 1 and result.summary()["task"] == name
    assert {"metrics.jsonl", "result.json", "task.json"} <= {entry.name for entry in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, floor",
    [("sentiment", 0.8184), ("speakers", None), ("shakespeare", None), ("phonemes", None), ("translation", None)],
)
def test_recipes_of_real_data(name, floor):
    """Needs the package, kept or on the index, and what floors and metrics are computed by."""
    for library in ("sklearn", "jiwer", "sacrebleu", "tokenizers"):
        pytest.importorskip(library)
    try:
        result = run(named(name), setting=Setting(small=True), progress=False)
    except DataError as error:
        pytest.skip(str(error))
    best = (max if named(name).better == "higher" else min)(result.floors.values())
    assert np.isfinite(result.ours) and result.floor == best
    assert floor is None or abs(result.floor - floor) < 0.01


def test_majority():
    assert floors.majority("aabb" + "a", "abc") == 1 / 3


def test_names(capsys):
    with pytest.raises(DataError, match="no task 'adition'; did you mean 'addition'"):
        named("adition")
    with pytest.raises(DataError, match="the tasks are actions, addition, "):
        named("xyzzy")
    assert rj.tasks.named("answers") is recipes()["answers"]
    assert main(["train", "--task", "Sentimnet"]) == 2
    assert capsys.readouterr().err.strip().endswith("did you mean 'sentiment'? (rnnjax tasks lists them)")


def test_the_command_lists_them(capsys):
    assert main(["tasks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(recipes())
    assert all(set(row) == {"name", "set", "metric", "floor", "reached", "seconds"} for row in rows)
    assert main(["tasks"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in recipes())


def test_the_command_trains_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rnnjax.cli.tasks.named", lambda name: line_task())
    monkeypatch.chdir(tmp_path)
    command = ["train", "--task", "line", "--steps", "12"]
    assert main(command) == 0
    assert set(json.loads((tmp_path / "rnnjax-runs" / "line-1" / "result.json").read_text())) == NAMES
    shown = capsys.readouterr().out
    assert "distance on the test split (lower is better)" in shown and "is beaten" in shown and "twice" in shown
    again = [*command, "--out", "rnnjax-runs/line-1"]
    assert main(again) == 2 and "replace it by --overwrite" in capsys.readouterr().err
    assert main([*again, "--overwrite", "--seed", "3"]) == 0
    assert json.loads((tmp_path / "rnnjax-runs" / "line-1" / "task.json").read_text())["seed"] == 3
    capsys.readouterr()
    for wrong, said in {
        ("--cell", "gru"): "--cell does not go with --task",
        ("--resume",): "--resume does not go with --task",
        ("--devices", "1"): "--devices does not go with --task",
    }.items():
        assert main([*command, *wrong]) == 2 and said in capsys.readouterr().err
    assert main(["train", "--full"]) == 2 and "--full goes with --task" in capsys.readouterr().err
    assert main(["eval", "rnnjax-runs/line-1"]) == 2 and "holds a task" in capsys.readouterr().err
    (tmp_path / "rnnjax-runs" / "line-1" / "mine.txt").write_text("x")
    assert main([*again, "--overwrite"]) == 2 and "which no run wrote" in capsys.readouterr().err


def test_what_is_missing_is_said(tmp_path, monkeypatch, capsys):
    """scikit-learn away: a sentence with the extra, from the command too."""
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r'pip install "rnnjax\[data\]"'):
        floors.logistic(*[(np.eye(2), [0, 1])] * 3)
    recipe = line_task()
    missing = lambda setting: recipe.make(setting)._replace(
        floors={"x": lambda: floors.logistic(*[(np.eye(2), [0, 1])] * 3)}
    )
    monkeypatch.setattr("rnnjax.cli.tasks.named", lambda name: recipe._replace(make=missing))
    assert main(["train", "--task", "line", "--out", str(tmp_path / "a")]) == 2
    assert (
        "rnnjax[data]" in capsys.readouterr().err and not (tmp_path / "a" / "metrics.jsonl").exists()
    )  # before training


def test_the_table_keeps_what_was_not_measured_again(tmp_path):
    """A run takes the place of the one of its task, seed and length alone; means and spread by hand."""
    base = {"task": "addition", "seed": 0, "full": False, "metric": "exact match", "better": "higher", "seconds": 10.0}
    base |= {"floor": 0.1, "ours": 0.5, "beaten": True, "cpu_seconds": 20.0, "parts": {}, "floors": {"guess": 0.1}}
    path = tmp_path / "results.json"
    for change in ({}, {"seed": 1, "ours": 0.7}, {"task": "answers", "ours": 0.05, "beaten": False}, {"ours": 0.9}):
        table.record(path, base | change)
    content = json.loads(path.read_text())
    assert [(r["task"], r["seed"], r["ours"]) for r in content["runs"]] == [
        ("addition", 0, 0.9),
        ("addition", 1, 0.7),
        ("answers", 0, 0.05),
    ]
    drawn = table.table(content | {"notes": {"answers": "Why: a test."}})
    assert "| 0.1000 | 0.8000 (0.7000 to 0.9000) | 0, 1 | 10 | 20 | yes |" in drawn
    assert "| 0 | 10 | 20 | no |" in drawn and "Why: a test." in drawn
    row = next(row for row in listing.listing(content["runs"]) if row["name"] == "addition")
    assert (row["reached"], row["floor"], row["seconds"]) == (0.8, 0.1, 10.0)
    assert next(row for row in listing.listing([]) if row["name"] == "addition")["reached"] is None


def test_markov_models_against_counting_by_hand():
    """Witten and Bell's formula with dictionaries, symbol by symbol."""
    rng = np.random.default_rng(0)
    train, test, order = rng.integers(0, 3, 200) ** 2 % 3, rng.integers(0, 3, 60), 3
    found = {}
    for i in range(len(train)):
        for k in range(order + 1):
            if i >= k:
                follow = found.setdefault(tuple(train[i - k : i]), {})
                follow[train[i]] = follow.get(train[i], 0) + 1

    def probability(history, symbol):
        lower = probability(history[1:], symbol) if history else 1 / 3
        follow = found.get(history, {})
        n, kinds = sum(follow.values()), len(follow)
        return (follow.get(symbol, 0) + kinds * lower) / (n + kinds) if n else lower

    want = [
        np.mean([-np.log2(probability(tuple(test[i - k : i]), test[i])) for i in range(order, len(test))])
        for k in range(order + 1)
    ]
    np.testing.assert_allclose(markov_bits(train, test, 3, order), want, rtol=1e-9)

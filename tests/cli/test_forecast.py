"""`rnnjax train --horizon` and `rnnjax forecast` on real files: a run, its rows to come, newer data, and bad input."""

import contextlib
import csv
import io
import json
import re
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
from cli.command import fails, turned_round

import rnnjax as rj
from rnnjax.cli import main
from rnnjax.forecast import Fitted
from rnnjax.forecast.rows import read_rows

T = np.arange(260)
DAYS = pd.date_range("2024-01-01", periods=260, freq="D").strftime("%Y-%m-%d")
SALES = 50 + 0.1 * T + 5 * np.sin(2 * np.pi * T / 7) + np.random.default_rng(0).normal(size=260)
FRAME = pd.DataFrame({"ds": DAYS, "y": SALES.round(2), "other": (SALES**2).round(1), "junk": T % 5})
FLAGS = ["--hidden", "4", "--cell", "elman", "--steps", "20", "--validate-every", "10", "--devices", "1"]
ASKED = ["--date", "ds", "--target", "y", "--horizon", "7", "--drop", "junk", "--held-out", "0.25", *FLAGS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the first 240 days, and what it printed."""
    folder, said = tmp_path_factory.mktemp("forecast"), io.StringIO()
    FRAME[:240].to_csv(folder / "sales.csv", index=False)
    with contextlib.redirect_stdout(said):
        assert main(["train", "--data", str(folder / "sales.csv"), "--out", str(folder / "run"), *ASKED]) == 0
    return folder, said.getvalue()


def printed(capsys, *argv):
    capsys.readouterr()
    assert main([str(a) for a in argv]) == 0
    return capsys.readouterr().out


def test_training_says_what_is_forecast_and_how_well(trained):
    folder, said = trained
    assert said.startswith("240 rows of y, 7 ahead, season 7, 1 day apart by ds, beside other\n")
    for words in ("its linear start alone", "persistence", "season 7", "in 80 %", "rnnjax forecast"):
        assert words in said, words
    row = re.search(r"mean +(\S+) +(\S+) +(\S+)", said)
    mae, persistence, seasonal = map(float, row.groups())
    assert mae < min(persistence, seasonal)
    held = FRAME.y.to_numpy()
    origins = np.arange(232, 178, -7)[::-1]
    want = np.mean([np.abs(held[o + 1 : o + 8] - held[o]).mean() for o in origins])
    assert persistence == pytest.approx(want, rel=1e-3)
    pytest.importorskip("matplotlib")
    assert (folder / "run" / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_forecast_prints_dates_and_quantiles(trained, capsys):
    folder, _ = trained
    header, *rows = csv.reader(printed(capsys, "forecast", folder / "run").splitlines())
    assert header == ["ds", "y_0.1", "y_0.5", "y_0.9"]
    assert [row[0] for row in rows] == list(DAYS[240:247])
    numbers = np.array([row[1:] for row in rows], float)
    assert (np.diff(numbers, axis=1) > 0).all()
    assert np.abs(numbers[:, 1] - SALES[240:247]).mean() < 0.5 * np.abs(SALES[239] - SALES[240:247]).mean()


def test_it_forecasts_without_the_file_and_measures_with_it(trained, capsys, tmp_path):
    folder, said = trained
    before = printed(capsys, "forecast", folder / "run")
    measured = printed(capsys, "eval", folder / "run")
    best = min(
        line["pinball"]
        for line in map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
        if line.get("split") == "valid"
    )
    assert float(measured.split()[1]) == best
    assert re.search(r"mean +\S+.*", measured)[0] == re.search(r"mean +\S+.*", said)[0]
    (folder / "sales.csv").rename(tmp_path / "moved.csv")
    try:
        assert printed(capsys, "forecast", folder / "run") == before
    finally:
        (tmp_path / "moved.csv").rename(folder / "sales.csv")


def test_newer_rows_follow_on(trained, capsys, tmp_path):
    """Rows that overlap, rows that begin right after, a single row: the same forecast as from all rows together."""
    folder, _ = trained
    path = tmp_path / "new.csv"
    found = []
    for first in (0, 200, 240):
        FRAME[first:250].to_csv(path, index=False)
        found.append(printed(capsys, "forecast", folder / "run", "--data", path))
    assert found[0] == found[1] == found[2]
    assert found[0].splitlines()[1].startswith(DAYS[250])
    FRAME[240:241].to_csv(path, index=False)
    assert printed(capsys, "forecast", folder / "run", "--data", path).splitlines()[1].startswith(DAYS[241])


def test_newer_rows_that_do_not_follow_on(trained, capsys, tmp_path):
    folder, _ = trained
    path = tmp_path / "new.csv"
    files = {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()}
    for frame, words in [
        (FRAME[245:], f"does not follow on: it goes from {DAYS[245]} to {DAYS[259]}, where rows from {DAYS[240]} on"),
        (FRAME[:100], f"to {DAYS[99]}, where rows from {DAYS[240]} on"),
        (FRAME[240::2], "its rows are 2 days apart, those of the run 1 day"),
        (FRAME[240:].rename(columns={"y": "Y1"}), "has no column 'y'"),
        (FRAME[240:].drop(columns="other"), "has no column 'other' (beside the target)"),
        (FRAME[240:].drop(columns="ds"), "has no column 'ds' (--date)"),
        (FRAME[240:].iloc[::-1], "is earlier than the row before it; sort the rows"),
    ]:
        frame.to_csv(path, index=False)
        assert words in fails(capsys, "forecast", folder / "run", "--data", path)
    assert "does not exist" in fails(capsys, "forecast", folder / "run", "--data", tmp_path / "none.csv")
    assert {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (lambda f: f, ["--target", "z", "--horizon", "7"], "has no column 'z' (--target); its columns are"),
        (lambda f: f, ["--target", "othr", "--horizon", "7"], "has no column 'othr' (--target); did you mean 'other'?"),
        (lambda f: f, ["--date", "dss", "--horizon", "7"], "has no column 'dss' (--date); did you mean 'ds'?"),
        (lambda f: f, ["--drop", "jnk", "--horizon", "7"], "has no column 'jnk' (--drop); did you mean 'junk'?"),
        (lambda f: f, ["--date", "y", "--horizon", "7"], "column 'y': holds no dates in one form"),
        (lambda f: f, ["--target", "ds", "--horizon", "7"], "column 'ds' (--target) holds no numbers"),
        (
            lambda f: f,
            ["--horizon", "500"],
            "a horizon of 500 needs at least 1004 rows, got 260; at most 128 can be had",
        ),
        (lambda f: f, ["--target", "y"], "--target goes with --horizon N"),
        (lambda f: f, ["--horizon", "7", "--output", "bernoulli", "--target", "y"], "a law of zeros and ones"),
        (lambda f: f, ["--horizon", "7", "--quantiles", "0.9,0.1"], "--quantiles: must be increasing"),
        (lambda f: f.assign(y=np.nan), ["--target", "y", "--horizon", "7"], "column 'y' (--target) holds no numbers"),
        (
            lambda f: f.assign(y=3),
            ["--target", "y", "--horizon", "7"],
            "all values of column 'y' are 3; there is nothing to forecast",
        ),
        (
            lambda f: f[["ds"]].assign(y=np.where(T % 2, 0, np.nan)),
            ["--horizon", "7"],
            "all values of column 'y' are 0",
        ),
        (lambda f: f.iloc[::-1], ["--horizon", "7"], "row 2 (2024-09-15) is earlier than the row before it"),
        (lambda f: f.drop(index=9), ["--horizon", "7"], "row 10 (2024-01-11) comes 2 days after the row before it"),
        (
            lambda f: pd.concat([f[:9], f[8:]]),
            ["--horizon", "7"],
            "row 10 (2024-01-09) repeats the date of the row before",
        ),
        (
            lambda f: pd.concat([f[:200], f[200::7]]),
            ["--horizon", "7"],
            "comes 1 week after the row before it, where rows are 1 day apart",
        ),
        (
            lambda f: f.assign(y=np.where(T < 250, np.nan, SALES)),
            ["--target", "y", "--horizon", "7"],
            "column 'y' has no value in the first 234 rows",
        ),
    ],
)
def test_bad_tables_and_flags(change, flags, words, tmp_path, capsys):
    change(FRAME).to_csv(tmp_path / "t.csv", index=False)
    assert words in fails(capsys, "train", "--data", tmp_path / "t.csv", "--out", tmp_path / "run", *flags, *FLAGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_network_that_is_no_better_than_its_start_is_left_out(trained, capsys, tmp_path):
    """A walk at a rate that spoils everything: the forecasts, and the table, are those of the start, as from code."""
    walk = pd.DataFrame({"y": np.random.default_rng(0).normal(size=120).cumsum().round(3)})
    walk.to_csv(tmp_path / "walk.csv", index=False)
    flags = ["--horizon", "3", "--season", "4", *FLAGS, "--rate", "10"]
    said = printed(capsys, "train", "--data", tmp_path / "walk.csv", "--out", tmp_path / "run", *flags)
    capsys.readouterr()
    assert main(["forecast", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("the network was no better than its linear start") and err.count("\n") == 1
    model = rj.forecast.Forecaster(rj.Elman(4), 3, season=4)
    rows = read_rows("test", walk.to_numpy(), 3)
    problem = model.problem(rows, batch=32, seed=0)
    start = problem.network.init(jax.random.key(5), np.zeros(problem.example.shape, np.float32))
    ahead = Fitted(model, problem.plan, start, rows)
    found = np.array([row[1:] for row in list(csv.reader(out.splitlines()))[1:]], float)
    np.testing.assert_allclose(found, ahead.after(rows).quantiles[:, :, 0].T, atol=6e-4)
    mae = backtest_mae(ahead, rows, walk.y.to_numpy(), problem.origins[1][::-1][::3])
    assert float(re.search(r"mean +(\S+)", said)[1]) == pytest.approx(mae, rel=2e-3)


def backtest_mae(fitted, rows, y, origins):
    """By a loop."""
    ahead = lambda o: fitted.after(rows.until(o + 1, 3)).median[:, 0]
    return np.mean([np.abs(ahead(o) - y[o + 1 : o + 4]) for o in origins])


@pytest.mark.parametrize(
    ("was", "now"),
    [('"gaps": "masked"', '"gaps": "x"'), ('"mode": "direct"', '"mode": "x"'), ('"step": [', '"step": [1, 2, ')],
)
def test_a_config_that_was_edited(trained, was, now, capsys, tmp_path):
    """One sentence, whatever a forecast is told of its model and its rows."""
    shutil.copytree(trained[0] / "run", tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    assert was in config.read_text()
    config.write_text(config.read_text().replace(was, now))
    assert "was it edited?" in fails(capsys, "forecast", tmp_path / "run")


@pytest.mark.slow
def test_damaged_checkpoints(trained, capsys, tmp_path):
    """The one before, with a warning that names the file; none, with a sentence, where none is whole."""
    for run, steps in (("one", ["20"]), ("both", ["10", "20"])):
        shutil.copytree(trained[0] / "run", tmp_path / run)
        largest = turned_round(tmp_path / run, *steps)
    with pytest.warns(RuntimeWarning, match=f"going on from step 10, as .*/20/.*/{largest} is not what was written"):
        assert main(["forecast", str(tmp_path / "one")]) == 0
    assert "is whole" in fails(capsys, "forecast", tmp_path / "both")


def test_without_data_or_of_another_kind(trained, capsys, tmp_path):
    folder, _ = trained
    assert "--horizon forecasts the rows of a table" in fails(
        capsys, "train", "--horizon", 3, "--out", tmp_path / "run"
    )
    assert "holds no run" in fails(capsys, "forecast", tmp_path)
    for command in (["sample"], ["export", "--to", "stablehlo"]):
        assert "use it by rnnjax forecast" in fails(capsys, *command, folder / "run")


@pytest.mark.slow
def test_a_run_goes_on_and_a_constant_series_without_dates(trained, capsys, tmp_path):
    folder, _ = trained
    data = ["train", "--data", str(folder / "sales.csv")]
    printed(capsys, *data, "--out", tmp_path / "half", *ASKED, "--steps", "10")
    printed(capsys, "train", "--out", tmp_path / "half", "--resume", "--steps", "20")
    printed(capsys, *data, "--out", tmp_path / "whole", *ASKED)
    last = lambda out: max(json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines())
    assert last(tmp_path / "half") == last(tmp_path / "whole") == 20
    pd.DataFrame({"x": [5] * 60, "ramp": np.arange(60) * 1000}).to_csv(tmp_path / "flat.csv", index=False)
    flags = ["--horizon", "3", "--mode", "recursive", "--output", "gaussian", *FLAGS]
    said = printed(capsys, "train", "--data", tmp_path / "flat.csv", "--out", tmp_path / "flat", *flags)
    assert "no column of dates: rows are numbered" in said
    header, *rows = csv.reader(printed(capsys, "forecast", tmp_path / "flat").splitlines())
    assert header == ["row", "x_0.1", "x_0.5", "x_0.9", "ramp_0.1", "ramp_0.5", "ramp_0.9"]
    assert [row[0] for row in rows] == ["61", "62", "63"]
    assert all(row[1:4] == ["5"] * 3 for row in rows)
    np.testing.assert_allclose(np.array([row[5] for row in rows], float), [60000, 61000, 62000], atol=20)

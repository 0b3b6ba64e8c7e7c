"""`rnnjax train --series --horizon` and `rnnjax forecast` on long tables: own dates, known and static columns, uneven dates, bad input."""

import contextlib
import csv
import io

import numpy as np
import pandas as pd
import pytest
from cli.command import fails

from rnnjax.cli import main
from rnnjax.cli.series import read_sheet
from rnnjax.cli.settings import Settings

RNG = np.random.default_rng(0)
H, END = 7, {"a": 120, "b": 120, "c": 110}  # rows of each shop; b begins late, c ends early
DAYS = pd.date_range("2024-01-01", periods=130, freq="D")


def shop(i, name, end):
    t = np.arange(20 * (name == "b"), end + H)
    price = RNG.normal(size=len(t))
    y = 10.0**i * (5 + np.sin(2 * np.pi * t / 7) + price + 0.1 * RNG.normal(size=len(t)))
    beside = {
        "price": price.round(3),
        "kind": "big" if i else "small",
        "size": 2.5 * i,
        "other": RNG.normal(size=len(t)).round(3),
    }
    return pd.DataFrame({"ds": DAYS[t].strftime("%d/%m/%Y"), "shop": name, "y": y.round(4), "row": t, **beside})


FULL = pd.concat([shop(i, name, end) for i, (name, end) in enumerate(END.items())]).reset_index(drop=True)
TO_COME = FULL.row >= FULL.shop.map(END)
SEEN, FUTURE = FULL[~TO_COME].drop(columns="row"), FULL[TO_COME].drop(columns="row")
ASKED = ["--date", "ds", "--series", "shop", "--target", "y", "--horizon", str(H)]
FLAGS = ["--hidden", "3", "--cell", "elman", "--steps", "4", "--validate-every", "4", "--devices", "1"]


def written(folder, frame, name="t.csv"):
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the shops, the price known in advance; it says what a forecast needs."""
    folder, said = tmp_path_factory.mktemp("long"), io.StringIO()
    path = written(
        folder, SEEN.sample(frac=1, random_state=1).sort_values("ds", key=lambda d: pd.to_datetime(d, dayfirst=True))
    )
    with contextlib.redirect_stdout(said):
        assert (
            main(["train", "--data", str(path), "--out", str(folder / "run"), *ASKED, "--known", "price", *FLAGS]) == 0
        )
    assert "--data FILE  (rows to come, with price)\n" in said.getvalue()
    return folder


def printed(capsys, *argv):
    capsys.readouterr()
    assert main([str(a) for a in argv]) == 0
    return list(csv.reader(capsys.readouterr().out.splitlines()))


@pytest.mark.slow
def test_each_series_goes_on_from_its_own_end(trained, capsys, tmp_path):
    """By rows to come alone, by these after rows that are known, and with none of the other columns: the same forecasts."""
    run = trained / "run"
    said = fails(capsys, "forecast", run)
    assert "'price' (--known) must be known of shop 'a' from 2024-04-30 to 2024-05-06; give a file" in said
    found = [
        printed(capsys, "forecast", run, "--data", written(tmp_path, frame))
        for frame in (
            FUTURE.assign(y=np.nan),
            FUTURE[["ds", "shop", "price"]],
            pd.concat([SEEN, FUTURE.assign(y=np.nan)]),
            pd.concat([SEEN[SEEN.shop == "b"].tail(30), FUTURE.assign(y=np.nan)]),
        )
    ]
    assert found[0] == found[1] == found[2] == found[3]
    head, *rows = found[0]
    assert head == ["ds", "shop", "y_0.1", "y_0.5", "y_0.9"] and len(rows) == 3 * H
    want = [
        (str(day.date()), name) for name in ("a", "c", "b") for day in DAYS[END[name] : END[name] + H]
    ]  # as they begin
    assert sorted(tuple(row[:2]) for row in rows) == sorted(want)
    numbers = np.array([row[2:] for row in rows], float)
    assert (np.diff(numbers, axis=1) > 0).all()
    level = {name: SEEN[SEEN.shop == name].y.abs().max() for name in END}
    for row, line in zip(rows, numbers):
        assert np.abs(line).max() < 1.5 * level[row[1]] and np.abs(line).max() > 0.3 * level[row[1]]


@pytest.mark.slow
def test_what_newer_rows_know_in_advance_counts(trained, capsys, tmp_path):
    """Other prices of one shop change its forecast, and no other's; a newer row moves its forecast on by a day."""
    run, dear = trained / "run", FUTURE.assign(price=FUTURE.price + 3 * (FUTURE.shop == "c"))
    plain, other = (
        printed(capsys, "forecast", run, "--data", written(tmp_path, f))[1:]
        for f in (FUTURE.assign(y=np.nan), dear.assign(y=np.nan))
    )
    assert {row[1] for row, changed in zip(plain, other) if row != changed} == {"c"}
    newer = FUTURE.assign(y=np.where(FUTURE.ds == "30/04/2024", FUTURE.y, np.nan))
    newer = pd.concat([newer, FUTURE[FUTURE.shop == "a"].tail(1).assign(ds="07/05/2024", y=np.nan)])
    newer = newer[(newer.shop == "a") | ((newer.shop == "c") & newer.y.isna())]
    said = fails(capsys, "forecast", run, "--data", written(tmp_path, newer))
    assert "known of shop 'b'" in said
    rows = printed(
        capsys,
        "forecast",
        run,
        "--data",
        written(tmp_path, pd.concat([newer, FUTURE[FUTURE.shop == "b"].assign(y=np.nan)])),
    )[1:]
    assert [row[0] for row in rows if row[1] == "a"][0] == "2024-05-01"


@pytest.mark.slow
def test_newer_rows_that_do_not_follow_on(trained, capsys, tmp_path):
    run = trained / "run"
    files = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for frame, words in [
        (FUTURE[FUTURE.shop == "a"].assign(shop="d"), "the run knows no series 'd' of column 'shop'; it knows a, c, b"),
        (FUTURE[FUTURE.shop == "a"][2:], "does not follow on in shop 'a': it goes from 2024-05-02 to 2024-05-06"),
        (FUTURE.drop(columns="price"), "has no column 'price' (--known)"),
        (FUTURE.drop(columns="ds"), "has no column 'ds' (--date)"),
        (FUTURE.drop(columns="shop"), "has no column 'shop' (--series)"),
        (
            FUTURE.assign(price=np.where(FUTURE.shop == "b", np.nan, FUTURE.price)),
            "'price' (--known) is missing; what is known in",
        ),
    ]:
        assert words in fails(capsys, "forecast", run, "--data", written(tmp_path, frame)), words
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == files


def test_columns_are_told_apart():
    """Constant along each series: static, words too; a column that tells nothing apart is left; days first as the series go on."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), SEEN.assign(same=4))
        sheet = read_sheet(
            Settings.of(dict(data=str(path), series="shop", horizon=7, target=["y"], known=["price"])), str(path)
        )
    assert (sheet.targets, sheet.known, sheet.static, sheet.beside) == (
        ["y"],
        ["price"],
        ("size", "kind"),
        ["other", "same"],
    )
    assert [block.name for block in sheet.blocks] == ["a", "b", "c"] and str(sheet.step) == "1 day"
    assert np.stack([block.static for block in sheet.blocks]).tolist() == [[0, 0, 1], [2.5, 1, 0], [5, 1, 0]]
    for block in sheet.blocks:
        rows = SEEN[SEEN.shop == block.name]
        np.testing.assert_array_equal(block.values[:, 0], rows.y)
        np.testing.assert_array_equal(
            block.dates.astype("datetime64[D]"), pd.to_datetime(rows.ds, dayfirst=True).to_numpy("datetime64[D]")
        )
        np.testing.assert_array_equal(block.known[:, 0], rows.price)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [pytest.param(["--cell", "cfc"], marks=pytest.mark.long), ["--cell", "gru", "--gaps", "grud", "--layers", "2"]],
)
def test_uneven_dates(how, capsys, tmp_path):
    """Rows to come stand the median step apart, or where newer data have them."""
    hours = np.cumsum(RNG.choice([1, 2, 2, 5], size=90))
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, "h")
    frame = pd.DataFrame({"when": when, "y": np.where(RNG.random(90) < 0.1, np.nan, np.sin(hours / 9)).round(3)})
    frame.loc[89, "y"] = 0.5
    flags = [*FLAGS[:2], *FLAGS[4:], "--horizon", "3", *how]
    assert main(["train", "--data", str(written(tmp_path, frame)), "--out", str(tmp_path / "run"), *flags]) == 0
    rows = printed(capsys, "forecast", tmp_path / "run")[1:]
    ahead = pd.to_datetime([row[0] for row in rows])
    assert list(ahead) == [when[-1] + pd.Timedelta(hours=2 * n) for n in (1, 2, 3)]
    at = [when[-1] + pd.Timedelta(hours=n) for n in (1, 8, 30)]
    newer = pd.DataFrame({"when": at, "y": np.nan})
    newer.loc[-1] = [when[-1], 0.5]
    others = printed(capsys, "forecast", tmp_path / "run", "--data", written(tmp_path, newer.sort_index(), "new.csv"))[
        1:
    ]
    assert list(pd.to_datetime([row[0] for row in others])) == at and others[1][1:] != rows[1][1:]


SMALL = SEEN.groupby("shop").tail(40)


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (lambda f: f, ["--series", "shp"], "has no column 'shp' (--series); did you mean 'shop'?"),
        (lambda f: f, ["--known", "pric"], "has no column 'pric' (--known); did you mean 'price'?"),
        (lambda f: f, ["--static", "sze"], "has no column 'sze' (--static); did you mean 'size'?"),
        (lambda f: f, ["--known", "kind"], "column 'kind' (--known) holds no numbers"),
        (lambda f: f, ["--known", "y"], "column 'y' is given twice"),
        (lambda f: f, ["--static", "other"], "column 'other' (--static) is '"),
        (
            lambda f: f.assign(size=np.where(f.shop == "a", np.nan, 1)),
            ["--static", "size"],
            "is missing in series 'a'; it must have",
        ),
        (
            lambda f: f.assign(price=f.price.where(f.price < 1)),
            ["--known", "price"],
            "(--known) is missing; what is known in advance",
        ),
        (lambda f: f.assign(shop=f.shop.where(f.shop != "b")), [], "column 'shop' is blank"),
        (lambda f: f.assign(y=f.y.where(f.shop != "b")), [], "all values of series 'b' are missing; leave it out"),
        (lambda f: f.assign(y=3), [], "all values of series 'a' are 3; there is nothing to forecast"),
        (lambda f: f.assign(y=np.nan), [], "column 'y' (--target) holds no numbers"),
        (
            lambda f: f.drop(index=f.index[5]),
            [],
            ", series 'a': row 6 (2024-03-27) comes 2 days after the row before it",
        ),
        (
            lambda f: f.assign(ds=f.ds.where(np.arange(len(f)) != 5)),
            [],
            ", series 'a' has no date in row 6; fill it in",
        ),
        (lambda f: f.groupby("shop").head(1), [], "no series has two rows, which show how far rows are apart"),
        (lambda f: f.iloc[::-1], [], "is earlier than the row before it; sort the rows by their date"),
        (
            lambda f: pd.concat([f[:1], f]),
            [],
            "row 2 (2024-03-21) repeats the date of the row before; keep one row for each date",
        ),
        (
            lambda f: f[(f.shop != "b") | (np.arange(len(f)) % 7 == 0)],
            [],
            "rows of series 'a' are 1 day apart, those of 'b' 1 week",
        ),
        (lambda f: f, ["--horizon", "30"], "a horizon of 30 needs at least 64 rows, got 40; at most 18 can be had"),
        (
            lambda f: f,
            ["--static", "size", "--label", "kind"],
            "--horizon forecasts the rows of a table, and there is --label",
        ),
    ],
)
def test_bad_long_tables_and_flags(change, flags, words, tmp_path, capsys):
    path = written(tmp_path, change(SMALL))
    assert words in fails(capsys, "train", "--data", path, "--out", tmp_path / "run", *ASKED, *FLAGS, *flags)
    assert not (tmp_path / "run").exists()


def test_flags_that_want_another(tmp_path, capsys):
    path = written(tmp_path, SMALL)
    for flags, words in [
        (
            ["--series", "shop"],
            "needs --label COLUMN, the column of the classes to learn, or --horizon N to forecast each series",
        ),
        (["--horizon", "7", "--static", "size"], "--static is for several series below one another: --series COLUMN"),
        (["--known", "price"], "--known goes with --horizon N"),
        (["--horizon", "7", "--target", "y"], "name the column that tells them apart: --series COLUMN"),
    ]:
        assert words in fails(capsys, "train", "--data", path, "--out", tmp_path / "run", *flags)

"""Stocks: the floor against a plain loop, two targets that see each other, a test split that training does not see."""

import numpy as np
import pytest

from rnnjax.data.stocks import Stocks
from rnnjax.tasks import Setting, finance, run

LENGTHS = {"A": 123, "B": 68, "C": 123}


def made_up_stocks(junk=None):
    rng = np.random.default_rng(0)
    months = np.datetime64("2000-01") + np.arange(123)
    parts = []
    for name, rows in LENGTHS.items():
        prices = 50 * np.exp(0.1 * rng.normal(size=rows).cumsum())
        if junk is not None:
            prices[-24:] = junk
        parts.append((np.repeat(name, rows), months[123 - rows :].astype("datetime64[D]"), prices))
    return Stocks(*(np.concatenate(part) for part in zip(*parts)))


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(finance, "stocks", made_up_stocks)
    return made_up_stocks()


def test_the_floor_and_the_moves_by_a_loop(made_up):
    problem = finance.make(Setting(small=True))
    price, moved = [], {"as last month": [], "as in the last year": []}
    for name in LENGTHS:
        logs = np.log(made_up.prices[made_up.symbols == name])
        size = np.abs(np.diff(logs, prepend=np.nan))
        for origin in range(len(logs) - 25, len(logs) - 3):
            for h in (1, 2, 3):
                price.append(abs(logs[origin + h] - logs[origin]))
                moved["as last month"].append(abs(size[origin + h] - size[origin]))
                moved["as in the last year"].append(abs(size[origin + h] - size[origin - 11 : origin + 1].mean()))
    assert problem.floors["the last price again"]() == pytest.approx(np.mean(price))
    rows, many = finance.series()
    found = finance.moves(rows, np.arange(122 - 24, 122 - 3 + 1) - 1, many)
    for name, errors in moved.items():
        assert found[f"how far it moves, {name}"] == pytest.approx(np.mean(errors))


def test_training_and_validation_see_nothing_of_the_test_months(made_up, monkeypatch):
    whole = finance.make(Setting(small=True))
    monkeypatch.setattr(finance, "stocks", lambda: made_up_stocks(1e30))
    planted = finance.make(Setting(small=True))
    for name, a in whole.batches(3).items():
        np.testing.assert_array_equal(a, planted.batches(3)[name])
    assert whole.score(whole.params, "valid") == planted.score(planted.params, "valid")


@pytest.mark.slow
def test_a_run(made_up):
    result = run(finance.RECIPE, setting=Setting(small=True), progress=False)
    assert result.ours < 1.5 * result.floor and set(result.parts) == {
        "how far it moves",
        "how far it moves, as last month",
        "how far it moves, as in the last year",
    }

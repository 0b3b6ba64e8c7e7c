"""Random compositions, every method and option, against a plain loop: values, gradients, and what is refused by name.

``COMPOSITIONS=10000 pytest -m slow tests/test_compositions.py`` runs that many, from number ``COMPOSITIONS_FROM`` on;
without a number CI's slow part runs a few.
"""

from __future__ import annotations

import os

import compositions
import pytest

SLICE, MORE = [23], [0, 6, 12, 24, 64, 77]  # in every run; in the slow ones
START, COUNT = int(os.environ.get("COMPOSITIONS_FROM", "22")), int(os.environ.get("COMPOSITIONS", "2"))
# -- what fails today, by a part of what is told, with its reason; an empty list is the aim
KNOWN: dict[str, str] = {}


def problem(seed: int) -> str | None:
    case = compositions.draw(seed)
    told = compositions.check(case)
    return None if told is None or any(part in told for part in KNOWN) else f"{seed}: {told}\n    {case}"


def report(problems: list[str]) -> str:
    return "\n".join(problems) + "\nrerun one: python tests/compositions.py NUMBER"


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # numpy, of a half's infinity
def test_random_compositions_are_the_plain_loop() -> None:
    problems = [told for seed in SLICE if (told := problem(seed))]
    assert not problems, report(problems)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_many_random_compositions_are_the_plain_loop() -> None:
    problems = [told for seed in [*MORE, *range(START, START + COUNT)] if (told := problem(seed))]
    assert not problems, report(problems)


def test_the_loop_tells_a_wrong_number_and_a_lost_key() -> None:
    """The comparison can fail: another key, another reset, another number."""
    case = compositions.Case(
        0, compositions.rj.Dropout(compositions.rj.Elman(4), 0.5), (3,), (2,), 3, "float32", "scan", keyed=True
    )
    assert compositions.check(case) is None
    with compositions.settings(case):
        made = compositions.arrays(case)
        wanted = compositions.by_hand(case.layer, made, None, False)
        lost = compositions.by_hand(case.layer, compositions.dataclasses.replace(made, key=None), None, False)
    sides = [{"carry": c, "ys": y} for c, y in (wanted, lost)]
    assert "ys[0]: off by" in str(compositions._differences(*sides, 1e-3))

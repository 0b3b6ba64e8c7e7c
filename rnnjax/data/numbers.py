"""Cells as numbers, in the ways that people write them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.errors import DataError

# What counts as missing: blanks, and the words that pandas takes as such.
MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
MISSING |= {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
ONE_GROUP = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")  # a decimal comma or a thousand, nobody can tell
POINT_GROUPS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:\.\d{3})+\s*")
CURRENCY = re.compile(r"[$€£¥₹₩₽¢₺₴₪฿]|(?<![A-Za-z])(?:[A-Z]{3}|kr|zł|Fr)(?![A-Za-z])")
GROUPS = {",": ",", ".": r"\.", " ": "[ \u00a0\u202f\u2009]", "'": "['’]"}


class Style(NamedTuple):
    """thousands: the mark between groups of three digits, or None. percent, currency: whether their signs are taken off."""

    thousands: str | None = None
    percent: bool = False
    currency: bool = False

    def check(self) -> Style:
        """Raises: DataError on a mark that groups nothing."""
        if self.thousands is not None and self.thousands not in GROUPS:
            raise DataError(f"thousands must be one of {', '.join(map(repr, GROUPS))}, got {self.thousands!r}")
        return self


class Column(NamedTuple):
    """values: float64 ``[T]``, 0 where missing. missing, refused: bool ``[T]``. form: how the file writes it."""

    values: np.ndarray
    missing: np.ndarray
    refused: np.ndarray
    form: str
    commas: bool

    @property
    def found(self) -> int:
        """How many cells are numbers."""
        return int((~self.missing & ~self.refused).sum())


def read_column(cells: Any, style: Style, separator: str) -> Column:
    """The numbers in a pandas Series of strings; a number that is not finite is refused."""
    import pandas as pd

    values = _parsed(cells) if style == Style() else np.full(len(cells), np.nan)
    rest = np.flatnonzero(~np.isfinite(values))
    words = [str(cell).strip() for cell in cells.iloc[rest]]
    missing, refused = np.zeros(len(cells), bool), np.zeros(len(cells), bool)
    missing[rest] = [word in MISSING for word in words]
    plain = [plainly(word, style, separator) for word in words]
    values[rest] = _parsed(pd.Series(plain, dtype=object)) if plain else 0.0
    commas = any("," in word and word != new for word, new in zip(words, plain)) and style.thousands != ","
    refused = ~np.isfinite(values) & ~missing
    values[missing | refused] = 0.0
    good = np.flatnonzero(~missing & ~refused)
    if style == Style() and commas:  # 1,5 and 1.234 in one column: is that a thousand?
        refused[good] = [POINT_GROUPS.fullmatch(cell) is not None for cell in cells.iloc[good]]
    written = cells.to_numpy(dtype=object).copy()
    written[rest] = plain
    return Column(values, missing, refused, form_of(list(written[good])), commas)


def points_that_may_group(cells: Any) -> np.ndarray:
    """Which cells read ``1.234``, if all with a point do: among decimal commas that may be a thousand."""
    pointed = cells.str.contains(".", regex=False).to_numpy(bool)
    grouped = np.array([bool(p) and POINT_GROUPS.fullmatch(c) is not None for p, c in zip(pointed, cells)])
    return grouped if pointed.any() and (grouped == pointed).all() else np.zeros(len(cells), bool)


def plainly(word: str, style: Style, separator: str) -> str:
    """A cell without what the style takes off, its decimal comma a point; a cell that does not follow it stays as it is.

    >>> plainly("(1.234,50 €)", Style(thousands=".", currency=True), ";"), plainly("1,5", Style(thousands=","), ",")
    ('-1234.50', '1,5')
    """
    stripped = word
    if style.currency:
        stripped = CURRENCY.sub("", stripped).strip()
        stripped = "-" + stripped[1:-1].strip() if re.fullmatch(r"\([^()-]*\)", stripped) else stripped
        stripped = re.sub(r"^([-+])\s+", r"\1", stripped)
    if style.percent:
        stripped = stripped.removesuffix("%").strip()
    if style.thousands:
        return _ungrouped(stripped, style.thousands)
    stripped = re.sub("^\N{MINUS SIGN}(?=[\\d.,])", "-", stripped)
    comma = DECIMAL_COMMA.fullmatch(stripped) and not (separator == "," and ONE_GROUP.fullmatch(stripped))
    return stripped.replace(",", ".") if comma else stripped


def _ungrouped(word: str, mark: str) -> str:
    point = r"\." if mark == "," else "," if mark == "." else "[.,]"
    grouped = re.fullmatch(rf"([-+]?\d{{1,3}}(?:{GROUPS[mark]}\d{{3}})*|[-+]?\d*)(?:{point}(\d*))?", word)
    if not grouped or not re.search(r"\d", word):
        return word if mark != "." else word.replace(".", "?")  # 12.5 among 1.234: not a number in this style
    return re.sub(r"[^-+\d]", "", grouped[1]) + ("" if grouped[2] is None else f".{grouped[2]}")


def form_of(words: list[str]) -> str:
    """The format with as many digits as the numbers have.

    >>> form_of(["1.50", "2"]), form_of(["1.25e-9", "3e2"])
    ('.2f', '.2e')
    """
    if any("e" in word or "E" in word for word in words):
        digits = (len(re.sub(r"\D", "", re.split("[eE]", word)[0]).lstrip("0")) for word in words)
        return f".{min(max(max(digits, default=1) - 1, 0), 16)}e"
    return f".{min(max((len(w.rstrip()) - w.find('.') - 1 if '.' in w else 0 for w in words), default=0), 17)}f"


def hint(word: str, separator: str) -> str:
    """Which flag would read a cell, as the end of a sentence."""
    plain = plainly(word.strip(), Style(), separator)
    for style, flags in HINTS:
        if plainly(word.strip(), style, separator) != plain and np.isfinite(
            _parsed_one(plainly(word.strip(), style, separator))
        ):
            return f"; {flags} reads it"
    return ""


HINTS = [
    (Style(percent=True), "--percent"),
    (Style(currency=True), "--currency"),
    *((Style(thousands=mark), f"--thousands {mark!r}") for mark in GROUPS),
    *((Style(mark, True, True), f"--thousands {mark!r} --percent --currency") for mark in GROUPS),
]


def _parsed(cells: Any) -> np.ndarray:
    """As pandas reads numbers: no underscores, no hexadecimal; NaN where there is none."""
    import pandas as pd

    return np.array(pd.to_numeric(cells, errors="coerce"), np.float64)


def _parsed_one(word: str) -> float:
    import pandas as pd

    return float(_parsed(pd.Series([word], dtype=object))[0])

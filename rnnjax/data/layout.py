"""How a table is laid out as letters: what separates its cells, which lines are rows, whether the first names the columns."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from rnnjax.data.errors import DataError

SEPARATORS = "\t;|,"  # where several fit, the first: commas stand in numbers too
SEP_LINE = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)


class Layout(NamedTuple):
    """text: the table's lines, other lines left blank. lines: the number of the line each row ends on.

    quotes: whether quotes enclose cells; else they are letters.
    """

    text: str
    separator: str
    width: int
    lines: list[int]
    quotes: bool = True


def lay_out(path: str | Path, text: str, separator: str | None, comments: bool = True) -> Layout:
    """The rows of ``text``, all of one width; lines that start with ``#`` are left out, or rows if ``comments`` is False.

    Raises: DataError where there are none, or of unequal length.
    """
    text, announced = without_sep_line(text)
    separator = named(separator) or announced
    if separator == " ":
        text, separator = "\n".join("\t".join(line.split()) for line in text.split("\n")), "\t"
    separator = separator or sniffed(text)
    text = without_comments(text, separator) if comments else text
    quotes = not quotes_are_letters(text, separator)
    rows = [(line, len(row), blank(row[-1])) for line, row in records(path, text, separator, quotes)]
    if not rows:
        raise DataError(f"{path} is empty; a CSV file with rows of numbers is needed")
    (first, width, _), *others = rows
    if others and all(n == width + 1 for _, n, _ in others) and not all(empty for *_, empty in others):
        if '\\"' in text:
            raise DataError(f'{path} has quotes inside cells written as \\", which cuts them; write them twice, ""')
        text, width = prefixed(text, separator), width + 1  # the first row names all columns but that of row names
    else:
        check_widths(path, rows, width)
    return Layout(text, separator, width, [line for line, *_ in rows], quotes)


def check_widths(path: str | Path, rows: list[tuple[int, int, bool]], width: int) -> None:
    """Raises: DataError at the first row that is longer or shorter; one blank too many at its end is none."""
    for line, n, last_blank in rows:
        if n != width and not (n == width + 1 and last_blank):
            above = "; if lines above the header are no rows, take them away, or begin them with #" * (width == 1 < n)
            raise DataError(f"{path}, line {line}: has {n} fields where the first line has {width}{above}")


def records(path: str | Path, text: str, separator: str, quotes: bool = True):
    """The rows that are not blank, each with the number of its last line."""
    before = csv.field_size_limit(max(len(text), 1))  # a cell may be a book
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; is it a table?") from None
    finally:
        csv.field_size_limit(before)


def quotes_are_letters(text: str, separator: str) -> bool:
    r"""Whether quotes enclose nothing: between tabs, where a cell that begins with one would run over lines that are rows.

    >>> quotes_are_letters('a\tb\n"No, he said\t1\nyes\t0\n"So\t1\n', "\t"), quotes_are_letters('a\tb\n"one\ntwo"\t1\n', "\t")
    (True, False)
    """
    if separator != "\t" or not re.search(r'(?m)(?:^|\t)"[^"\n]*$', text):
        return False
    counts = {line.count("\t") for line in text.split("\n") if line.strip()}
    return len(counts) == 1


def named(separator: str | None) -> str | None:
    r"""What ``--sep`` says: one character, or ``tab``, ``\t``, ``space``. Raises: DataError."""
    known = {"tab": "\t", "\\t": "\t", "space": " ", "semicolon": ";", "comma": ","}
    separator = known.get(separator or "", separator)
    if separator is not None and (len(separator) != 1 or separator.isalnum() or separator in '"\n\r.-+'):
        raise DataError(f"the separator must be one character between the cells, such as ; or tab, got {separator!r}")
    return separator


def without_sep_line(text: str) -> tuple[str, str | None]:
    """Excel's first line ``sep=;`` says what separates and is no row."""
    found = SEP_LINE.match(text)
    return (text[found.end() - 1 :], found[1]) if found else (text, None)


def sniffed(text: str) -> str:
    r"""What separates the cells: the first of tab, ; | , that cuts nearly all of the first hundred rows into as many cells.

    >>> sniffed("a;b\n1,5;2,5\n"), sniffed("name,x\n\"Doe; Jane\",1\n")
    (';', ',')
    """
    head = [line for line in text[:100_000].split("\n") if line.strip() and not line.startswith("#")][:100]
    even = next((separator for separator in SEPARATORS if evenness(head, separator) >= 0.9), None)
    return even or max(reversed(SEPARATORS), key=head[0].count if head else str)


def evenness(lines: list[str], separator: str) -> float:
    """The share of rows with as many cells as most have; 0 where that is one."""
    counts = [len(row) for row in csv.reader(lines, delimiter=separator)]
    common = max(set(counts), key=counts.count, default=1)
    return counts.count(common) / len(counts) if common > 1 else 0.0


def without_comments(text: str, separator: str) -> str:
    """Lines that start with ``#`` left blank; one straight before a row of numbers, cut as it is, keeps its names."""
    if not text.startswith("#") and "\n#" not in text:
        return text
    lines = text.split("\n")
    comment = comments(lines, separator)
    first = next((i for i, line in enumerate(lines) if line.strip() and not comment[i]), 0)
    if first and comment[first - 1] and names_for(lines[first - 1], lines[first], separator):
        lines[first - 1], comment[first - 1] = lines[first - 1].lstrip("# "), False
    return "\n".join("" if out else line for line, out in zip(lines, comment))


def comments(lines: list[str], separator: str) -> list[bool]:
    """Which lines start with ``#``, outside quotes; a cell that is ``#`` alone starts none."""
    found, quoted = [], False
    for line in lines:
        found.append(not quoted and line.startswith("#") and not line.startswith("#" + separator))
        quoted ^= not found[-1] and line.count('"') % 2 == 1
    return found


def names_for(comment: str, row: str, separator: str) -> bool:
    """Whether a comment holds the names of a row of numbers."""
    same = comment.count(separator) == row.count(separator) > 0
    return same and not re.search(r"[A-DF-Za-df-z]", row)


def prefixed(text: str, separator: str) -> str:
    """A blank cell before the first row."""
    at = len(text) - len(text.lstrip("\n"))
    return text[:at] + separator + text[at:]


def blank(cell: str) -> bool:
    """Whether there is nothing in a cell of a table."""
    return not cell.strip()


def looks_like_table(text: str, separators: str = "\t;") -> bool:
    r"""Whether letters are a table for sure: rows cut evenly by one of these, half of the cells or more being numbers.

    >>> looks_like_table("day;x\n" + "Mon;1,5\n" * 9), looks_like_table("He came; he saw.\nHe won; and left.\n" * 9)
    (True, False)
    """
    head = [line for line in text[:20_000].split("\n")[:-1] if line.strip()][:50]
    for separator in separators:
        if len(head) > 2 and evenness(head, separator) == 1:
            cells = [cell.strip() for row in csv.reader(head[1:], delimiter=separator) for cell in row]
            return sum(bool(re.fullmatch(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", c, re.I)) for c in cells) * 2 >= len(
                cells
            )
    return False

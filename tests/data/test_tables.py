"""Tables as people have them: read as pandas reads them with the options that fit, or refused in a sentence."""

import bz2
import csv
import gzip
import io
import lzma
import time

import numpy as np
import pandas as pd
import pytest

from rnnjax.data import DataError, read_csv, written


def save(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


GERMAN = "Datum;Umsatz;Filiale\n" + "".join(
    f"{1 + i % 28:02}.0{1 + i % 9}.2024;{i},5{i % 10};Köln\n" for i in range(40)
)
FRENCH = "Date;Prix;Quantité\n" + "".join(f"0{1 + i % 9}/01/2024;{i}\u202f234,5{i % 10};{i}\n" for i in range(40))
ENGLISH = "day,amount,share\n" + "".join(f'{i},"${i},234.50",{i}.5%\n' for i in range(1, 41))
PLAIN = "a,b\n" + "".join(f"{i}.5,{i * i}\n" for i in range(40))
LOG = "time,temp,hum\n" + "".join(
    f"2024-01-01 00:{i:02}:00,{'' if i % 7 == 3 else 20 + i / 10},{'NA' if i == 5 else i}\n" for i in range(40)
)
_minus = lambda cell: float(cell.replace("\u2212", "-"))
YEARS = ",".join(str(y) for y in range(2001, 2007))

# content, our options, how pandas is told to read the same, or the sentence that refuses it
TABLES = {
    "German Excel": (GERMAN, {}, dict(sep=";", decimal=",")),
    "German Excel, cp1252": (
        GERMAN.encode("cp1252"),
        {"encoding": "cp1252"},
        dict(sep=";", decimal=",", encoding="cp1252"),
    ),
    "German Excel, encoding unsaid": (GERMAN.encode("cp1252"), {}, r"is not CSV in UTF-8 \(byte 0xf6.*--encoding"),
    "German thousands": (
        "x;y\n" + "".join(f"{i + 1}.234,5;{i}\n" for i in range(40)),
        {"thousands": "."},
        dict(sep=";", decimal=",", thousands="."),
    ),
    "French Excel": (
        FRENCH.encode("utf-8-sig"),
        {"thousands": " "},
        dict(
            sep=";",
            encoding="utf-8-sig",
            converters={"Prix": lambda s: float(s.replace("\u202f", "").replace(",", "."))},
        ),
    ),
    "sensor log with gaps": (LOG, {}, {}),
    "duplicate headers": (PLAIN.replace("b", "a", 1), {}, "has two columns named 'a'"),
    "byte-order mark": (PLAIN.encode("utf-8-sig"), {}, dict(encoding="utf-8-sig")),
    "UTF-16": (PLAIN.encode("utf-16"), {}, dict(encoding="utf-16")),
    "UTF-16 without its mark": (
        PLAIN.encode("utf-16-le"),
        {},
        "if it is text in UTF-16, say so by --encoding utf-16-le",
    ),
    "gzip": (gzip.compress(PLAIN.encode()), {}, dict(compression="gzip")),
    "gzip twice": (gzip.compress(gzip.compress(PLAIN.encode())), {}, "is packed by gzip twice; unpack it once"),
    "bzip2": (bz2.compress(PLAIN.encode()), {}, "is packed by bzip2; unpack it"),
    "xz": (lzma.compress(PLAIN.encode()), {}, "is packed by xz; unpack it"),
    "half of a gzip": (gzip.compress(PLAIN.encode())[:60], {}, "is a broken gzip file"),
    "trailing commas": (PLAIN.replace("\n", ",\n"), {}, dict(usecols=["a", "b"])),
    "trailing commas in the rows alone": (
        PLAIN.replace("\n", ",\n").replace(",\n", "\n", 1),
        {},
        dict(names=["a", "b", "c"], header=0, usecols=["a", "b"]),
    ),
    "comment lines": ("# made by hand\n# twice\n" + PLAIN.replace("\n7.5", "\n# a gap\n7.5"), {}, dict(comment="#")),
    "names in a comment": ("# a,b\n" + PLAIN.split("\n", 1)[1], {}, dict(names=["a", "b"], skiprows=1)),
    "ISO dates": ("".join(LOG.replace("temp", "t")), {}, {}),
    "US dates": ("day,x\n" + "".join(f"{1 + i // 28}/{1 + i % 28}/2024,{i}\n" for i in range(60)), {}, {}),
    "index column": (pd.read_csv(io.StringIO(PLAIN)).to_csv(), {}, dict(index_col=0)),
    "row names without a name": (
        "a,b\n" + "".join(f"r{i},{i},{i / 4}\n" for i in range(40)),
        {},
        dict(index_col=0),
    ),
    "quoted line breaks": ("a,b,note\n" + "".join(f'{i},{i}.25,"one\n\n# ""two"", {i}"\n' for i in range(40)), {}, {}),
    "quoted numbers": ('"a","b"\n' + "".join(f'"{i}","{i}.5"\n' for i in range(40)), {}, {}),
    "sep= line": ("sep=|\n" + PLAIN.replace(",", "|"), {}, dict(sep="|", skiprows=1)),
    "sep= in capitals, with the ends of lines of Windows": (
        ("SEP=|\n" + PLAIN.replace(",", "|")).replace("\n", "\r\n"),
        {},
        dict(sep="|", skiprows=1),
    ),
    "quotes as letters between tabs": (
        "a\tnote\tb\n" + "".join(f'{i}\t"{"open" if i % 9 == 4 else i}\t{i / 4}\n' for i in range(40)),
        {},
        dict(sep="\t", quoting=csv.QUOTE_NONE),
    ),
    "quotes and a line break between tabs": (
        "a\tnote\tb\n" + "".join(f'{i}\t"one\ntwo"\t{i / 4}\n' for i in range(40)),
        {},
        dict(sep="\t"),
    ),
    "tabs": (PLAIN.replace(",", "\t"), {}, dict(sep="\t")),
    "blanks": (PLAIN.replace(",", "   "), {"sep": " "}, dict(sep=r"\s+")),
    "colons": (PLAIN.replace(",", ":"), {"sep": ":"}, dict(sep=":")),
    "header of years": (YEARS + "\n" + "1,2,3,4,5,6\n" * 40, {}, {}),
    "years in every row": ((YEARS + "\n") * 40, {}, dict(header=None)),
    "no header": (PLAIN.split("\n", 1)[1], {}, dict(header=None)),
    "a header said to be none": (PLAIN, {"header": False}, "line 1: column 'column 1' is 'a'"),
    "numbers said to be a header": (PLAIN.split("\n", 1)[1], {"header": True}, {}),
    "one cell of the first row is no number": ("1,b\n" + "1,2\n" * 40, {}, {}),
    "underscores": ("a,b\n" + "2019_01,3\n" * 40, {}, {}),
    "near 1e302": ("a\n" + "".join(f"{i}e302\n" for i in range(40)), {}, {}),
    "past the largest number": ("a\n" + "1e400\n" * 40, {}, "has no numeric column.*'1e400' in column 'a' is none"),
    "a number that is not finite": (
        "a,b\n" + "1,2\n" * 40 + "1,inf\n",
        {},
        "line 42: column 'b' is 'inf', which is not a",
    ),
    "a word among numbers": ("a,b\n" + "1,2\n" * 40 + "1,oops\n", {}, "line 42: column 'b' is 'oops'"),
    "rows of unequal length": (
        "a,b\n" + "1,2\n" * 40 + "1,2,3\n",
        {},
        "line 42: has 3 fields where the first line has 2",
    ),
    "a short row": ("a,b\n" + "1,2\n" * 40 + "1\n", {}, "line 42: has 1 fields where the first line has 2"),
    "an open quote": ("a,b\n" + "1,2\n" * 40 + '"1,2\n' + "1,2\n" * 40, {}, "table|fields"),
    "nothing numeric": (
        "a,b\n" + "x,12 %\n" * 40,
        {},
        "its columns are a, b; '12 %' in column 'b' is none; --percent reads it",
    ),
    "blank lines and rows": ("\n\n,\n" + PLAIN.replace("\n7.5", "\n\n7.5") + ",\n,\n", {}, dict(skiprows=3, nrows=40)),
    "a missing row within": (PLAIN.replace("\n7.5,49", "\n,"), {}, {}),
    "empty": ("", {}, "is empty"),
    "blank": ("\n ,\n", {}, "is empty"),
    "header only": ("a,b\n", {}, "has a header and no rows"),
    "few rows": ("a,b\n1,2\n", {}, "is too short: it has 1 row of numbers, at least 30"),
    "an encoding that is none": (PLAIN, {"encoding": "utf-9"}, "there is no encoding 'utf-9'"),
    "a separator that is none": (PLAIN, {"sep": "ab"}, "the separator must be one character"),
    "a true minus sign": (
        "a,b\n" + "".join(f"\u2212{i}.5,{i}\n" for i in range(40)),
        {},
        dict(converters={"a": _minus}),
    ),
    "quotes after a backslash": ("a,b\n" + '1,"say \\"x\\", 2"\n' * 40, {}, r'has quotes inside cells written as \\"'),
    "lines above the header": (
        "Station 7\n\na,b,c\n" + "1,2,3\n" * 40,
        {},
        "line 3: has 3 fields.*if lines above the header",
    ),
    "a workbook": (b"PK\x03\x04\x14\x00" + b"\0" * 99, {}, "is a spreadsheet or a zip archive; save the sheet as CSV"),
    "a mark that groups nothing": (PLAIN, {"thousands": "x"}, "thousands must be one of"),
}


@pytest.mark.parametrize("name", TABLES)
def test_table(name, tmp_path):
    content, ours, theirs = TABLES[name]
    path = save(tmp_path / "table.csv", content)
    if isinstance(theirs, str):
        with pytest.raises(DataError, match=theirs):
            read_csv(path, **ours)
        return
    table = read_csv(path, **ours)
    frame = pd.read_csv(path, **theirs)
    want = frame.select_dtypes("number").dropna(axis=1, how="all")
    assert [str(n) for n in want.columns] == (
        list(table.names)
        if "names" in theirs or theirs.get("header", 0) is not None
        else [str(i) for i in range(len(table.names))]
    )
    assert np.isfinite(table.values).all() and table.values.dtype == np.float64
    np.testing.assert_array_equal(table.missing, want.isna())
    np.testing.assert_allclose(table.values, want.fillna(0.0), rtol=1e-15)
    left = [c for c in frame.columns if c not in want.columns]
    assert [n for n in table.left_out if n not in ("row numbers", "column 1")] == [str(c) for c in left]


def test_a_column_that_a_flag_would_read_is_left_out_with_a_word(tmp_path):
    """Beside decimal commas 1.234 may be a thousand: it is not read as little more than one."""
    for x, y, said in [
        ("1.234,5", "7", "'1.234,5' in column 'x' is no number as it stands; --thousands '.' reads it"),
        ("1.234", "0,5", "'1.234' in column 'x' may be a thousand beside decimal commas; --thousands '.' reads it so"),
        ("5 %", "0,5", "'5 %' in column 'x' is no number as it stands; --percent reads it"),
    ]:
        table = read_csv(save(tmp_path / "t.csv", "x;y\n" + f"{x};{y}\n" * 40))
        assert table.names == ("y",) and table.left_out == ("x",) and table.remarks == (said,)


def test_a_header_that_may_be_values_is_remarked(tmp_path):
    """As the rule has it the first row is a header: one of its cells is no number."""
    table = read_csv(save(tmp_path / "t.csv", "".join(f"2024-01-{i:02},{i}.5\n" for i in range(1, 32))), fewest=2)
    assert table.names == ("1.5",) and table.remarks == (
        "the first row was read as names, though '1.5' is a number; --no-header reads it as values",
    )


def test_what_flags_read_that_pandas_does_not(tmp_path):
    table = read_csv(save(tmp_path / "t.csv", ENGLISH), thousands=",", percent=True, currency=True)
    days = np.arange(1, 41)
    np.testing.assert_allclose(table.values, np.stack([days, days * 1000 + 234.5, days + 0.5], 1))
    assert table.forms == (".0f", ".2f", ".1f") and not table.left_out
    with pytest.raises(DataError, match=r"line 2: column 'amount'.*|has no"):
        read_csv(save(tmp_path / "t.csv", ENGLISH + '3,"5",2%\n'))
    euro = "x;y\n" + "".join(f"({i}.000,25 €);{i},5 EUR\n" for i in range(1, 41))
    table = read_csv(save(tmp_path / "t.csv", euro), thousands=".", currency=True)
    np.testing.assert_allclose(table.values, np.stack([-1000 * days - 0.25, days + 0.5], 1))
    swiss = read_csv(save(tmp_path / "t.csv", "x\n" + "CHF 1'234.50\n" * 40), thousands="'", currency=True)
    assert swiss.values[0, 0] == 1234.5


@pytest.mark.parametrize("bad", ["1,5", "12,34", "1,2345", "1234,567"])
def test_a_mark_between_other_groups_than_of_three_is_refused(bad, tmp_path):
    with pytest.raises(DataError, match=f"'{bad}', which is not a finite number"):
        read_csv(save(tmp_path / "t.csv", "x;y\n" + "1,234;1\n" * 40 + f"{bad};1\n"), thousands=",")


def test_a_column_is_left_out_where_most_cells_are_words_and_refused_where_few_are(tmp_path):
    rows = "".join(f"{i},{'A' if i % 3 else i},{i}\n" for i in range(40))
    table = read_csv(save(tmp_path / "t.csv", "x,code,y\n" + rows))
    assert table.names == ("x", "y") and table.left_out == ("code",)
    assert table.summary() == "40 rows of x, y, left out as no numbers: code"


def test_the_summary_leaves_out_what_is_empty(tmp_path):
    table = read_csv(save(tmp_path / "t.csv", LOG))
    assert table.summary() == "40 rows of temp, hum, left out as no numbers: time, 7 missing values masked"
    assert read_csv(save(tmp_path / "t.csv", PLAIN)).summary() == "40 rows of a, b"


def test_columns_without_a_name_get_one_that_no_other_has(tmp_path):
    table = read_csv(save(tmp_path / "t.csv", "column 2,,column 4,\n" + "5,6,7,8\n" * 40))
    assert table.names == ("column 2", "column 2 (no name)", "column 4", "column 4 (no name)")
    numbered = "".join(f"{i},{i / 2}\n" for i in range(40))
    assert read_csv(save(tmp_path / "t.csv", "column 1,x\n" + numbered)).names == ("column 1", "x")
    assert read_csv(save(tmp_path / "t.csv", ",column 1\n" + numbered)).names == ("column 1",)


DATES = {
    "ISO": (lambda d: d.strftime("%Y-%m-%d %H:%M"), "h"),
    "with a zone": (lambda d: d.strftime("%Y-%m-%dT%H:%M:%S+00:00"), "h"),
    "German": (lambda d: d.strftime("%d.%m.%Y"), "D"),
    "US": (lambda d: d.strftime("%m/%d/%Y"), "D"),
    "British": (lambda d: d.strftime("%d/%m/%Y"), "D"),
    "US with time": (lambda d: d.strftime("%m/%d/%Y %I:%M %p"), "h"),
}


@pytest.mark.parametrize("name", DATES)
def test_dates(name, tmp_path):
    """Each way of writing days gives the days; where day and month could be either, order in time decides."""
    write, step = DATES[name]
    days = pd.date_range("2024-01-05", periods=40, freq=step)
    table = read_csv(save(tmp_path / "t.csv", "when,x\n" + "".join(f"{write(d)},{i}\n" for i, d in enumerate(days))))
    np.testing.assert_array_equal(table.dates, days.to_numpy())
    assert read_csv(save(tmp_path / "t.csv", PLAIN)).dates is None


def test_numbers_are_written_as_the_file_writes_them(tmp_path):
    text = 'x,"a, b",y\n' + "".join(f"{i},{i / 8:.3f},{1 + i / 10:.1f}e-12\n" for i in range(1, 41))
    table = read_csv(save(tmp_path / "t.csv", text))
    assert list(written(table.names, table.forms, table.values)) == text.splitlines()
    assert list(written(table.names, table.forms, [[-0.2, -0.0001, 0.0]]))[1] == "0,0.000,0.0e+00"


class _Growing:
    """A file to which another program appends while it is read."""

    def __init__(self, path, file):
        self.path, self.file = path, file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def fileno(self):
        return self.file.fileno()

    def read(self):
        raw = self.file.read()
        save(self.path, raw + b"1,2\n")
        return raw


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "t.csv", PLAIN)
    monkeypatch.setattr("rnnjax.data.files.open", lambda name, mode: _Growing(path, open(name, mode)), raising=False)
    with pytest.raises(DataError, match="changed while it was read"):
        read_csv(path)


def test_a_million_rows_in_seconds(tmp_path):
    """Against pandas on the same file: as much time and a few seconds more at most."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10_000, 3)).round(3)
    text = pd.DataFrame(values).to_csv(index=False, header=False)
    path = save(tmp_path / "t.csv", "a,b,c\n" + text * 100)
    start = time.process_time()
    table = read_csv(path)
    assert time.process_time() - start < 15
    np.testing.assert_array_equal(table.values, np.tile(values, (100, 1)))
    assert table.forms == (".3f",) * 3

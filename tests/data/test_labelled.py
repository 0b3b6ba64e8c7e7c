"""Tables of labelled sequences, against what pandas reads, and what is said of cells that can be meant in two ways."""

import csv
import gzip

import pandas as pd
import pytest

from rnnjax.data import DataError
from rnnjax.data.labelled import read_series, read_texts

COMMENTS = [(f'"No{"" if i % 3 else chr(34)}, he said, {i}', "ab"[i % 2]) for i in range(30)]


def test_quotes_between_tabs_are_letters_where_they_enclose_nothing(tmp_path):
    """As corpora have them: read as quotes they would make one text of several, and lose their labels without a word."""
    path = tmp_path / "t.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in COMMENTS))
    found = read_texts(path, "text", "label")
    frame = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE)
    assert list(zip(found.sequences, found.labels)) == COMMENTS == list(zip(frame.text, frame.label))


def test_a_text_may_be_a_book(tmp_path):
    """Longer than the cells that Python's reader takes by default, whose limit stays as it was."""
    limit, text = csv.field_size_limit(), "word, " * 50_000
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(f'text,label\n"{text}",a\nshort,b\n'.encode("utf-16")))
    assert read_texts(tmp_path / "t.csv.gz", "text", "label").sequences == [text, "short"]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("word", ["None", "NA", "null"])
def test_a_label_that_stands_for_a_missing_one_is_said(word, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"id,x,grade\n1,5,{word}\n2,6,mild\n")
    found = read_series(path, "id", "grade")
    assert found.labels == ["", "mild"] and pd.read_csv(path).grade.isna().tolist() == [True, False]
    assert found.remarks == (f"{word!r} in column 'grade' stands for a missing label; write the class in another word",)


def test_nothing_numeric_shows_a_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,x,y\n1,12 %,a\n2,13 %,b\n")
    with pytest.raises(
        DataError, match=r"no numeric column beside 'id'; .* '12 %' in column 'x' is none; --percent reads it"
    ):
        read_series(path, "id", "y")

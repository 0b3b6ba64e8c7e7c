"""Real data without downloads at run time: the standard library's text, the user's text and CSV files."""

from rnnjax.data.errors import DataError
from rnnjax.data.files import beginning
from rnnjax.data.layout import looks_like_table
from rnnjax.data.season import season_of
from rnnjax.data.sets import load, names
from rnnjax.data.streams import held_out, windows
from rnnjax.data.table import Table, read_csv, written
from rnnjax.data.text import Vocabulary, python_documentation, read_text

__all__ = [
    "DataError",
    "Table",
    "Vocabulary",
    "beginning",
    "held_out",
    "load",
    "looks_like_table",
    "names",
    "python_documentation",
    "read_csv",
    "read_text",
    "season_of",
    "windows",
    "written",
]

"""Data: the user's text and CSV files, real sets out of published packages, and what is made on the fly (`synthetic`)."""

from rnnjax.data import sound, synthetic
from rnnjax.data.batching import Batches, batches
from rnnjax.data.errors import DataError
from rnnjax.data.files import beginning
from rnnjax.data.layout import looks_like_table
from rnnjax.data.padding import pad
from rnnjax.data.season import season_of, seasons_of
from rnnjax.data.sets import load, names
from rnnjax.data.streams import held_out, windows
from rnnjax.data.table import Table, read_csv, written
from rnnjax.data.text import Vocabulary, python_documentation, read_text

__all__ = [
    "Batches",
    "DataError",
    "Table",
    "Vocabulary",
    "batches",
    "beginning",
    "held_out",
    "load",
    "looks_like_table",
    "names",
    "pad",
    "python_documentation",
    "read_csv",
    "read_text",
    "season_of",
    "seasons_of",
    "sound",
    "synthetic",
    "windows",
    "written",
]

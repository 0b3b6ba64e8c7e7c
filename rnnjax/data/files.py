"""Files as letters: bytes read once and whole, unpacked, and decoded."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import IO, Any
from weakref import WeakKeyDictionary

from rnnjax.data.errors import DataError

STANDARD_INPUT = "-"
GZIP = b"\x1f\x8b"
MARKS = {  # byte-order marks; UTF-32's first, as one of them starts like one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(path: str | Path, kind: str, encoding: str | None = None) -> str:
    r"""The letters of a file, gzip unpacked, ends of lines as ``\n``; ``kind`` is what it should hold.

    encoding: as Python names it. None: by the byte-order mark, UTF-8 where there is none.
    Raises: DataError if it holds something else, is cut short, or there is no such encoding.
    """
    raw, path = unpacked(path, read_bytes(path)), called(path)
    other = next((what for mark, what in OTHERS.items() if raw.startswith(mark)), None)
    if other is not None:
        raise DataError(f"{path} is {other}")
    name = encoding or next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    if encoding is None and name == "utf-8" and b"\0" in raw:
        raise DataError(_binary(path, kind, raw))
    try:
        text = raw.decode(name)
    except UnicodeDecodeError as error:
        at = f"byte {raw[error.start]:#04x} at place {error.start}" if error.start < len(raw) else "it is cut short"
        raise DataError(
            f"{path} is not {kind} in {name.upper()} ({at}); convert it to UTF-8, or say what it is in by --encoding "
            "(cp1252, as many spreadsheets write)"
        ) from None
    except LookupError:
        raise DataError(
            f"there is no encoding {name!r} of text; some that exist are utf-8, cp1252, latin-1, utf-16, shift_jis"
        ) from None
    if "\0" in text:
        raise DataError(f"{path} is a binary file (in {name.upper()} it holds zeros); a {kind} file is needed")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def beginning(path: str | Path, size: int = 1 << 16) -> str:
    """The first letters of a file, as far as they can be read. Raises: DataError if it cannot be opened."""
    if str(path) == STANDARD_INPUT:
        return first_letters(path, standard_input()[:size], size)
    check_no_pipe(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    return first_letters(path, raw, size)


def first_letters(path: str | Path, raw: bytes, size: int) -> str:
    """Bytes that may stop in the middle as letters."""
    if raw.startswith(GZIP):
        try:
            raw = zlib.decompressobj(31).decompress(raw, size)
        except zlib.error as error:
            raise DataError(f"{called(path)} is a broken gzip file ({error}); fetch or pack it again") from None
    name = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8-sig")
    return raw.decode(name, errors="ignore").replace("\r\n", "\n").replace("\r", "\n")


def unpacked(path: str | Path, raw: bytes) -> bytes:
    """What a gzip file holds; other bytes as they are."""
    if not raw.startswith(GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{called(path)} is a broken gzip file ({error}); fetch or pack it again") from None


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises: DataError if it is missing, a folder, unreadable, or changes while it is read.
    """
    if str(path) == STANDARD_INPUT:
        return standard_input()
    check_no_pipe(path)
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            raw = file.read()
            after = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of a file") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give the path of a file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(raw))
    if stat.S_ISREG(before.st_mode) and changed:
        raise DataError(f"{path} changed while it was read; wait until it is written, then try again")
    return raw


_piped: WeakKeyDictionary[IO[Any], bytes] = WeakKeyDictionary()


def standard_input() -> bytes:
    """All that comes on standard input, read once and kept. Raises: DataError where nothing is piped in."""
    stream = sys.stdin
    if stream is None or stream.isatty():
        raise DataError("- stands for standard input, and nothing is piped in; write cat FILE | rnnjax train --data -")
    if stream not in _piped:
        _piped[stream] = stream.buffer.read()
    return _piped[stream]


def check_no_pipe(path: str | Path) -> None:
    """Raises: DataError for a pipe, which can be read only once."""
    if Path(path).is_fifo():
        raise DataError(
            f"{path} is a pipe, which can be read only once; hand it over as standard input: --data - < {path}"
        )


def called(path: str | Path) -> str:
    """How a file is called in sentences."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


OTHERS = {  # how files begin that are taken for tables and texts
    b"PK\x03\x04": "a spreadsheet or a zip archive; save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office file; save the sheet as CSV, or the document as text",
    b"PAR1": "a Parquet file; write it as CSV (pandas: read_parquet, then to_csv)",
    b"%PDF": "a PDF file; save its text to a file",
    b"SQLite format 3": "a database; write the table as CSV",
    b"BZh91AY&SY": "packed by bzip2; unpack it, or pack it by gzip",
    b"\xfd7zXZ\x00": "packed by xz; unpack it, or pack it by gzip",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it, or pack it by gzip",
    GZIP: "packed by gzip twice; unpack it once",
}


def _binary(path: str | Path, kind: str, raw: bytes) -> str:
    """UTF-16 without its mark has a zero in nearly every second place, and none in the others."""
    wide = next((name for i, name in enumerate(("be", "le")) if raw[i::2].count(0) > len(raw) // 3), None)
    hint = f"; if it is text in UTF-16, say so by --encoding utf-16-{wide}" if wide else ""
    return f"{path} is a binary file (it holds zero bytes); a {kind} file in UTF-8 is needed{hint}"

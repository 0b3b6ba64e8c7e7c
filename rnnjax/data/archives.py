"""Members of published packages, read without running or installing anything: wheels, zip, tar, Debian's ``ar``."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from rnnjax.data.errors import DataError


def members(path: Path) -> dict[str, bytes]:
    """Every file of a package by its path inside. Raises: DataError if it is no package that can be read."""
    raw = path.read_bytes()
    try:
        if path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        return _tar(_data_of_deb(raw) if path.suffix == ".deb" else raw)
    except Exception as error:  # of zipfile, tarfile, zlib, lzma, or of what they make of a damaged header
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be opened ({reason}); remove it, and it is fetched anew") from None


def ar_members(raw: bytes) -> dict[str, bytes]:
    """The members of an ``ar`` archive: a line of 60 bytes each (name 16, ..., size 10 at 48), padded to even length."""
    if not raw.startswith(b"!<arch>\n"):
        raise ValueError("it is no ar archive")
    found, at = {}, 8
    while at + 60 <= len(raw):
        name, size = raw[at : at + 16].decode().rstrip().rstrip("/"), int(raw[at + 48 : at + 58])
        if size < 0 or raw[at + 58 : at + 60] != b"`\n" or at + 60 + size > len(raw):
            raise ValueError("an ar archive that is cut short")
        found[name] = raw[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def _data_of_deb(raw: bytes) -> bytes:
    found = [part for name, part in ar_members(raw).items() if name.startswith("data.tar")]
    if not found:
        raise ValueError("it has no data.tar")
    return found[0]


def _tar(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = [entry for entry in archive if entry.isfile()]
        if any(entry.issparse() for entry in files):  # a few bytes that stand for any number of zeros
            raise ValueError("it has a sparse file")
        return {entry.name.removeprefix("./"): archive.extractfile(entry).read() for entry in files}  # type: ignore[union-attr]

"""Members of published packages, read without running or installing anything: wheels, zip, tar, Debian's ``ar``, pickled arrays."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


def members(path: Path) -> dict[str, bytes]:
    """Every file of a package by its path inside. Raises: DataError if it is no package that can be read."""
    try:
        if path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(path) as archive:
                return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        raw = path.read_bytes()
        return _tar(_data_of_deb(raw) if path.suffix == ".deb" else raw)
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path} cannot be opened ({error}); remove it, and it is fetched anew") from None


def ar_members(raw: bytes) -> dict[str, bytes]:
    """The members of an ``ar`` archive: a line of 60 bytes each (name 16, ..., size 10 at 48), padded to even length."""
    if not raw.startswith(b"!<arch>\n"):
        raise ValueError("it is no ar archive")
    found, at = {}, 8
    while at + 60 <= len(raw):
        name, size = raw[at : at + 16].decode().rstrip().rstrip("/"), int(raw[at + 48 : at + 58])
        if raw[at + 58 : at + 60] != b"`\n" or at + 60 + size > len(raw):
            raise ValueError("an ar archive that is cut short")
        found[name] = raw[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def _data_of_deb(raw: bytes) -> bytes:
    return next(part for name, part in ar_members(raw).items() if name.startswith("data.tar"))


def _tar(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = (entry for entry in archive if entry.isfile())
        return {entry.name.removeprefix("./"): archive.extractfile(entry).read() for entry in files}  # type: ignore[union-attr]


def objects(raw: bytes) -> Any:
    """What a ``.npy`` file of Python objects holds: numbers, text, lists, dicts, arrays. Raises: DataError if it asks for anything else."""
    file = io.BytesIO(raw)
    if np.lib.format.read_magic(file) != (1, 0):
        raise DataError("an .npy file of a version that is not read here")
    np.lib.format.read_array_header_1_0(file)
    return _Plain(file).load().item()


class _Plain(pickle.Unpickler):
    """Makes arrays and calls nothing else, whatever the file says."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda kind, shape, code: np.ndarray(shape, np.dtype(code))
        if (module, name) == ("_codecs", "encode"):  # how old pickles write bytes
            return lambda text, code: str(text).encode("latin-1")
        raise DataError(f"a file of arrays asks for {module}.{name}, which is not made here")

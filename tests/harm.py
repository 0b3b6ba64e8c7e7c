"""Harm done to whole files, by strategies of hypothesis, and the watch over whoever reads them.

A reader may give a result or one of the errors that it documents, in one line, within bounds of memory and processor time; it
runs no code and opens nothing elsewhere. Each test does so a few times, CI some hundred times, and `pytest -m long` 100,000
times a format (``RNNJAX_HARMS``; ``RNNJAX_SEED`` gives other ones), and prints the counts (``-rP`` shows them).
"""

import collections
import dataclasses
import json
import os
import resource
import signal
import struct
import sys
import time
import typing
import zipfile
from collections import Counter
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOM = 2**30  # bytes that reading a file of kilobytes may need at most
SECONDS = 20  # of the processor, for one file
CHUNK = 1000  # examples that hypothesis is asked for at once: it remembers them
SEED = int(os.environ.get("RNNJAX_SEED", "0"))
LONG = int(os.environ.get("RNNJAX_HARMS", "100000"))


def counts(few=40, many=300):
    """How many examples: of the default suite, of the slow tests in CI, and of the long ones."""
    slow, long = pytest.mark.slow, pytest.mark.long
    some = [pytest.param(many, marks=slow, id="many"), pytest.param(LONG, marks=[slow, long], id="all")]
    return pytest.mark.parametrize("count", [pytest.param(few, id="few"), *some])


# -- what is done to bytes ---------------------------------------------------------------------------------------------

EDGES = [-1, 0, 1, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1]
FORMS = ["<b", "<h", "<i", "<q", ">i", ">q"]
WORDS = [
    b"\0", b'"', b"\xff\xfe", b"\x1f\x8b", b",", b";", b"\t", b"\n", b"\r", b"nan", b"1e999", b"-", b"\xc3", b"[", b"{", b"}", b"../",
    b"\xff" * 9 + b"\x01", b"PK\x03\x04", b"\x80\x04",
]  # fmt: skip


def packed(number: int, form: int) -> bytes:
    """A number at an edge as so many bytes, wrapped to fit."""
    code = FORMS[form % len(FORMS)]
    bits = 8 * struct.calcsize(code)
    return struct.pack(code, (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1))


# What comes in the place of a piece; `n` is any number, and `whole` the file.
HARMS = [
    lambda piece, n, whole: bytes(byte ^ 1 << n % 8 for byte in piece[:1]) + piece[1:],
    lambda piece, n, whole: b"",
    lambda piece, n, whole: 2 * piece,
    lambda piece, n, whole: piece * (n % 200),
    lambda piece, n, whole: bytes(len(piece)),
    lambda piece, n, whole: piece[::-1],
    lambda piece, n, whole: whole[n % (len(whole) + 1) :][: len(piece)],
    lambda piece, n, whole: packed(EDGES[n % len(EDGES)], n) + piece[8:],
    lambda piece, n, whole: str(EDGES[n % len(EDGES)]).encode(),
    lambda piece, n, whole: WORDS[n % len(WORDS)] + piece,
    lambda piece, n, whole: WORDS[n % len(WORDS)] * (n % 200) + piece,
]


def in_bytes(*wholes):
    """One of the files with one to five harms, now and then cut off."""
    number = st.integers(0, 2**16)
    harm = st.tuples(
        st.integers(0, len(HARMS) - 1), st.integers(0, 2**20), st.sampled_from([1, 1, 2, 8, 30, 300]), number
    )
    cut = st.sampled_from([None] * 9 + [0.1, 0.5, 0.9, 0.99])
    return st.tuples(st.sampled_from(wholes), st.lists(harm, min_size=1, max_size=5), cut).map(
        lambda drawn: harmed(*drawn)
    )


def harmed(whole: bytes, harms, cut=None) -> bytes:
    """The file after each ``(which, at, size, number)`` in turn; ``cut`` is the share of it that stays."""
    content = whole
    for which, at, size, number in harms:
        at %= len(content) + 1
        content = content[:at] + HARMS[which](content[at : at + size], number, content) + content[at + size :]
    return content if cut is None else content[: int(cut * len(content))]


# -- what is done to what they mean ------------------------------------------------------------------------------------

NODES = [
    None, [], {}, "", "x", 0, 1, -1, 3, 0.5, 2**31, 2**40, 2**63 - 1, 2**70, 1e308, float("nan"), float("inf"), True, [[]], {"a": 1},
    "lstm", "F64", "two\nlines", "../x", "/etc/passwd", [1, "2"], [2**31] * 3, [0, 2**40], 70 * "[" + 70 * "]", ".".join("a" * 3000),
]  # fmt: skip


def in_json(*documents):
    """A JSON document with one to three values changed, removed or under other names; still JSON."""
    number = st.integers(0, 2**16)
    change = st.tuples(number, st.sampled_from(["value"] * 5 + ["gone", "name"]), st.sampled_from(NODES))
    changes = st.lists(change, min_size=1, max_size=3)
    return st.tuples(st.sampled_from(documents), changes).map(lambda drawn: json.dumps(restructured(*drawn)).encode())


def restructured(document, changes):
    """The document after each ``(place, how, node)`` in turn."""
    root = {"": json.loads(json.dumps(document))}
    for place, how, node in changes:
        inside = [*places(root)]
        holder, key = inside[place % len(inside)]
        if how == "value" or holder is root:
            holder[key] = json.loads(json.dumps(node))  # which the next harm may change
        elif how == "gone":
            del holder[key]
        elif isinstance(holder, dict):
            holder[node if isinstance(node, str) else "other"] = holder.pop(key)
    return root[""]


def places(holder):
    """Every ``(dict or list, key)`` at or below."""
    for key in [*holder] if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], (dict, list)):
            yield from places(holder[key])


def in_zip(*wholes):
    """A zip file with one of its members harmed, and packed again: it opens."""
    number = st.integers(0, 2**16)
    part = [[zipped.read(name) for name in zipped.namelist()] for zipped in map(opened, wholes)]
    return st.integers(0, len(wholes) - 1).flatmap(
        lambda k: st.tuples(number, in_bytes(*part[k])).map(lambda drawn: repacked(wholes[k], *drawn))
    )


def opened(whole: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(BytesIO(whole))


def repacked(whole: bytes, place: int, content: bytes) -> bytes:
    """The zip file with the member at this place exchanged."""
    file, before = BytesIO(), opened(whole)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
        for k, name in enumerate(before.namelist()):
            after.writestr(name, content if k == place % len(before.namelist()) else before.read(name))
    return file.getvalue()


# -- who reads is watched ----------------------------------------------------------------------------------------------

RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}
RUNS |= {"ctypes.dlopen", "socket.connect", "socket.bind", "os.putenv", "os.kill"}
TOUCHES = {"open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate"}
SYSTEM = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), "/dev", "/proc", "/usr/share/zoneinfo", "/sys"]
SYSTEM += [os.environ.get("JAX_COMPILATION_CACHE_DIR", "/dev"), *(path for path in sys.path if path)]

_watch: dict = {"folder": None, "seen": []}


class Hung(BaseException):
    """The processor's time is up."""


def _audit(event, args):
    if _watch["folder"] is None:
        return
    if (
        event in RUNS
        or (event in TOUCHES and not allowed(args[0]))
        or (event == "exec" and not known(args[0], sys._getframe(1)))
    ):
        _watch["seen"].append((event, args))
        raise PermissionError(f"a reader asked for {event} {args}")


def allowed(path) -> bool:
    """In the folder that is given to the reader, or of Python and its libraries, which load parts of theirs late."""
    if isinstance(path, int):
        return True
    path = os.path.realpath(os.fsdecode(path))
    return any(
        os.path.commonpath([path, os.path.realpath(root)]) == os.path.realpath(root)
        for root in (_watch["folder"], *SYSTEM)
    )


def known(code, asks) -> bool:
    """Code out of a file of Python's or of a library, which is imported late; or of hints and fields, which stand in such files."""
    late = allowed(code.co_filename) and code.co_filename.endswith(".py")
    return late or asks.f_code.co_filename in {module.__file__ for module in (typing, dataclasses, collections)}


@contextmanager
def watched(folder, room=ROOM, seconds=SECONDS):
    """No more than so much memory and time of the processor; no code is run, and nothing opened but in ``folder``."""
    if not _watch["seen"] and "on" not in _watch:
        _watch["on"] = True
        sys.addaudithook(_audit)
    limits, held = resource.getrlimit(resource.RLIMIT_AS), int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    handler = signal.signal(signal.SIGPROF, hung)
    began = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    _watch["folder"] = str(folder)
    try:
        yield
    finally:
        _watch["folder"] = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    seen, _watch["seen"] = _watch["seen"], []
    assert not seen, seen
    assert time.process_time() - began < seconds, "it took too long"


def hung(*_):
    raise Hung(f"more than {SECONDS} seconds of the processor")


def outcome(read, *args, folder, errors) -> str:
    """ "read", or "refused" by one of these errors, exactly of that class and in one line."""
    try:
        with watched(folder):
            read(*args)
    except Exception as error:
        if type(error) not in errors or not str(error) or "\n" in str(error):
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        return "refused"
    return "read"


def tried(strategy, read, count, *, folder, errors) -> Counter:
    """How often so many harmed files were read and refused; whatever else comes of one fails the test, with that file."""
    seen = Counter()

    def one(drawn):
        seen[outcome(read, drawn, folder=folder, errors=errors)] += 1

    for begin in range(0, count, CHUNK):
        how = settings(
            max_examples=min(CHUNK, count - begin), database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck), print_blob=False,
        )  # fmt: skip
        seed(SEED * 10**6 + begin)(how(given(strategy)(one)))()
    if count >= LONG:
        print(f"\n{sum(seen.values())} files: {dict(seen)}")
    return seen

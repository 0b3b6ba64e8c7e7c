"""Damaged packages: wheels, tar, Debian's, files of pickled arrays. What is in them, or one sentence."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from harm import counts, in_bytes, in_zip, tried
from hypothesis import strategies as st

from rnnjax.data import DataError, archives, pickled

FILES = {"a/one.txt": b"one\n" * 30, "a/two.csv": b"x,y\n1,2\n" * 9}


def zipped(how):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(mode, form=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo("./" + name)
            entry.size, entry.pax_headers = len(content), {"comment": "x"}
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def deb(inner):
    line = lambda name, raw: f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(raw):<10}`\n".encode()
    return b"!<arch>\n" + line("debian-binary", b"2.0\n") + b"2.0\n" + line("data.tar.xz", inner) + inner


def npy():
    file = io.BytesIO()
    value = {
        "X": [np.arange(6.0).reshape(2, 3), np.array(["ab", None], object)],
        "y": np.array([1, 2]),
        "names": [b"a", "b", 3.5],
    }
    np.save(file, np.array(value, object), allow_pickle=True)
    return file.getvalue()


WHOLE = {
    "x.whl": [zipped(zipfile.ZIP_DEFLATED), zipped(zipfile.ZIP_STORED)],
    "x.tar": [tarred("w"), tarred("w", tarfile.GNU_FORMAT), tarred("w:gz"), tarred("w:bz2"), tarred("w:xz")],
    "x.deb": [deb(tarred("w:xz"))],
    "x.npy": [npy()],
}


@pytest.mark.parametrize("name", WHOLE)
@counts(10, 200)
def test_harmed(name, count, tmp_path):
    path = tmp_path / name

    def read(content):
        path.write_bytes(content)
        pickled.objects(content) if name == "x.npy" else archives.members(path)

    for whole in WHOLE[name]:
        read(whole)
        assert name == "x.npy" or archives.members(path) == FILES
    harm = in_bytes(*WHOLE[name])
    if name == "x.whl":
        harm = st.one_of(harm, in_zip(*WHOLE[name]))
    tried(harm, read, count, folder=tmp_path, errors=(DataError,))

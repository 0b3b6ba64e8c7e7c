"""Damaged checkpoints never go on wrong; one run at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from train import problem

from rnnjax.lock import Busy, Lock
from rnnjax.train import Checkpoints, Damaged
from rnnjax.train.checkpoint import OtherFormat
from rnnjax.train.digest import damage

LIKE = {"params": {"w": np.arange(40.0, dtype="float32"), "b": np.ones((3, 2), "float32")}, "n": np.int32(3)}


def tree(step: int):
    return jax.tree.map(lambda a: a + step, LIKE)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Two checkpoints, of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("written")
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, tree(step), {"at": step})
    checkpoints.close()
    return folder


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


HARM = {
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "flipped at its end": lambda path: flip(path, path.stat().st_size - 1),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "harm", [h if h in ("flipped", "removed") else pytest.param(h, marks=pytest.mark.slow) for h in HARM]
)
def test_each_file_of_a_checkpoint_damaged(written, tmp_path, harm):
    """The one before is used, and a warning names the file."""
    for number, name in enumerate(files_of(written / "2")):
        here = tmp_path / str(number)
        shutil.copytree(written, here)
        path = here / "2" / name
        if not path.stat().st_size and harm != "removed" and harm != "longer":
            continue  # there is nothing to damage
        HARM[harm](path)
        checkpoints = Checkpoints(here)
        with pytest.warns(RuntimeWarning, match=f"going on from step 1, as .*{name.name.replace('.', '[.]')}"):
            found, record = checkpoints.restore(LIKE)
        checkpoints.close()
        assert record == {"at": 1}
        jax.tree.map(np.testing.assert_array_equal, found, tree(1))


@pytest.mark.slow
def test_each_file_flipped_at_twenty_places(written, tmp_path):
    """One bit, at random places of every file in turn: none goes unseen. That it is then told is tested above."""
    pick, here = random.Random(0), tmp_path / "run"
    shutil.copytree(written, here)
    tried = 0
    for name in files_of(written / "2"):
        path = here / "2" / name
        content = path.read_bytes()
        for at in [pick.randrange(len(content)) for _ in range(20 * bool(content))]:
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << pick.randrange(8)]) + content[at + 1 :])
            assert name.name in (damage(here / "2") or ""), (name, at)
            tried += 1
        path.write_bytes(content)
    assert damage(here / "2") is None and tried >= 200


def test_a_strange_file_in_a_checkpoint(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    (tmp_path / "run" / "2" / "state" / "strange").write_text("?")
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="strange was not there"):
        assert checkpoints.restore(LIKE)[1] == {"at": 1}
    checkpoints.close()


def test_no_checkpoint_is_whole(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    for step in "12":
        flip(max((tmp_path / "run" / step).rglob("*"), key=lambda path: path.is_file() and path.stat().st_size), 5)
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Damaged, match="no checkpoint in .* is whole: .* is not what was written; put the files back"):
        checkpoints.restore(LIKE)
    checkpoints.close()


def test_a_checkpoint_of_a_later_version(tmp_path, monkeypatch):
    """Whole, but to be read otherwise: a sentence, whatever its arrays."""
    monkeypatch.setattr("rnnjax.train.checkpoint.FORMAT", 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"other": np.ones(3)}, {"at": 1})
    monkeypatch.undo()
    with pytest.raises(
        OtherFormat, match="step 1 in .* is of format 2, and this version of rnnjax reads format 1; use"
    ):
        checkpoints.restore(LIKE)
    checkpoints.close()


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch):
    """And files dated in years to come: which is the newest its step says."""
    checkpoints, clock = Checkpoints(tmp_path, keep=2), iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 10**9)
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step), {"at": step})
        for path in (tmp_path / str(step)).rglob("*"):
            os.utime(path, (4e9 / step, 4e9 / step))
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["2", "3"] and checkpoints.restore(LIKE)[1] == {"at": 3}
    checkpoints.close()


def test_what_else_lies_beside_checkpoints(written, tmp_path):
    """Copies and notes of the user: not read, and not removed."""
    shutil.copytree(written, tmp_path / "run")
    for name in ("3 (copy)", "old", "²", "04x"):
        shutil.copytree(written / "1", tmp_path / "run" / name)
    (tmp_path / "run" / "9").write_text("a note")
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.tidy()
    assert checkpoints.restore(LIKE)[1] == {"at": 2}
    checkpoints.save(3, tree(3), {})
    checkpoints.close()
    assert sorted(os.listdir(tmp_path / "run")) == sorted(["2", "3", "3 (copy)", "old", "²", "04x", "9"])


def test_a_run_goes_on_from_the_checkpoint_before(tmp_path):
    """Bit for bit what it would have been; the damaged one is written anew."""
    whole = problem.fit(out=tmp_path / "whole")
    problem.fit(out=tmp_path / "run", steps=30)
    newest = max((tmp_path / "run" / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    flip(max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size), 40)
    with pytest.warns(RuntimeWarning, match="going on from step"):
        again = problem.fit(out=tmp_path / "run", resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, again.state.params)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
        assert checkpoints.whole() == 45
        checkpoints.close()


def test_killed_before_the_digest_of_the_first_checkpoint(tmp_path):
    """It was not finished: the run starts anew."""
    whole = problem.fit(out=tmp_path / "whole", steps=12)
    problem.fit(out=tmp_path / "run", steps=6)
    (tmp_path / "run" / "checkpoints" / "6" / "sha256.txt").unlink()
    again = problem.fit(out=tmp_path / "run", steps=12, resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, again.state.params)


HOLDER = """
import sys
from rnnjax.lock import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time_in_a_folder(tmp_path):
    """A sentence for who comes second; when the owner dies, however it dies, the folder is free."""
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdout.readline() == "held\n"
    with pytest.raises(
        Busy, match=f"another run .process {owner.pid}.; wait until it has ended, or give another folder"
    ):
        problem.fit(out=tmp_path)
    assert os.listdir(tmp_path) == [".lock"]
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(lambda: Lock(tmp_path, wait=True).__enter__())
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        owner.kill()
        owner.communicate()
        waiting.result().__exit__(None, None, None)
    with Lock(tmp_path), Lock(tmp_path):  # and again by the same process
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert os.listdir(tmp_path) == []


def test_another_container_whose_process_has_the_same_number(tmp_path):
    """On one disk: each is process 1 to itself, say, and the kernel alone knows that they are two."""
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(str(os.getpid()))
        other.flush()
        with pytest.raises(Busy, match=f"being written by another run .process {os.getpid()}."):
            Lock(tmp_path).__enter__()
    with Lock(tmp_path), Lock(tmp_path):
        pass


@pytest.mark.parametrize("background", [False, True])
def test_the_newest_and_the_best_are_kept(tmp_path, background):
    """Losses at steps 1, 2, 3, 5; the state is changed after each save, as a step does that reuses the buffers."""
    checkpoints, state = Checkpoints(tmp_path, keep=2, keep_best=1, background=background), tree(0)
    for step, loss in enumerate([3.0, 1.0, 2.0, None, 4.0, None], 1):
        state["params"]["w"][:] = step
        record = {"at": step, "seen": []}
        checkpoints.save(step, state, record, loss)
        state["params"]["w"][:] = -1
        record["seen"].append(object())
    assert checkpoints.latest() == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5", "6"]
    found, record = checkpoints.restore(LIKE)
    assert record == {"at": 6, "seen": []} and (found["params"]["w"] == 6).all()
    checkpoints.close()


def test_what_a_thread_could_not_write_is_raised_by_the_next_call(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", background=True)
    shutil.rmtree(tmp_path / "run")
    checkpoints.save(1, tree(1), {})
    with pytest.raises(OSError, match="No such file"):
        checkpoints.close()

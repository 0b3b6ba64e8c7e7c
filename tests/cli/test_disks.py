"""Full disks and folders that go away while a run writes: one sentence, and what was written before is kept."""

import asyncio
import errno
import gc
import logging
import os
import shutil
import subprocess
import sys

import jax
import pytest
from train import problem

import rnnjax as rj
from rnnjax.cli import explain, main
from rnnjax.train import Checkpoints

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40


def test_no_room_for_more_files(tmp_path, monkeypatch):
    """Told before anything is written; the checkpoint before stays whole."""
    statvfs, checkpoints = os.statvfs, Checkpoints(tmp_path)
    checkpoints.save(1, {"w": 1.0 * problem.X}, {})
    few = lambda path: os.statvfs_result([3 if i == 7 else n for i, n in enumerate(statvfs(path))])
    monkeypatch.setattr(os, "statvfs", few)
    with pytest.raises(OSError, match="for more files") as found:
        checkpoints.save(2, {"w": problem.X}, {})
    assert found.value.errno == errno.ENOSPC and "the disk is full" in explain(found.value)
    assert (checkpoints.whole(), os.listdir(tmp_path)) == (1, ["1"])
    checkpoints.close()


def test_full_in_the_middle_of_a_checkpoint(tmp_path, capfd):
    """A file that may not grow stands for the disk: orbax has begun, and nothing of it is left, nor said twice."""
    import resource

    size = 200_000
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"w": problem.X}, {})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkey = pytest.MonkeyPatch()
    monkey.setattr("rnnjax.train.checkpoint._make_sure_of_room", lambda folder, tree: None)
    random = jax.random.normal(jax.random.key(0), (size,))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        with pytest.raises(OSError) as found:
            checkpoints.save(2, {"w": random}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        monkey.undo()
    assert "the disk is full" in explain(found.value)
    assert (checkpoints.whole(), os.listdir(tmp_path)) == (1, ["1"])
    checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("when", [21, pytest.param(8, marks=pytest.mark.slow)])
def test_the_folder_is_removed_during_the_run(tmp_path, when):
    """Before a metrics line, or before a checkpoint."""
    window = rj.data.windows(problem.VALUES, 3, 5)

    def removed(step):
        if step == when:
            shutil.rmtree(tmp_path / "run")
        return window(step)

    with pytest.raises(OSError) as found:
        problem.fit(tmp_path / "run", batches=removed)
    assert str(explain(found.value)).startswith("cannot read or write the run: No such file or directory (")
    assert not os.listdir(tmp_path)


def test_overwrite_under_a_live_run_is_refused(tmp_path, capsys):
    """Nothing of the live run is touched. Process 1 stands for its owner."""
    import fcntl

    (tmp_path / "cat.txt").write_text(TEXT)
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("{}")
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("1")
        lock.flush()
        argv = ["train", "--data", str(tmp_path / "cat.txt"), "--out", str(out), "--overwrite", "--hidden", "4"]
        assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is being written by another run (process 1); wait until" in said
    assert sorted(os.listdir(out)) == [".lock", "config.json"] and (out / "config.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize("files", [5, 12, 33])
def test_inodes_run_out(files, tmp_path):
    """A disk of its own, with the check before taken away, so that orbax and tensorstore are in the middle."""
    (tmp_path / "cat.txt").write_text(TEXT)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,nr_inodes={files}", "tmpfs", str(disk)])
    if mount.returncode:
        pytest.skip("only root may mount a disk")
    script = """
import sys
import rnnjax.train.checkpoint as c
from rnnjax import _signals
from rnnjax.cli import main
c.FILES = 0
_signals.leave(main(sys.argv[1:]))  # as the command does that did not go well
"""
    flags = [
        "train",
        "--data",
        tmp_path / "cat.txt",
        "--out",
        disk / "run",
        "--hidden",
        "8",
        "--time",
        "8",
        "--steps",
        "9",
    ]
    try:
        argv = [sys.executable, "-c", script, *map(str, flags), "--validate-every", "3"]
        done = subprocess.run(argv, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "the disk is full" in done.stderr, done.stderr


def test_what_is_held_back_after_a_failure_is_no_error_of_others(caplog):
    """Of futures that nobody asked: what native code set without a frame of Python is a checkpoint's, the others are told."""
    from rnnjax.train.quiet import only_the_error

    def left_alone(error):
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(error)
        gc.collect()
        loop.close()

    def raised(error):
        try:
            raise error
        except type(error) as caught:
            return caught

    logger = logging.getLogger("asyncio")
    with pytest.raises(OSError, match="full"), only_the_error(redirect=False):
        raise OSError("full")
    try:
        for error in (ValueError("native"), raised(ValueError("one of Python's")), RuntimeError("another kind")):
            left_alone(error)
    finally:
        logger.filters.clear()
    told = [str(record.exc_info[1]) for record in caplog.records if record.name == "asyncio"]
    assert told == ["one of Python's", "another kind"]


@pytest.mark.slow
def test_nothing_is_said_late(tmp_path):
    """Twenty checkpoints that fail in twenty ways: what other threads, loops and futures say of it afterwards is held back too."""
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=8", "tmpfs", str(tmp_path)])
    if mount.returncode:
        pytest.skip("only root may mount a disk")
    script = """
import gc, shutil, subprocess, sys, time
import numpy as np
import rnnjax.train.checkpoint as c
c.FILES, folder = 0, sys.argv[1]
for k in range(20):
    subprocess.run(["mount", "-o", f"remount,size=4m,nr_inodes={8 + k % 12}", folder], check=True)
    try:
        c.Checkpoints(folder + "/run").save(1, {str(i): np.ones((20, 20)) for i in range(12)}, {})
        print("no failure with", 8 + k % 12)
    except OSError:
        shutil.rmtree(folder + "/run")
time.sleep(1.0)
gc.collect()
"""
    try:
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""`rnnjax train` in several processes, and what a step takes in memory."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rnnjax.cli import distributed, main, memory, roll_call
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings
from rnnjax.train import Damaged

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40
SMALL = ["--hidden", "8", "--batch", "4", "--time", "8", "--validate-every", "20", "--patience", "9999"]


def flags(**given):
    names = {
        "distributed": False,
        "coordinator": None,
        "processes": None,
        "process": None,
        "out": "run",
        "devices": None,
    }
    return argparse.Namespace(**(names | given))


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"coordinator": "a:1"}, "--coordinator goes with .*; --processes is missing"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "--process 2 is none of 2 processes; they count from 0"),
        ({"coordinator": "a", "processes": 2, "process": 0}, "must be HOST:PORT, got 'a'"),
        ({"distributed": True, "out": None}, "several processes need --out"),
        ({"distributed": True, "devices": 2}, "--devices is for one process"),
    ],
)
def test_flags_that_do_not_go_together(given, sentence):
    with pytest.raises(BadInput, match=sentence):
        distributed.asked(flags(**given))
    assert not distributed.asked(flags())


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def called(*who, patience=5.0, host="127.0.0.1"):
    """What each of some processes, here threads, gets of a roll call: None, or the sentence."""

    def one(given):
        process, processes, wait = given
        time.sleep(wait)
        try:
            return [line.close() for line in roll_call.roll_call(where, processes, process)] and None
        except BadInput as error:
            return str(error)

    where = f"{host}:{free_port()}"
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(who)) as threads:
        patch.setattr(roll_call, "PATIENCE", patience)
        patch.setattr(roll_call, "GRACE", 2.0)
        return [*threads.map(one, who)]


def test_all_are_there():
    """In any order; process 0 may be the last."""
    assert called((1, 3, 0.0), (2, 3, 0.1), (0, 3, 0.2)) == [None] * 3


def test_an_address_in_brackets():
    host = "[::1]" if socket.has_dualstack_ipv6() else "[127.0.0.1]"
    assert called((1, 2, 0.0), (0, 2, 0.0), host=host) == [None] * 2


@pytest.mark.parametrize(
    "who, patience, sentence",
    [
        ([(0, 3, 0), (1, 3, 0), (1, 3, 0)], 5, "process 1 was started twice; give each its own --process, from 0 to 2"),
        ([(0, 3, 0), (1, 3, 0), (2, 4, 0.1)], 5, "train: processes is 3 in process 0 and 4 in process 2"),
        ([(0, 3, 0), (1, 3, 0)], 0.3, "1 of 3 processes did not come within 0.3 s, process 2 among them; start all"),
    ],
)
def test_a_double_a_stranger_and_one_missing_are_told_to_all(who, patience, sentence):
    said = called(*who, patience=patience)
    assert len(set(said)) == 1 and said[0].startswith(sentence), said


def test_another_jax_is_told_to_all(monkeypatch):
    mine = roll_call.told
    other = lambda process, processes: mine(process, processes) | ({"versions": "JAX 0.9"} if process else {})
    monkeypatch.setattr(roll_call, "told", other)
    said = called((0, 2, 0), (1, 2, 0))
    assert said[0] == said[1] and re.search("versions is rnnjax .* in process 0 and JAX 0.9 in process 1", said[0])


@pytest.mark.parametrize("word", [True, False])
def test_who_goes_without_a_word_is_missed(word, monkeypatch):
    """At the other end; a farewell is none of that."""
    left = []
    monkeypatch.setattr(roll_call._signals, "leave", lambda status, says: left.append((status, says)))
    one, other = socket.socketpair()
    with one, roll_call.kept([one], 0.05):
        with other, roll_call.kept([other] if word else [], 0.05):
            pass
        time.sleep(0.3)
    assert left == ([] if word else [(2, roll_call.WHY)])


def test_what_jax_makes_of_a_death_is_told_as_one(monkeypatch):
    left = []
    monkeypatch.setattr(roll_call._signals, "leave", lambda *how: left.append(how))
    one, other = socket.socketpair()
    with one, pytest.raises(RuntimeError), roll_call.kept([one], 5.0):
        other.close()
        raise RuntimeError("Gloo AllReduce failed")
    assert left == [(2, roll_call.WHY)]


@pytest.mark.parametrize("error", [BadInput, Damaged, FloatingPointError])
def test_what_all_meet_alike_is_told_by_each_in_its_own_words(error, monkeypatch):
    """Without a wait, and although the others end at that very moment."""
    monkeypatch.setattr(roll_call._signals, "leave", lambda *how: pytest.fail(str(how)))
    one, other = socket.socketpair()
    with one, pytest.raises(error, match="no checkpoint is whole"), roll_call.kept([one], 5.0):
        other.shutdown(socket.SHUT_WR)
        raise error("no checkpoint is whole")
    with other:
        assert other.recv(9) == b"bye\n"


def test_nobody_there_or_somebody_else(monkeypatch):
    """A port that is taken, one where nobody listens, and another program, as a run that has begun already is."""
    monkeypatch.setattr(roll_call, "PATIENCE", 0.1)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"process 0 cannot listen at port {port}"):
            roll_call.roll_call(f"127.0.0.1:{port}", 2, 0)
        with ThreadPoolExecutor(1) as other:
            other.submit(lambda: taken.accept()[0].close())
            with pytest.raises(BadInput, match="does not wait for process 1: another program, or a run that has begun"):
                roll_call.roll_call(f"127.0.0.1:{port}", 2, 1)
    with pytest.raises(BadInput, match=f"nobody answers at 127.0.0.1:{port} .*; start process 0 there"):
        roll_call.roll_call(f"127.0.0.1:{port}", 2, 1)


def test_every_process_reads_its_own_rows(monkeypatch):
    batches = lambda step: {"window": step + np.arange(12).reshape(2, 6), "fresh": np.arange(6)}
    monkeypatch.setattr(distributed.jax, "process_count", lambda: 3)
    monkeypatch.setattr(distributed.jax, "process_index", lambda: 1)
    got = distributed.own_rows(batches, {"window": 1, "fresh": 0})(5)
    assert got["window"].tolist() == [[7, 8], [13, 14]] and got["fresh"].tolist() == [2, 3]


def test_a_batch_that_the_devices_do_not_divide(monkeypatch):
    monkeypatch.setattr(distributed.jax, "devices", lambda: [None] * 3)
    with pytest.raises(
        BadInput, match="--batch 4 is not divided by the 3 devices of 1 processes; give a multiple of 3"
    ):
        distributed.devices(Settings(batch=4))
    with pytest.raises(BadInput, match="several processes train on texts, and on tables one row ahead"):
        distributed.devices(Settings(data="a.csv", horizon=3))


def test_a_fault_of_one_process_is_told_by_all(monkeypatch):
    """Each by its own name for it; who is fine stops too."""
    for first, sentence in ((True, "the disk is gone"), (False, "process 1: the disk is gone")):
        monkeypatch.setattr(distributed.hosts, "texts", lambda text: ["", "the disk is gone"])
        monkeypatch.setattr(distributed.hosts, "first", lambda: first)
        with pytest.raises(BadInput, match=f"^{sentence}$"):
            distributed.agreed(lambda: 5)
    monkeypatch.setattr(distributed.hosts, "texts", lambda text: ["", ""])
    assert distributed.agreed(lambda: 5) == 5


def test_the_fastest_that_fits():
    ways = [memory.Way(None, 900, 1.0), memory.Way("32", 500, 2.0), memory.Way("sqrt", 200, 3.0)]
    found = [memory.fastest(ways, budget) for budget in (0, 900, 899, 200, 199)]
    assert [way and way.peak for way in found] == [900, 900, 500, 200, None]


def begin(tmp_path, *more, second=(), python=("-m", "rnnjax"), slurm=False):
    """Two processes, which are told where they are on the command line, or as SLURM does, on hosts in other parts of the world."""
    (tmp_path / "cat.txt").write_text(TEXT)
    port = str(free_port())
    common = ["train", "--data", tmp_path / "cat.txt", "--out", tmp_path / "run", *SMALL, *more]
    where = lambda i: ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(i)]
    argv = lambda i: [*map(str, common), *(["--distributed"] if slurm else where(i)), *(second if i else ())]
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "JAX_COORDINATOR_PORT": port}
    elsewhere = [{"TZ": "UTC"}, {"TZ": "Asia/Tokyo", "LC_ALL": "C"}]
    told = lambda i: step | elsewhere[i] | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} if slurm else {}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    start = lambda i: subprocess.Popen([sys.executable, *python, *argv(i)], env=os.environ | told(i), **pipes)
    return [start(i) for i in range(2)]


def ended(processes):
    said = [process.communicate() for process in processes]
    return [process.returncode for process in processes], said


TELLS_LONG = """
import sys, time, jax
from rnnjax.cli import main, train
initialize, tell = jax.distributed.initialize, train.tell
jax.distributed.initialize = lambda *a, **how: initialize(*a, **how | {"shutdown_timeout_seconds": 2})
train.tell = lambda *a: time.sleep(10) or tell(*a)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_sigterm_to_one_of_two_then_both_go_on(tmp_path):
    """Status 143 from both, after the same step. Then process 0 draws and tells for longer than a shutdown waits."""
    processes = begin(tmp_path, "--steps", "3000")
    while not list((tmp_path / "run").glob("checkpoints/*/sha256.txt")):
        time.sleep(0.05)
    double = subprocess.run(processes[1].args, capture_output=True, text=True)  # it harms nobody
    assert double.returncode == 2 and "does not wait for process 1" in double.stderr, double.stderr
    assert double.stderr.count("\n") == 1
    processes[1].send_signal(signal.SIGTERM)
    status, said = ended(processes)
    assert (
        status == [143, 143] and "Interrupted after step" in said[0][0] and [errors for _, errors in said] == ["", ""]
    )
    at = int(re.search(r"Interrupted after step (\d+)", said[0][0])[1])
    status, said = ended(begin(tmp_path, "--resume", "--steps", str(at + 20), python=("-c", TELLS_LONG)))
    assert status == [0, 0] and "Stopped at step" in said[0][0], said
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and max(steps) == at + 20
    assert main(["eval", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_one_is_killed(tmp_path):
    """The other says so in one line, soon, and what was saved is whole; under SLURM."""
    processes = begin(tmp_path, "--steps", "100000", slurm=True)
    while not list((tmp_path / "run").glob("checkpoints/*/sha256.txt")):
        time.sleep(0.05)
    processes[1].kill()
    status, said = ended(processes)
    lines = [line for line in said[0][1].splitlines() if not line.startswith("[Gloo]")]
    assert status == [2, -signal.SIGKILL], said
    assert len(lines) == 1 and lines[0].startswith("rnnjax: another process of this run has gone"), said
    assert main(["eval", str(tmp_path / "run")]) == 0


DIES_EARLY = """
import os, signal, sys, jax
from rnnjax.cli import main
if "--process {}" in " ".join(sys.argv):
    jax.distributed.initialize = lambda *_, **how: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", [1, pytest.param(0, marks=pytest.mark.long)])
def test_one_is_killed_just_after_the_roll_call(who, tmp_path):
    """The other does not wait a minute for JAX's runtime to abort, but says so and ends."""
    status, said = ended(begin(tmp_path, python=("-c", DIES_EARLY.format(who))))
    assert status == ([-signal.SIGKILL, 2] if who == 0 else [2, -signal.SIGKILL]), said
    assert said[1 - who][1].splitlines()[-1].startswith("rnnjax: another process of this run has gone"), said


LATE = """
import sys
from rnnjax.cli import main, roll_call
attend = roll_call._attend
roll_call._attend = lambda line, over, gone, grace: attend(line, over, gone, 600.0)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.long
@pytest.mark.slow
def test_the_runtime_hears_first_that_process_0_has_died(tmp_path):
    """It aborts, and the sentence is the last word, with status 2, all the same."""
    processes = begin(tmp_path, "--steps", "100000", python=("-c", LATE))
    while not list((tmp_path / "run").glob("checkpoints/*/sha256.txt")):
        time.sleep(0.05)
    processes[0].kill()
    status, said = ended(processes)
    assert status == [-signal.SIGKILL, 2], said
    assert said[1][1].splitlines()[-1].startswith("rnnjax: another process of this run has gone"), said


@pytest.mark.slow
@pytest.mark.parametrize("gone", [True, False])
def test_an_abort_for_whatever_reason_ends_in_a_sentence(gone):
    """By the thread that aborts, while the main one holds on to Python. Where nobody has gone it stays an abort."""
    script = f"""
import ctypes, socket, threading
from rnnjax.cli import roll_call
roll_call.GRACE = 0.2
one, other = socket.socketpair()
with roll_call.kept([one], 600.0):
    {gone} and other.close()
    threading.Thread(target=ctypes.CDLL(None).abort).start()
    while True:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    told = (2, roll_call.WHY) if gone else (-signal.SIGABRT, roll_call.SILENT)
    assert (done.returncode, done.stderr) == (told[0], f"rnnjax: {told[1]}\n")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("silent", [0, 1])
def test_a_host_that_falls_silent(silent, tmp_path):
    """For some seconds: all go on. For longer: the other ends by itself, and this one when it is back."""
    processes = begin(tmp_path, "--steps", "1000000")
    while not list((tmp_path / "run").glob("checkpoints/*/sha256.txt")):
        time.sleep(0.05)
    for seconds in (8, 1):
        processes[silent].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        processes[silent].send_signal(signal.SIGCONT)
        time.sleep(2)
        assert [process.poll() for process in processes] == [None, None]
    processes[silent].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    other = processes[1 - silent].communicate()[1].splitlines()[-1]
    assert processes[1 - silent].returncode in (2, -signal.SIGABRT) and time.monotonic() - began < 300
    processes[silent].send_signal(signal.SIGCONT)
    this = processes[silent].communicate()[1].splitlines()[-1]
    assert other.startswith("rnnjax: ") and this.startswith("rnnjax: "), (other, this)


@pytest.mark.slow
@pytest.mark.parametrize(
    "second, sentence",
    [
        pytest.param(["--seed", "5"], "settings is .* in process 0 and .* in process 1", marks=pytest.mark.long),
        (["--data", "OTHER"], "the data's SHA-256 is .* in process 0 and .* in process 1"),
    ],
)
def test_processes_that_differ_are_told_and_all_end(tmp_path, second, sentence):
    (tmp_path / "dog.txt").write_text(TEXT.replace("cat", "dog"))
    second = [str(tmp_path / "dog.txt") if word == "OTHER" else word for word in second]
    status, said = ended(begin(tmp_path, "--steps", "20", second=second))
    assert status == [2, 2] and all(re.search(sentence, errors) and "Traceback" not in errors for _, errors in said), (
        said
    )


@pytest.mark.slow
def test_memory_falls_with_checkpoints(tmp_path, capsys):
    """The table, and a budget that only the square root meets."""
    (tmp_path / "cat.txt").write_text(TEXT)
    argv = ["train", "--data", str(tmp_path / "cat.txt"), "--hidden", "32", "--time", "256", "--memory"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    peaks = {
        words[0]: float(words[1])
        for words in map(str.split, said.splitlines())
        if len(words) == 3 and words[1][0].isdigit()
    }
    assert list(peaks) == ["none", "128", "64", "sqrt"] and peaks["none"] > 2 * peaks["sqrt"]
    assert main([*argv, f"{peaks['sqrt'] + 0.1}MiB"]) == 0
    assert "--checkpoint sqrt" in capsys.readouterr().out
    assert main([*argv, "1kB"]) == 2

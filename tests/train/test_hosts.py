"""Processes that train together over the loopback network with gloo, against one process with as many devices."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rnnjax.train import hosts

ALSO = ("accumulate=3", "average=0.9")  # which a plain run of the command (tests/cli/test_distributed.py) has not
PROGRAM = Path(__file__).with_name("on_hosts.py")


def begin(processes: int, out: Path, *options: str, program: Path = PROGRAM) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    argv = lambda i: [sys.executable, str(program), coordinator, str(processes), str(i), str(out), *options]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return [subprocess.Popen(argv(i), **pipes) for i in range(processes)]  # type: ignore[call-overload]


def ended(processes: list[subprocess.Popen]) -> list[dict]:
    """What each of them printed last."""
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), [errors for _, errors in said]
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """One process with one device."""
    return ended(begin(1, tmp_path_factory.mktemp("alone"), *ALSO))[0]


def close(one: dict, other: dict) -> None:
    np.testing.assert_allclose(one["flat"], other["flat"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=1e-4)


@pytest.mark.slow
def test_two_processes_saved_and_one_two_and_four_go_on(alone, tmp_path):
    """SIGTERM to process 1: both stop after the same step. From copies of what they saved, the numbers of one device left alone."""
    stopped = ended(begin(2, tmp_path / "two", "stop=3", "slow=0.05", *ALSO))
    assert stopped[0] == stopped[1] and 3 < stopped[0]["step"] < 20
    assert (stopped[0]["stopped"], stopped[0]["signal"]) == ("interrupted", signal.SIGTERM)
    for out in ("one", "four"):
        shutil.copytree(tmp_path / "two", tmp_path / out)
    for processes, out in ((2, "two"), (1, "one"), (4, "four")):
        found = ended(begin(processes, tmp_path / out, 'resume="anywhere"', *ALSO))
        assert all(each["step"] == 20 for each in found)
        close(found[0], alone)
    steps = [json.loads(line)["step"] for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 10, 15, 20, 20]  # written once, by one


@pytest.mark.slow
def test_one_of_two_dies(tmp_path):
    """The other does not wait for it for ever."""
    began, processes = time.monotonic(), begin(2, tmp_path, "dies=5", "steps=100000")
    errors = [process.communicate()[1] for process in processes]
    assert processes[1].returncode == -signal.SIGKILL
    assert processes[0].returncode != 0 and time.monotonic() - began < 300, errors[0]


@pytest.mark.long
@pytest.mark.slow
def test_features_and_ensembles_over_two_processes(tmp_path):
    """A mesh whose second axis splits features, and one over members: as in one process."""
    two, one = (ended(begin(n, tmp_path, program=PROGRAM.with_name("on_two_axes.py"))) for n in (2, 1))
    assert [each["processes"] for each in two + one] == [2, 2, 1]
    for name in ("split", "ensemble"):
        np.testing.assert_allclose(two[0][name], two[1][name], rtol=0)
        np.testing.assert_allclose(two[0][name], one[0][name], rtol=1e-5, atol=1e-7)
    assert "(None, 'features')" in str(two[0]["specs"])


def test_numbers_and_facts_of_one_process():
    """To the last bit; with several they go through the same words."""
    numbers = {"loss": 1 / 3, "other": 1e300}
    assert hosts.of_first(numbers) == numbers
    hosts.same("train", data="0" * 64)
    words = hosts.gather(np.array([1 / 3], np.float64).view(np.uint32))
    assert words.shape == (1, 2) and words[0].view(np.float64) == 1 / 3


def test_what_differs_is_named(monkeypatch):
    monkeypatch.setattr(hosts, "gather", lambda words: np.stack([hosts._words("0.10.2"), words]))
    with pytest.raises(
        ValueError, match=r"train: JAX is 0.10.2 in process 0 and 0.12.0 in process 1; start all of them alike"
    ):
        hosts.same("train", JAX="0.12.0")


def test_all_stop_before_the_same_step(monkeypatch):
    """The question is put at steps that process 0 chooses; the largest signal is everybody's."""

    class Interrupt:
        asked = None

    monkeypatch.setattr(hosts, "several", lambda: True)
    heard = {0: [(0, 3), (0, 9)], 3: [(0, 4), (15, 1)]}
    asked, at = hosts.Asked(Interrupt()), 0
    monkeypatch.setattr(hosts, "gather", lambda words: np.array(heard[at]))
    told = {}
    for at in range(5):
        told[at] = asked.before(at)
    assert told == {0: None, 1: None, 2: None, 3: signal.SIGTERM, 4: None}

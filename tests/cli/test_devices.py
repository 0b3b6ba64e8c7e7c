"""Runs on several devices: the numbers of one, gone on with bit for bit, chosen by a rule, and all that can be asked wrongly."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from rnnjax.cli import devices, main
from rnnjax.cli.devices import Devices, choose, cores, worthwhile
from rnnjax.cli.errors import BadInput
from rnnjax.cli.load import load
from rnnjax.cli.settings import Settings

README = Path(__file__).parents[2] / "README.md"
TEXT = "the cat sat on the mat. the dog sat on the log. a bird sang in the tree! " * 30
SMALL = ["--hidden", "8", "--batch", "4", "--time", "8", "--steps", "100", "--validate-every", "10"]
needs_two_cores = pytest.mark.skipif(cores() < 2, reason="one core")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cat.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def one_device():
    """JAX in use in this process, with the one device it has on its own."""
    if len(jax.devices()) > 1:
        pytest.skip("JAX was given several devices here")


def train(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "rnnjax", "train", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return said


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def on_two(text_file, tmp_path_factory):
    """A run on two devices, left alone, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "two"
    return out, finished(train("--data", text_file, "--out", out, *SMALL, "--devices", 2))


@needs_two_cores
def test_two_devices_give_the_numbers_of_one(on_two, text_file, tmp_path, capsys):
    """To rounding, and what they wrote is read by the other commands on one."""
    two, said = on_two
    assert "on 2 devices" in said and json.loads((two / "config.json").read_text())["devices"] == 2
    one = tmp_path / "one"
    assert main(["train", "--data", str(text_file), "--out", str(one), *SMALL, "--devices", "1"]) == 0
    assert "on 1 device\n" in capsys.readouterr().out
    losses = [[line["loss"] for line in lines_of(out)] for out in (one, two)]
    assert len(losses[0]) >= 20
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert main(["eval", str(two)]) == 0
    measured = float(capsys.readouterr().out.splitlines()[0].removeprefix("bits_per_char "))
    best = min(line["bits_per_char"] for line in lines_of(two) if line.get("split") == "valid")
    np.testing.assert_allclose(measured, best, rtol=1e-6)
    assert main(["sample", str(two), "--length", "5"]) == 0


@pytest.mark.slow
@needs_two_cores
def test_interrupted_on_two_devices_and_resumed_on_one_core(on_two, text_file, tmp_path):
    """Bit for bit the run left alone: it takes two devices again by itself, and says that there is one core for them."""
    out = tmp_path / "run"
    process = train("--data", text_file, "--out", out, *SMALL, "--devices", 2)
    deadline = time.monotonic() + 120
    while (
        not (out / "checkpoints" / "20" / "sha256.txt").exists()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert len(lines_of(out)) < len(lines_of(on_two[0]))
    argv = ["train", "--out", str(out), "--resume"]
    script = f"import os; os.sched_setaffinity(0, {{0}}); from rnnjax.cli import main; raise SystemExit(main({argv}))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert (
        "The run began on 2 devices and goes on so, to the same numbers, though this machine has 1 core." in said.stdout
    )
    assert lines_of(out) == lines_of(on_two[0])
    mine, theirs = load(out), load(on_two[0])
    assert jax.tree.all(jax.tree.map(np.array_equal, mine.params, theirs.params))


@needs_two_cores
def test_a_run_goes_on_with_its_own_number(on_two, one_device, capsys):
    """Another is refused, and so is a process in which JAX is in use with fewer."""
    argv = ["train", "--out", str(on_two[0]), "--resume"]
    assert main([*argv, "--devices", "1"]) == 2
    assert "--devices is 1 here and 2 in" in capsys.readouterr().err
    assert main(argv) == 2
    assert "the run needs 2 devices and JAX has 1, as it was in use" in capsys.readouterr().err
    config = on_two[0] / "config.json"
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"devices": 3}))
    assert main(argv) == 2
    assert "cannot have been on 3 devices" in capsys.readouterr().err
    config.write_text(kept)


def test_more_devices_than_cores(text_file, one_device, tmp_path, capsys):
    argv = ["train", "--data", str(text_file), "--out", str(tmp_path / "run"), *SMALL, "--devices"]
    assert main([*argv, str(cores() + 97)]) == 2
    sentence = capsys.readouterr().err
    assert f"--devices {cores() + 97} is more than the {cores() if cores() > 1 else 'one'} core" in sentence
    assert f"give at most {cores()}" in sentence and not (tmp_path / "run").exists()
    with pytest.raises(SystemExit, match="2"):
        main([*argv, "0"])
    assert "--devices: must be at least 1" in capsys.readouterr().err


@needs_two_cores
def test_asked_for_too_late(one_device):
    with pytest.raises(
        BadInput, match=r'in a process of its own .*update\("jax_num_cpu_devices", 2\) before JAX is first'
    ):
        choose(2, Settings())


@pytest.mark.parametrize("there", [1, 2, 3])
def test_without_being_asked_it_takes_what_there_is(there, one_device, monkeypatch):
    """JAX has one device by now, whatever the rule would like."""
    monkeypatch.setattr(devices, "cores", lambda: there)
    assert choose(None, Settings(batch=64)) == Devices(1, None, "")


def test_where_it_pays():
    """The main job on two, a table as it comes on one; never few rows or little work a device, wide layers, or noise."""
    assert worthwhile(Settings(), 2) == 2
    assert worthwhile(Settings.of({"data": "prices.csv"}), 2) == 1
    wide: dict[str, Any] = dict(batch=64, hidden=256)
    assert [worthwhile(Settings(**wide), n) for n in (1, 2, 3, 4, 6)] == [1, 2, 2, 4, 4]
    assert worthwhile(Settings(batch=33), 2) == 1
    assert worthwhile(Settings(batch=33), 4) == 3
    less: dict[str, Any]
    for less in (dict(batch=8), dict(hidden=8), dict(time=4), dict(hidden=512), dict(dropout=0.1)):
        assert worthwhile(Settings(**wide | less), 2) == 1


def test_an_accelerator_is_not_hidden_and_not_split_unasked(monkeypatch):
    """Two of them, played by names."""
    monkeypatch.setattr(devices, "request", lambda count: [SimpleNamespace(platform="gpu")] * 2)
    assert choose(None, Settings()).count == 1
    with pytest.raises(BadInput, match="--devices 3 is more than the 2 devices"):
        choose(3, Settings())
    with pytest.raises(BadInput, match="the run needs 4 devices and JAX has 2 here; go on where it began"):
        choose(None, Settings(), before=4)


def test_a_number_that_does_not_divide_the_batch(one_device, monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 2)
    assert choose(2, Settings(batch=5)) == Devices(1, None, "--devices 2 does not divide --batch 5: 1 device it is")


def test_help_tells_of_devices(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--devices N split each batch over N CPU cores (or accelerators); 1 for one" in said


def test_the_three_lines_of_the_readme():
    """In a process of their own, as they ask for devices before JAX is first used."""
    (block,) = re.findall(r"```py\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(block.strip().splitlines()) == 3
    before = """
import jax, numpy as np, rnnjax as rj
loss = rj.train.stateless(lambda params, xs: ((xs @ params - 1) ** 2).mean())
params, batches = np.ones(3, np.float32), lambda step: np.ones((5, 4, 3), np.float32)
"""
    after = "print(len(jax.devices()), result.history[-1]['loss'] < result.history[0]['loss'])"
    done = subprocess.run([sys.executable, "-c", before + block + after], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "True"], done.stderr

"""The scripts of .ci: their syntax, what they read and refuse, and that .ci/newest leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CI = ROOT / ".ci"
pytestmark = pytest.mark.skipif(not CI.exists() or not shutil.which("flock"), reason="a checkout on Linux")


@pytest.fixture
def newest(tmp_path):
    """Starts .ci/newest where python3.14 is a shim that fails and python3.13 serves; what it keeps is in tmp_path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    # python3.13 says what is asked of it (the path of its interpreter), whatever the version that runs this test.
    for name, body in {"python3.14": "exit 127", "python3.13": f"echo {sys.executable}"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "NEWEST_ROOT": str(tmp_path / "kept")}

    # Who runs the tests may ignore a signal (nohup does), and a shell cannot trap what was ignored before it.
    heard = ["env", "--default-signal=HUP,INT,TERM"]

    def start(*arguments):
        pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        return subprocess.Popen([*heard, CI / "newest", *arguments], env=env, text=True, **pipes)

    yield start
    assert list((tmp_path / "kept.calls").iterdir()) == []


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("as given")
    return folder


@pytest.mark.parametrize("script", ["run", "newest"])
def test_syntax(script):
    assert subprocess.run(["bash", "-n", CI / script]).returncode == 0
    assert os.access(CI / script, os.X_OK)


def test_run_reads_the_two_commands_of_the_readme():
    reading = re.search(r"^mapfile .*$", (CI / "run").read_text(), flags=re.MULTILINE).group()
    shown = subprocess.run(
        ["bash", "-c", f'{reading}\nprintf "%s\\n" "${{commands[@]}}"'], cwd=ROOT, capture_output=True, text=True
    )
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(commands) == 2 and shown.stdout.splitlines() == commands
    assert commands[0].endswith("rnnjax train")  # to which .ci/run appends --steps


def test_newest_works_in_a_copy_and_hands_on_the_exit_status(newest, checkout):
    call = newest(checkout, "bash", "-c", 'cat file; echo changed > file; python3 -c "import sys; sys.exit(7)"')
    assert call.communicate(timeout=60)[0] == "as given" and call.returncode == 7
    assert (checkout / "file").read_text() == "as given"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_newest_copies_of_a_checkout_what_git_does_not_ignore(newest, checkout):
    (checkout / ".gitignore").write_text(".venv\n")
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "old").touch()
    subprocess.run(["git", "init", "-q", checkout], check=True)
    assert newest(checkout, "ls", "-A").communicate(timeout=60)[0].split() == [".gitignore", "file"]


def test_calls_at_once_do_not_meet(newest, checkout):
    calls = [newest(checkout, "bash", "-c", f"echo {n} > file; sleep 0.5; cat file") for n in range(2)]
    assert [call.communicate(timeout=60)[0] for call in calls] == ["0\n", "1\n"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_command_and_all_that_it_started(newest, checkout, name):
    call = newest(checkout, "bash", "-c", "bash -c 'echo ready; sleep 30; true'; true")
    assert call.stdout.readline() == "ready\n"
    call.send_signal(getattr(signal, name))
    call.communicate(timeout=20)  # returns when no one holds the output open any more: the sleep is gone
    assert call.returncode > 0


JUNIT = "<testsuites><testsuite>{}</testsuite></testsuites>"
RAN = '<testcase classname="tests.a" name="{}" file="tests/a.py"/>'
SKIPPED = '<testcase classname="tests.a" name="{}" file="tests/a.py"><skipped/></testcase>'


@pytest.mark.parametrize(
    "one, other, message",
    [
        (RAN.format("x") + SKIPPED.format("y"), RAN.format("x"), None),
        (RAN.format("x") + RAN.format("y"), RAN.format("x") + SKIPPED.format("y"), r"1 of them did not\n  tests.a::y"),
        (RAN.format("x"), "", r"expected all of 1, 1 of them did not"),
        ("", RAN.format("x"), "too few tests ran"),
    ],
)
def test_a_run_that_tests_less_than_the_other_fails(tmp_path, one, other, message):
    paths = [tmp_path / "one.xml", tmp_path / "other.xml"]
    for path, cases in zip(paths, [one, other]):
        path.write_text(JUNIT.format(cases))
    result = subprocess.run([sys.executable, CI / "ran.py", *paths], capture_output=True, text=True)
    assert (result.returncode != 0) == (message is not None)
    assert re.search(message or "^$", result.stderr)

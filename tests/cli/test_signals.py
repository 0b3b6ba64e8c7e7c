"""Ctrl-C, SIGTERM, SIGHUP and closed pipes, at moments of each command's life: one line, the status, nothing left behind."""

import contextlib
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnnjax import _signals

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40
SMALL = [
    "--hidden",
    "8",
    "--batch",
    "4",
    "--time",
    "8",
    "--steps",
    "100000",
    "--validate-every",
    "20",
    "--patience",
    "9999",
]
SAYS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}


@pytest.fixture
def flags(tmp_path):
    """Of a run without end on a small text."""
    (tmp_path / "cat.txt").write_text(TEXT)
    return ["--data", str(tmp_path / "cat.txt"), "--out", str(tmp_path / "run"), *SMALL]


# nohup, and a shell that starts a job in the background, have signals ignored: the command begins with none of them so.
HEARD = (
    "import os, signal, sys; [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]; "
    "os.isatty(0) and __import__('fcntl').ioctl(0, __import__('termios').TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def start(*argv, python=(), **options):
    options = {
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "stdin": subprocess.DEVNULL,
    } | options
    return subprocess.Popen([sys.executable, "-c", HEARD, *python, "-m", "rnnjax", *argv], **options)


def send(process, which, times=1):
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(which)
        time.sleep(0.2 / times)


def left_behind(folder):
    """What a process that has gone should not leave."""
    return [path.name for path in folder.rglob("*") if "tmp" in path.name or path.name in (".lock", "config.json.new")]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", ["_signals", "jax.version", pytest.param("jax.numpy", marks=pytest.mark.slow)])
def test_in_the_middle_of_the_imports(which, after):
    """Python says on standard error what it has imported, so the moment is certain. Twice within 0.2 seconds."""
    process = start("--version", python=["-X", "importtime"])
    for line in process.stderr:
        if line.rstrip().endswith(after):
            send(process, which, 2)
            break
    rest = [line for line in process.communicate()[1].splitlines() if not line.startswith("import time:")]
    assert (process.returncode, rest) == (128 + which, [f"rnnjax: {SAYS[which]}"])


# A process that leaves, and at each instruction of ours on the way is asked to leave once more. Exits 98 where all wait for ever.
TWICE = """
import importlib.util, os, signal, sys, threading, time
spec = importlib.util.spec_from_file_location("signals", sys.argv[1])
signals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signals)
signals.time = type("", (), {"monotonic": time.monotonic, "sleep": lambda seconds: waits.pop() or time.sleep(0.01)})
waits = [0] * 300

def leave():
    try:
        signals.leave(130, "interrupted")
    except IndexError:
        os._exit(98)

def by_thread():
    other = threading.Thread(target=leave, daemon=True)
    other.start()
    other.join(0.005)

def by_signal():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.0 if threading.current_thread() is threading.main_thread() else 0.005)

def traced(at, again):
    left = [at]
    def trace(frame, event, arg):
        if frame.f_code.co_filename != sys.argv[1]:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if not left[0]:
                os.write(1, b"x")
                again()
        return trace
    sys.settrace(trace)
    leave()

def child(at, again, where):
    signal.signal(signal.SIGINT, signals._at_once)
    if where == "main":
        traced(at, again)
    else:
        thread = threading.Thread(target=traced, args=(at, again))
        thread.start()
        thread.join()
    os._exit(99)  # nobody has left

for again, where in ((by_thread, "main"), (by_signal, "main"), (by_signal, "another")):
    at = 0
    while True:
        at += 1
        ends = [os.pipe(), os.pipe()]
        number = os.fork()
        if not number:
            for (_, end), to in zip(ends, (1, 2)):
                os.dup2(end, to)
            child(at, again, where)
        for _, end in ends:
            os.close(end)
        asked, said = (os.read(end, 1000) for end, _ in ends)
        seen = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), said
        assert seen == (130, b"rnnjax: interrupted\\n"), (again.__name__, where, at, seen)
        for end, _ in ends:
            os.close(end)
        if not asked:
            break
    print(at - 1)
"""


def test_asked_to_leave_once_more_at_each_instruction():
    """By another thread, and by a signal in the middle: one line, and the process has ended, whoever comes first."""
    done = subprocess.run([sys.executable, "-c", TWICE, _signals.__file__], capture_output=True, text=True)
    tried = [int(count) for count in done.stdout.split()]
    assert (done.returncode, done.stderr, len(tried)) == (0, "", 3) and min(tried) > 30, done


# A process that leaves, and whose last line is at once followed by another, as by one of a thread of JAX's runtime.
LOUD = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("signals", sys.argv[1])
signals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signals)
write = os.write
os.write = lambda to, said: (write(to, said), write(2, b"Terminating process\\n"))[0]
signals.leave(2, "another process has gone")
"""


def test_the_sentence_is_the_last_word():
    done = subprocess.run([sys.executable, "-c", LOUD, _signals.__file__], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, "rnnjax: another process has gone")


def test_nobody_reads(flags, tmp_path):
    """`rnnjax train | head -1`: status 0, not a word, and no step is trained."""
    process = start("train", *flags)
    assert "characters" in process.stdout.readline()
    process.stdout.close()
    assert process.communicate()[1] == "" and process.returncode == 0
    assert not list((tmp_path / "run").glob("checkpoints/*")) and not left_behind(tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert not metrics.exists() or not metrics.read_text()


def trained(folder):
    """Waits for the first whole checkpoint."""
    while not list(folder.glob("checkpoints/*/sha256.txt")):
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("which", SAYS)
def test_five_times_in_training(which, flags, tmp_path):
    """The step at hand is finished and saved, once."""
    process = start("train", *flags)
    trained(tmp_path / "run")
    send(process, which, 5)
    said, errors = process.communicate()
    assert (process.returncode, errors) == (128 + which, "")
    step = int(said.split("Interrupted after step ")[1].split(",")[0])
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == step and (tmp_path / "run" / "checkpoints" / str(step) / "sha256.txt").exists()
    assert not left_behind(tmp_path)


@pytest.mark.slow
def test_the_terminal_is_closed(flags, tmp_path):
    """SIGHUP comes from the kernel, and what is printed then goes nowhere."""
    terminal, theirs = pty.openpty()
    process = start("train", *flags, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    trained(tmp_path / "run")
    os.close(terminal)
    assert process.wait() == 128 + signal.SIGHUP
    assert not left_behind(tmp_path)


COMMANDS = ["train", "sample", "eval", "forecast", "predict", "bench", "export", "tasks"]
LONG = ("train", "bench")


def begun(command, argv, folder):
    """The process, when it has a second thread: the first line of ours has been run, and before it Python itself starts."""
    process = start(command, *argv, cwd=folder)
    while process.poll() is None and len(os.listdir(f"/proc/{process.pid}/task")) < 2:
        time.sleep(0.001)
    return process, time.monotonic()


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folder of runs on a text, on a table to forecast and on one of labelled sequences; and the arguments of each command."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "cat.txt").write_text(TEXT)
    (folder / "sales.csv").write_text("day,y\n" + "".join(f"{i},{i % 7}\n" for i in range(80)))
    (folder / "moods.csv").write_text("said,mood\n" + "".join(f"so good {i},up\nso bad {i},down\n" for i in range(20)))
    few = ["--hidden", "4", "--batch", "4", "--steps", "10", "--validate-every", "5"]
    kinds = {"text": ["cat.txt", "--time", "8"], "table": ["sales.csv", "--horizon", "2"]}
    kinds |= {"moods": ["moods.csv", "--text", "said", "--label", "mood"]}
    for name, flags in kinds.items():
        argv = ["train", *few, "--out", name, "--data", *flags]
        subprocess.run([sys.executable, "-m", "rnnjax", *argv], cwd=folder, check=True, capture_output=True)
    argv = {"sample": ["text", "--length", "2000"], "eval": ["text"], "export": ["text", "--to", "stablehlo"]}
    argv |= {"forecast": ["table"], "predict": ["moods", "moods.csv"], "bench": [], "tasks": []}
    return folder, argv | {"train": ["--data", "cat.txt", "--out", "new", *SMALL, "--overwrite"]}


def life(command, argv, folder):
    """Seconds that it takes, or until it has done what comes again and again."""
    shutil.rmtree(folder / "new", ignore_errors=True)
    process, began = begun(command, argv, folder)
    if command == "train":
        trained(folder / "new")
    elif command == "bench":
        process.stdout.readline()
    if command in LONG:
        process.kill()
    process.communicate()
    return (1.5 if command in LONG else 1.0) * (time.monotonic() - began)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(2, id="twice"), pytest.param(5, id="five")])
@pytest.mark.parametrize("command", COMMANDS)
def test_at_twenty_moments(command, times, given):
    """Random ones of its life, RNNJAX_MOMENTS of them (2), by RNNJAX_SEED: nothing but one line, and the status."""
    (folder, argv), pick = given, random.Random(f"{times} {os.environ.get('RNNJAX_SEED', 0)}")
    whole, number, ended = life(command, argv[command], folder), 0, 0
    while number < int(os.environ.get("RNNJAX_MOMENTS", "2")):
        (process, began), which, after = (
            begun(command, argv[command], folder),
            pick.choice(list(SAYS)),
            pick.uniform(0, whole),
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)  # the machine has less to do than it had
            whole = min(whole, time.monotonic() - began)
            process.communicate()
            continue
        number += 1
        send(process, which, times)
        said, errors = process.communicate()
        seen = (command, times, number, which, after, process.returncode, said[-300:], errors[-3000:])
        assert process.returncode == 128 + which or (process.returncode == 0 and command != "train"), seen
        kept = "Interrupted after step" in said
        assert errors == ("" if kept or process.returncode == 0 else f"rnnjax: {SAYS[which]}\n"), seen
        assert not left_behind(folder), (seen, left_behind(folder))
        ended += process.returncode == 0
    print(f"{command}, {times} at once, in {whole:.1f} s: {number} moments, in {ended} of them it was about to end")


def test_a_script_of_the_user_is_not_the_command():
    """Importing the library leaves the signals alone."""
    before = "import signal; before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]"
    after = (
        "import rnnjax; assert before == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]"
    )
    script = f"{before}; {after}; assert not rnnjax._signals.watching()"  # a shell may have had some of them ignored
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_a_killed_process_left_half_written_is_gone_on_the_next_start(tmp_path):
    from train import problem

    half = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-3"
    half.mkdir(parents=True)
    (half / "state").write_text("half")
    problem.fit(tmp_path, steps=1)
    assert sorted(path.name for path in Path(half.parent).iterdir()) == ["1"]

"""Runs of the command killed at random moments and gone on with: FOLDER PROCESSES KILLS [SEED]. Prints what came of it as JSON.

A run is killed again and again until it is done, then compared with one left alone: metrics but the clock, sample, and every
array of the last checkpoint, bit for bit. As many runs as the kills take. With several processes one of them is killed,
and the others must end by themselves, with status 2 and a sentence. Before, it is now and then stopped for a while (SIGSTOP).
The processes are forked from one that has imported everything, which saves its seconds.
"""

import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # pytest looks for examples here too
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(Path(sys.argv[1]) / "compiled")}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}

import jax
import numpy as np
import optax  # noqa: F401
import orbax.checkpoint

from rnnjax.cli import main, train  # noqa: F401

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40
SMALL = "--hidden 4 --batch 4 --time 8 --steps 300 --validate-every 10 --patience 9999 --dropout 0.1 --accumulate 3 --average 0.9"


def begin(folder, out, processes):
    """Forks the processes of one run, new or gone on with."""
    argv = ["train", "--out", str(out)]
    if (out / "config.json").exists():
        argv += ["--resume"]
    else:
        argv += ["--data", str(folder / "cat.txt"), *SMALL.split()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    several = ["--coordinator", where, "--processes", str(processes)] if processes > 1 else []
    return [
        forked(argv + several + (["--process", str(i)] if several else []), folder / f"said{i}")
        for i in range(processes)
    ]


def forked(argv, said):
    child = os.fork()
    if child:
        return child
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    status = 99
    try:
        status = main(argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def killed(folder, out, processes, after, which, pause=0.0):
    """One start, killed after so many seconds unless it is done before: the statuses, and whether a checkpoint was half written."""
    children = begin(folder, out, processes)
    if pause:
        time.sleep(after / 2)
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[which], signal.SIGSTOP)
            time.sleep(pause)
            os.kill(children[which], signal.SIGCONT)
    until = time.monotonic() + (after / 2 if pause else after)
    while time.monotonic() < until and not os.waitid(os.P_PID, children[which], os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(children[which], signal.SIGKILL)
    half = bool([*out.glob("checkpoints/*.orbax*")]) or any(
        not (step / "sha256.txt").exists() for step in out.glob("checkpoints/*")
    )
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], half


def result(out):
    """What must be equal."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    newest = max((out / "checkpoints").iterdir(), key=lambda step: int(step.name))
    reader = orbax.checkpoint.PyTreeCheckpointer()
    whole = lambda _: orbax.checkpoint.RestoreArgs(restore_type=np.ndarray)
    how = jax.tree.map(whole, reader.metadata(newest / "state").item_metadata.tree)
    tree = reader.restore(newest / "state", restore_args=how)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return (
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        (out / "sample.txt").read_text(),
        arrays,
    )


def compare(folder, outs):
    """Names of what differs from the run left alone, by run."""
    lines, sample, arrays = result(folder / "alone")
    found = {}
    for out in outs:
        mine = result(out)
        differ = [name for name in arrays if arrays[name].tobytes() != mine[2][name].tobytes()]
        found[out.name] = differ + ["metrics"] * (lines != mine[0]) + ["sample"] * (sample != mine[1])
    return found


def run(folder, processes, kills, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cat.txt").write_text(TEXT)
    pick, counts, outs = random.Random(seed), {"kills": 0, "half written": 0, "stopped": 0, "runs": 0}, []
    start = time.monotonic()
    for name in ("first", "alone"):  # the first has to compile
        began = time.monotonic()
        assert killed(folder, folder / name, processes, 1e9, 0)[0] == [0] * processes, (folder / "said0").read_text()
        whole = time.monotonic() - began
    while counts["kills"] < kills:
        outs.append(folder / f"run{counts['runs']}")
        while True:
            which = pick.randrange(processes)
            after = pick.uniform(0.05, 0.9) * whole if counts["kills"] < kills else 1e9
            pause = 0.5 if after < 1e9 and pick.random() < 0.25 else 0.0
            statuses, half = killed(folder, outs[-1], processes, after, which, pause)
            counts["stopped"] += bool(pause)
            if statuses[which] != -signal.SIGKILL:
                assert statuses == [0] * processes, (
                    statuses,
                    [(folder / f"said{i}").read_text() for i in range(processes)],
                )
                break
            counts["kills"] += 1
            counts["half written"] += half
            others = [status for i, status in enumerate(statuses) if i != which]
            said = [(folder / f"said{i}").read_text() for i in range(processes)]
            gone = [said[i].splitlines()[-1] for i, status in enumerate(statuses) if status == 2]
            assert set(others) <= {0, 2} and all(last.startswith("rnnjax: ") for last in gone), (
                statuses,
                said,
            )
            print(counts, statuses, file=sys.stderr, flush=True)
        counts["runs"] += 1
    return counts | {"seconds": round(time.monotonic() - start), "differ": compare(folder, outs)}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if sys.argv[4:] else "0")))

"""A run of 20,000 steps takes as much of everything at its end as at its beginning."""

import os
import threading
import time
from pathlib import Path

import jax
import pytest
from train import problem

import rnnjax as rj

PAGE = os.sysconf("SC_PAGE_SIZE")


def held():
    """Bytes resident, open files, threads."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    return resident, len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("background", [False, True])
def test_twenty_thousand_steps(tmp_path, background):
    """With noise, lines, validations and checkpoints on the way; measured from step 4,000 on."""
    window, seen, compiled = rj.data.windows(problem.VALUES, 3, 5), [], []
    count = lambda name, seconds, **more: "backend_compile" in name and compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(count)

    def batches(step):
        if step % 2000 == 1999:
            time.sleep(background)  # until none is being written
            seen.append((step, len(compiled), *held()))
        return window(step)

    often = dict(log_every=50, validate_every=100, checkpoint_every=400, background=background, keep_best=1)
    problem.fit(tmp_path, 20_000, batches, **often)
    steps, compilations, resident, files, threads = zip(*seen, strict=True)
    print(*seen, sep="\n")
    assert steps[-1] == 19_999 and compilations[0] > 0
    assert compilations[1:] == compilations[1:2] * 9
    assert max(files[1:]) <= files[1] + 1 and max(threads[1:]) <= threads[1]
    assert resident[-1] - resident[1] < 16 * 2**20, resident

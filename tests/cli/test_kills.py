"""Fifty kills at random moments, on one process and on two: nothing is lost, bit for bit.

RNNJAX_KILLS says how many (default 50), RNNJAX_SEED which; `tests/cli/killed.py` does it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_gone_on_with(processes, tmp_path):
    kills = int(os.environ.get("RNNJAX_KILLS", "50"))
    argv = [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), str(processes), str(kills)]
    argv.append(os.environ.get("RNNJAX_SEED", "0"))
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == kills and told["differ"] and not any(told["differ"].values()), told

"""Programs in a process of their own that sees several CPU devices: JAX is told so before it starts."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def on_devices(count: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Python's ``command`` on so many devices, with the modules that this process finds."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    path = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    return subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True)

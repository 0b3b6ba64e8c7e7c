"""Strictness for every test: strict dtype promotion, no silent rank promotion surprises, warnings as errors.

Warnings as errors and markers are set in pyproject.toml.
"""

import os
import subprocess
import sys
from pathlib import Path

# Compiled programs are shared between tests, with the commands they start, and with the next run on this machine. Each
# xdist worker has its own: the files of a cache are not locked.
CACHE = str(Path(__file__).parents[1] / ".jax_cache")
GIVEN = os.environ.get("JAX_COMPILATION_CACHE_DIR", CACHE)
OWN = os.path.join(CACHE, os.environ.get("PYTEST_XDIST_WORKER", "alone"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = OWN if GIVEN.startswith(CACHE) else GIVEN
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Tests must pass on a machine with an accelerator too, and equal ones of two cores: run on the CPU unless told.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Nearly all the time of these tests is XLA compiling small programs, and these flags more than halve it. What the programs
# compute is the same to rounding. Flags that were given stay: .ci/run repeats much of the suite as users compile it.
QUICK_COMPILE = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",  # one MLIR pipeline for every fusion; unknown to jaxlib 0.12
]


def understood(flags):
    """The flags that this jaxlib knows, as one string: it ends the process at one it does not know."""
    trial = [sys.executable, "-c", "import jax; jax.devices()"]
    known = lambda some: (
        not subprocess.run(trial, env={**os.environ, "XLA_FLAGS": some}, capture_output=True).returncode
    )
    return " ".join(flags if known(" ".join(flags)) else filter(known, flags))


if "XLA_FLAGS" not in os.environ:  # the workers of xdist inherit what is set here
    os.environ["XLA_FLAGS"] = understood(QUICK_COMPILE)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
# Of equal programs one is compiled, however small: a sixth of the processor time. Only here and not in the commands that
# tests start: what a command that is killed was writing would stay behind in halves.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def resident_bytes():
    """The memory this process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs are never freed and take a megabyte each: two workers would need 7 GiB by the end."""
    yield
    if resident_bytes() > 2 * 2**30:
        jax.clear_caches()


@pytest.fixture
def float64():
    """The test runs with 64-bit floats and integers switched on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    """A typed PRNG key."""
    return jax.random.key(0)

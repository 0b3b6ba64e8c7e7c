"""Strictness for every test: strict dtype promotion, no silent rank promotion surprises, warnings as errors.

Warnings as errors and markers are set in pyproject.toml.
"""

import os
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

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def float64():
    """The test runs with 64-bit floats and integers switched on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    """A typed PRNG key."""
    return jax.random.key(0)

"""JAX's own tests of `lax.scan`, with `rnnjax.scan` in its place.

    python tests/jax_own.py PATH_TO_A_JAX_CHECKOUT [-k EXPR]

The checkout is JAX's repository at the release that is installed. Its test module is loaded with another `__import__`:
``import jax`` and ``from jax import lax`` give it stand-ins that differ from JAX in the name `scan` alone. Everything
else, `lax.map` and `lax.fori_loop` too, stays JAX's, and so does the `lax.scan` that rnnjax itself calls. What fails is
run again with JAX's scan: what fails there too says nothing of ours ("not for this JAX"). A fall-back to `lax.scan`
that warns counts as a failure. JAX_ENABLE_X64 and JAX_NUM_GENERATED_CASES work as they do in JAX's tests.

Prints how many passed, failed, were skipped, and how many called `rnnjax.scan`; the exit status is 1 where one failed.
"""

from __future__ import annotations

import argparse
import builtins
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What `rj.scan` cannot have: the name of a test (without its parameters) -> the reason.
KNOWN = {
    "test_scan_typecheck_param": "spoils the parameters of the `scan` equation that it finds at the top of a jaxpr; "
    "ours stands inside a rule of differentiation",
}

TESTS = Path("tests/lax_control_flow_test.py")
INSIDE = "--inside"  # how the script calls itself
SETTINGS = {
    "JAX_PLATFORMS": "cpu",  # unless told: the tolerances of these tests are those of a CPU
    "JAX_COMPILATION_CACHE_DIR": "",  # some of these tests count compilations
}


class StandIn(types.ModuleType):
    """A module with some of its names replaced; every other name is the module's own."""

    def __init__(self, module: types.ModuleType, **replaced: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(replaced)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def importer(scan: Callable) -> Callable:
    """An `__import__` that hands out stand-ins for `jax` and `jax.lax`, whose `scan` is the one given."""
    import jax

    lax = StandIn(jax.lax, scan=scan)
    stand_ins = {"jax": StandIn(jax, lax=lax), "jax.lax": lax}

    def get(name: str, *args: Any) -> Any:
        made = builtins.__import__(name, *args)
        return stand_ins.get(made.__name__, made)

    return get


def load(path: Path, scan: Callable) -> types.ModuleType:
    """The test module of this file, importing by `importer`; pytest finds it under its name and imports no other."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": importer(scan)}
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Record:
    """A pytest plugin: the outcome of each test, and whether it called the scan under test."""

    def __init__(self, scan: Callable) -> None:
        self.outcomes: dict[str, str] = {}
        self.calling: set[str] = set()
        self.current = ""
        self.inner = scan

    def scan(self, *args: Any, **options: Any) -> Any:
        self.calling.add(self.current)
        return self.inner(*args, **options)

    def pytest_runtest_protocol(self, item: Any) -> None:
        self.current = item.nodeid

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def inside(path: str, ours: bool, args: list[str], out: str) -> int:
    """Run the tests in this process, and write the outcomes to `out`."""
    import jax
    import pytest

    import rnnjax

    record = Record(rnnjax.scan if ours else jax.lax.scan)
    load(Path(path), record.scan)
    quiet = ["-q", "--noconftest", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    status = pytest.main([*quiet, "-W", "error:rnnjax:RuntimeWarning", *args], plugins=[record])
    Path(out).write_text(json.dumps({"outcomes": record.outcomes, "calling": sorted(record.calling)}))
    return int(status)


def outside(path: Path, ours: bool, args: list[str]) -> dict:
    """Run the tests in a process of their own: the outcomes by node id, and which of them called scan."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcomes.json"
        task = json.dumps(dict(path=str(path), ours=ours, args=args, out=str(out)))
        command = [sys.executable, str(Path(__file__).resolve()), INSIDE, task]
        status = subprocess.run(command, env={**SETTINGS, **os.environ}, cwd=path.parent).returncode
        if not out.exists():
            raise SystemExit(f"jax_own: the tests of {path} did not run (exit status {status})")
        return json.loads(out.read_text())


def plain_failures(path: Path, tests: list[str]) -> set[str]:
    """Those of the tests that fail with JAX's own scan too."""
    if not tests:
        return set()
    print(f"\n{len(tests)} failed; the same with jax.lax.scan:", flush=True)
    outcomes = outside(path, False, tests)["outcomes"]
    return {test for test in tests if outcomes.get(test) == "failed"}


def known(test: str) -> str | None:
    """Why this test cannot pass, where that is known."""
    name = test.rsplit("::", 1)[-1]
    return next((reason for start, reason in KNOWN.items() if name == start or name.startswith(start + "_")), None)


def report(path: Path, args: list[str]) -> int:
    """Run, sort the failures, print; 1 where one of them is ours, or nothing ran."""
    import jax

    found = outside(path, True, args)
    failed = [test for test, outcome in found["outcomes"].items() if outcome == "failed"]
    theirs = plain_failures(path, failed)
    expected = [test for test in failed if test not in theirs and known(test)]
    ours = [test for test in failed if test not in theirs and test not in expected]
    count = Counter(found["outcomes"].values())
    lines = [f"failed with lax.scan too: {test}" for test in sorted(theirs)]
    lines += [f"known: {test}: {known(test)}" for test in expected]
    lines += [f"FAILED: {test}" for test in ours]
    lines += [
        f"JAX {jax.__version__}, {path.name}, rnnjax.scan in the place of lax.scan:",
        f"{count['passed']} passed, {len(ours)} failed, {count['skipped']} skipped, {len(theirs)} not for this JAX, "
        f"{len(expected)} known; {len(found['calling'])} of them called rnnjax.scan",
    ]
    print("\n" + "\n".join(lines))
    return 1 if ours or not found["calling"] else 0


def main() -> int:
    if sys.argv[1:2] == [INSIDE]:
        task = json.loads(sys.argv.pop())
        sys.argv[1:] = []  # JAX's tests read flags there
        return inside(**task)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("-k", help="which tests, as pytest takes it")
    given = parser.parse_args()
    path = (given.checkout / TESTS).resolve()
    if not path.is_file():
        parser.error(f"expected a checkout of jax-ml/jax, with {TESTS} in it, got {given.checkout}")
    return report(path, [path.name, *(["-k", given.k] if given.k else [])])


if __name__ == "__main__":
    sys.exit(main())

"""The constants of the engine's cost model, measured on this machine and printed beside those in the code.

    python benchmarks/constants.py [--repeats 41] [--only CLIFF,FAULT] [--json FILE]

About a minute on a quiet machine. Units: ns and ps are nano- and picoseconds, per byte, per floating-point operation,
per array and step. The programs stand in `probes.py`, one for each constant.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import probes
from common import machine, machine_line

from rnnjax.engine import residuals, schedule
from rnnjax.engine.execute import batch


class Constant(NamedTuple):
    """A name in a module of the engine, the unit of its value, what is timed, and the probe that does it."""

    where: ModuleType
    name: str
    unit: str
    what: str
    probe: Callable[[int], float]


CONSTANTS = (
    Constant(schedule, "CLIFF", "bytes", "temporaries up to which no page faults at every call (page faults, counted)", probes.cliff),
    Constant(schedule, "FAULT", "ns/byte", "a loop that stacks, 1.25 times the cliff against 0.75 times", probes.fault),
    Constant(schedule, "COPY", "ns/byte", "16 MiB stacked and read back by blocks against whole", probes.copy),
    Constant(schedule, "FLOP", "ns/flop", "a product over T*B rows, three shapes", probes.flop),
    Constant(schedule, "NEAR", "ns/byte", "16 MiB made before the loop against in it, 16 KiB a step", probes.near),
    Constant(schedule, "FAR", "ns/byte", "the same, 256 KiB a step", probes.far),
    Constant(schedule, "L1", "bytes", "the step at which that passes from the one to the other", probes.l1),
    Constant(schedule, "CACHE", "bytes", "the total up to which it costs less than half of NEAR", probes.cache_size),
    Constant(schedule, "CUT", "share", "a weight's gradient by blocks of 512 rows: what is lost against one product", probes.cut),
    Constant(schedule, "STEP", "ns/flop", "a product in a loop against the same over T*B rows", probes.step),
    Constant(schedule, "CURVE", "ns/byte", "tanh and logistic over 4 MiB, all cores", probes.curve),
    Constant(schedule, "KERNEL", "ns", "eight tiny arrays more stacked by a loop, per array and step", probes.kernel),
    Constant(schedule, "START", "ns", "two loops and three tiny products, for each of 64 blocks against once", probes.start),
    Constant(schedule, "BLOCK", "bytes", "the block up to which writing and reading it back stays cheap", probes.block),
    Constant(batch, "WIDE", "bytes", "the output up to which a product cut into four is as fast as four", probes.wide),
    Constant(residuals, "STORE", "ps/byte", "an array more stacked in a loop and read back in another", probes.store),
    Constant(residuals, "READ", "ps/byte", "an array more read in a loop", probes.read),
    Constant(residuals, "STACK", "ps/byte", "an array more made for all steps at once and read in a loop", probes.stack),
    Constant(residuals, "ELEMENT", "ps/byte", "a multiplication more in a loop", probes.element),
    Constant(residuals, "CURVE", "ps/byte", "a tanh more in a loop", probes.curve_in_loop),
)  # fmt: skip


def measure(constant: Constant, repeats: int) -> dict[str, Any]:
    """One row: the value here and the value in the code (None where the code has no such name)."""
    began = time.perf_counter()
    value = constant.probe(repeats)
    name = f"{constant.where.__name__.rsplit('.', 1)[-1]}.{constant.name}"
    row = {"name": name, "here": value, "code": getattr(constant.where, constant.name, None)}
    return {**row, "unit": constant.unit, "what": constant.what, "seconds": time.perf_counter() - began}


def text(value: float | None, unit: str) -> str:
    """A value as one reads it.

    >>> text(32505856, "bytes"), text(1 / 300, "ns/flop")
    ('31 MiB', '0.00333')
    """
    if value is None:
        return "-"
    if unit != "bytes":
        return f"{value:.3g}"
    return f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=41, help="timings of each program; the median counts")
    parser.add_argument("--only", default="", help="only these constants, comma separated")
    parser.add_argument("--json", type=Path, help="a file for the numbers and the machine")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    print(machine_line())
    only = options.only.split(",") if options.only else [c.name for c in CONSTANTS]
    rows = []
    print(f"{'constant':18} {'here':>9} {'in the code':>12}  {'unit':8} what is timed")
    for constant in CONSTANTS:
        if constant.name in only:
            row = measure(constant, options.repeats)
            here, code = (text(row[k], constant.unit) for k in ("here", "code"))
            print(f"{row['name']:18} {here:>9} {code:>12}  {constant.unit:8} {constant.what}", flush=True)
            rows.append(row)
    print(f"{sum(row['seconds'] for row in rows):.0f} s. Chosen, not measured: schedule.SMALL, schedule.SPARE.")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How many kernels a step takes: counted in the compiled program, as each costs some 50 ns to start on a CPU.

A kernel is an instruction of a while loop's body that runs by itself: a fusion, a product, a call, a copy. Bodies within
bodies (time cut into blocks) count as often as they run; a small loop that XLA compiles into a single kernel counts as that
one, if it stands in another loop, and else as none. Used by `naive.py` for its column; alone it prints what they are.

    python benchmarks/kernels.py [--quick] [--cells lstm] [--rows 0,1] [--modes train]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
from common import arguments, cells_of, machine_line, save, shapes_of

from rnnjax.bench import make_problem, make_step, print_rows
from rnnjax.engine import scan

FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
}  # names for memory; loops by their bodies
HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) (?:\(.*\) -> .*)?\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = .*?\s(?P<opcode>[a-z][\w-]*)\(")
BODY = re.compile(r"body=%?([\w.-]+)")
SMALL = 'xla_cpu_small_call="true"'
TRIPS = re.compile(r"known_trip_count\W+n\W+(\d+)")


def kernels(program: str, length: int) -> Counter[str]:
    """Instructions that run in the loops of a compiled program's text, by opcode, all steps together.

    length: the steps of a loop whose number of steps the text does not know.
    """
    parts, entry = computations(program)
    return in_loops(parts, entry, 0, length)


def in_loops(parts: dict[str, list[str]], name: str, times: int, length: int) -> Counter[str]:
    """What runs in one computation `times` times over, and in the loops that start there."""
    found: Counter[str] = Counter()
    for line in parts[name]:
        opcode = opcode_of(line)
        if opcode == "while" and (body := BODY.search(line)):
            trips = TRIPS.search(line)
            found += in_loops(parts, body[1], max(times, 1) * (int(trips[1]) if trips else length), length)
        elif (
            opcode == "call"
            and SMALL not in line
            and (inner := re.search(r"to_apply=%?([\w.-]+)", line))
            and loops(parts[inner[1]])
        ):
            found += in_loops(parts, inner[1], times, length)
        elif times and opcode not in FREE:
            found[opcode] += times
    return found


def loops(lines: list[str]) -> bool:
    return any(opcode_of(line) == "while" for line in lines)


def opcode_of(line: str) -> str:
    match = INSTRUCTION.match(line)
    return match["opcode"] if match else "parameter"


def computations(program: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that starts."""
    parts: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        if head := HEAD.match(line):
            name = head["name"]
            parts[name] = []
            entry = name if head["entry"] else entry
        elif name and line.startswith(" "):
            parts[name].append(line)
    return parts, entry


def per_step(step: Callable, args: Any, length: int) -> float:
    """Kernels per time step of a jitted function, forward and reverse loop together."""
    return kernels(step.lower(*args).compile().as_text(), length).total() / length


def measure(cell: str, shape: Any, mode: str) -> dict[str, Any]:
    args = make_problem(cell, shape)
    row: dict[str, Any] = {"cell": cell, "shape": list(shape), "mode": mode}
    for name, side in {"lax.scan": jax.lax.scan, "rnnjax": scan}.items():
        found = kernels(make_step(cell, side, mode).lower(*args).compile().as_text(), shape[0])
        row[name] = found.total() / shape[0]
        row[f"{name}: which"] = ", ".join(f"{n / shape[0]:.1f} {opcode}" for opcode, n in found.most_common())
    return row


def main() -> None:
    options = arguments(__doc__)
    print(machine_line())
    modes, cells = options.modes.split(","), cells_of(options, ("lstm", "gru", "elman"))
    rows = [measure(cell, shape, mode) for mode in modes for cell in cells for shape in shapes_of(options)]
    columns = ("cell", "mode", "shape", "lax.scan", "rnnjax", "rnnjax: which")
    print_rows(rows, columns, "kernels per time step")
    save("kernels", rows, options)


if __name__ == "__main__":
    main()

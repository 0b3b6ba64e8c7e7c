"""Question 3: what is each part of the engine worth? Training step of a naive LSTM, each part alone and together.

python benchmarks/ablation.py [--quick] [--cells lstm] [--rows 0,1]
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from common import arguments, cells_of, save, shapes_of

from rnnjax.bench import assert_equal, interleave, make_problem, make_step, print_rows
from rnnjax.engine import plan, residuals, scan, schedule
from rnnjax.engine.execute import batch, ways

BIG = 1 << 40


def patched(scan: Any, *patches: Any) -> Any:
    """`scan` with a constant of the plan changed while it is traced."""

    def run(*args, **kwargs):
        with contextlib.ExitStack() as stack:
            for target, name, value in patches:
                stack.enter_context(mock.patch.object(target, name, value))
            return scan(*args, **kwargs)

    return run


def way(name: str) -> Any:
    """A schedule that always goes this way, where it can."""

    def choose(length: int, sizes: schedule.Sizes) -> schedule.Schedule:
        replay = name == "replay" and sizes.can_replay
        wide = sizes.hoisted + sizes.taps + (sizes.again if replay else 0)
        blocks = 1 if name == "whole" else schedule.count_blocks(wide // (2 if replay else 1), length)
        return schedule.Schedule(blocks, replay and blocks > 1)

    return choose


PARTS = {
    "lax.scan": (jax.lax.scan, ()),
    "hoist": (partial(scan, fuse="hoist"), ()),
    "defer": (partial(scan, fuse="defer"), ()),
    "both": (partial(scan, fuse="all"), ()),
    "plan": (scan, ()),
    "plan, whole": (scan, ((ways, "choose", way("whole")),)),
    "plan, blocks": (scan, ((ways, "choose", way("blocks")),)),
    "plan, replay": (scan, ((ways, "choose", way("replay")),)),
    "plan, gates apart": (scan, ((plan, "JOIN", BIG), (batch, "WIDE", 0))),
    "plan, store all": (scan, ((residuals, "ELEMENT", 10**4), (residuals, "CURVE", 10**4))),
    "plan, recompute all": (scan, ((residuals, "CURVE", 0), (residuals, "ELEMENT", 0))),
    "plan, bfloat16 products": (partial(scan, matmul_dtype=jnp.bfloat16), ()),
}


def main() -> None:
    options = arguments(__doc__)
    rows = []
    for cell in cells_of(options, ("lstm",)):
        for shape in shapes_of(options):
            args = make_problem(cell, shape)
            sides = {name: patched(make_step(cell, s, "train"), *p) for name, (s, p) in PARTS.items()}
            assert_equal({k: v for k, v in sides.items() if "bfloat16" not in k}, args)
            assert_equal({k: sides[k] for k in ("lax.scan", "plan, bfloat16 products")}, args, 0.2)
            ms = interleave(sides, args, options.repeats)
            rows += [{"cell": cell, "shape": list(shape), "what": k, "ms": v, "ratio": ms["lax.scan"] / v}
                     for k, v in ms.items()]  # fmt: skip
    print_rows(rows, ("cell", "shape", "what", "ms", "ratio"), "parts of the engine, training step")
    save("ablation", rows, options)


if __name__ == "__main__":
    main()

"""``method="scan"``: one loop, by the engine."""

from __future__ import annotations

from typing import Any

from rnnjax.base import Carry
from rnnjax.engine import scan
from rnnjax.sequence.arguments import Steps
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run
from rnnjax.sequence.step import loop_body


def run(its: Run, options: Options) -> Rolled:
    """All steps by `rnnjax.scan`."""
    body = loop_body(its.cell, its.params, its.start, its.fresh)

    def recording(carry: Carry, step: Steps) -> Any:
        carry, y = body(carry, step)
        return carry, (y, carry)

    last, out = scan(
        recording if its.carries else body,
        its.start,
        its.steps,  # the length is that of xs, which may be symbolic
        reverse=options.reverse,
        unroll=options.unroll,
        checkpoint=options.checkpoint,
        matmul_dtype=options.matmul_dtype,
        fuse=options.fuse,
    )
    return Rolled(last, *out) if its.carries else Rolled(last, out)

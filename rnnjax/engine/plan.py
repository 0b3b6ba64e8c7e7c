"""Step 4, plan: what is worth doing, from shapes and dtypes alone.

plain     nothing to hoist, nothing to defer and no readout: `lax.scan` as it is
hoist     every product of x with constants; cheap steps on x stay in the loop unless they shrink what it reads
defer     the gradient of every constant that is multiplied with something that needs the carry
readout   products that feed no next carry wait until after the loop, unless that stores much more than it saves
time      `schedule` says whether time is cut into blocks, where a gradient is taken
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rnnjax import _jax
from rnnjax.engine.graph import PRODUCTS, Eqn, Graph, nbytes, variables
from rnnjax.engine.rewrite import rewrite
from rnnjax.engine.schedule import WHOLE, Ways
from rnnjax.engine.sort import CHEAP, ELEMENTWISE_COSTLY, Sorted, sort
from rnnjax.engine.taps import USUAL, Taps, find_taps
from rnnjax.engine.trace import Traced, lower_products

JOIN = 16  # steps that make up for a copy of the weights
MODES = (True, False, "all", "hoist", "defer")


@dataclasses.dataclass
class Plan:
    """What to run. `taps` is None where `lax.scan` runs as it is; `reason` says why. `unknown`: a form that this library
    has not met."""

    reason: str
    sorted: Sorted | None = None
    taps: Taps | None = None
    ways: Ways = WHOLE
    unknown: bool = False


def make_plan(traced: Traced, fuse: bool | str, matmul_dtype: Any = None) -> Plan:
    """Decide. `fuse` and `matmul_dtype` as for `scan`."""
    if fuse is False:
        return Plan("fuse=False")
    if traced.graph is None:
        return Plan(traced.reason, unknown=traced.unknown)
    if traced.length < 2:
        return Plan("fewer than two steps")
    try:
        return decide(traced, traced.graph, fuse, matmul_dtype)
    except _jax.Unsupported as error:
        return Plan(str(error), unknown=True)


def decide(traced: Traced, graph: Graph, fuse: bool | str, matmul_dtype: Any) -> Plan:
    """Rewrite, sort, find the taps; raises `Unsupported` for what JAX never made so far."""
    graph = rewrite(graph, traced.num_carry, fuse == "all" or traced.length >= JOIN)
    if matmul_dtype is not None:
        graph = lower_products(graph, matmul_dtype)
    s = sort(graph, traced.num_carry, everything=fuse == "all", hoisting=fuse != "defer")
    taps = find_taps(s, lambda eqn: defers(eqn, fuse))
    if fuse is True and matmul_dtype is None and not pays(s, taps):
        return Plan("nothing to hoist and nothing to defer", s)
    return Plan("fused", s, taps, ways=Ways() if fuse is True else WHOLE)


def defers(eqn: Eqn, fuse: bool | str) -> bool:
    """Whether the mode asks for the weight gradient of this equation to be deferred."""
    return fuse == "all" or (fuse != "hoist" and eqn.name in USUAL)


def pays(s: Sorted, taps: Taps) -> bool:
    """Whether any step leaves the loop that is more than moving memory."""
    ahead = any(e.name not in CHEAP and e.name not in ELEMENTWISE_COSTLY for e in s.ahead)
    return ahead or bool(s.after) or any(u.eqn.name in PRODUCTS for u in taps.uses)


def hoisted_bytes(s: Sorted) -> int:
    """Bytes per step of what is hoisted into the loop."""
    return sum(nbytes(v) for v in {v for e in s.loop for v in variables(e.ins) if s.level[v] == 1 and v not in s.xs})

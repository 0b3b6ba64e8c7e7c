"""Step 4, plan: what is worth doing, from shapes and dtypes alone, or as measured by `tune`.

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
from rnnjax.engine.binding_times import CHEAP, ELEMENTWISE_COSTLY, INPUT, Sorted, sort
from rnnjax.engine.capture import Traced, lower_products
from rnnjax.engine.deferral import USUAL, Taps, find_taps
from rnnjax.engine.graph import PRODUCTS, Eqn, Graph, Var, is_float, nbytes, variables
from rnnjax.engine.passes import rewrite
from rnnjax.engine.schedule import WHOLE, Ways

JOIN = 16  # steps that make up for a copy of the weights
MODES = (True, False, "all", "hoist", "defer")


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The fastest way that `rnnjax.tune` measured, for ``fuse=``. Hashable; equal where it says and was tuned for the same.

    fuse: as for `rnnjax.scan`; False is `jax.lax.scan`. ways: how a forward pass alone and a gradient go through time, None
    where the shapes decide. gradient: what was measured. length, carry, xs: the steps and the floating types of the carry
    and of one step's inputs it was tuned for, such as ``"float32[32,64]"``; on others it acts as ``fuse=True``, with one
    warning. seconds: ``((way, seconds), ...)`` as measured on `device`, no part of what makes two plans equal.
    """

    fuse: bool | str
    ways: Ways
    gradient: bool
    length: int
    carry: tuple[str, ...]
    xs: tuple[str, ...]
    best: str = dataclasses.field(default="", compare=False)
    seconds: tuple[tuple[str, float], ...] = dataclasses.field(default=(), compare=False, repr=False)
    device: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        kind = "value and gradient" if self.gradient else "forward alone"
        return f"{self.best} ({kind}, tuned for {self.made_for}, on {self.device})"

    @property
    def made_for(self) -> str:
        """Carry, inputs and steps in words."""
        return in_words(self.length, self.carry, self.xs)

    def fits(self, traced: Traced) -> bool:
        """Whether it was tuned for the floating types and the length of this call."""
        return (self.length, self.carry, self.xs) == types_of(traced)


def types_of(traced: Traced) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """(length, floating types of the carry, those of one step's inputs): what a tuned plan is bound to."""
    ins = traced.graph.ins if traced.graph is not None else []
    carry, xs = ins[: traced.num_carry], ins[traced.num_carry :]
    return traced.length, floating_types(carry), floating_types(xs)


def floating_types(values: list[Var]) -> tuple[str, ...]:
    """Such as `("float32[2,4]",)`; masks, tokens and keys beside them are left out."""
    return tuple(f"{v.dtype}[{','.join(map(str, v.shape))}]" for v in values if is_float(v))


def in_words(length: int, carry: tuple[str, ...], xs: tuple[str, ...]) -> str:
    """Such as `5 steps, carry float32[2,4], x float32[2,3]`."""
    return f"{length} steps, carry {' '.join(carry) or 'without floats'}, x {' '.join(xs) or 'without floats'}"


def check_fuse(who: str, fuse: Any) -> None:
    """Raises ValueError for what is neither a mode nor a plan."""
    if not (isinstance(fuse, (bool, Tuned)) or (isinstance(fuse, str) and fuse in MODES)):
        raise ValueError(f"{who}: fuse must be one of {MODES} or a plan of rj.tune, got {fuse!r}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run. `taps` is None where `lax.scan` runs as it is; `reason` says why. `unknown`: a form that this library
    has not met. `source`: where the way comes from, if it was tuned; `misfit`: what speaks against a tuned plan here."""

    reason: str
    sorted: Sorted | None = None
    taps: Taps | None = None
    ways: Ways = WHOLE
    unknown: bool = False
    source: str = ""
    misfit: str = ""

    @property
    def fused(self) -> bool:
        """Whether it is not `lax.scan` as it is."""
        return self.sorted is not None and self.taps is not None

    @property
    def says(self) -> str:
        """The warning that a user gets, or an empty string."""
        if self.unknown:
            return f"rnnjax.scan runs as jax.lax.scan: {self.reason}"
        cure = "; it acts as fuse=True here: call rj.tune with these shapes"
        return f"rnnjax.scan: {self.misfit}{cure}" if self.misfit else ""


def make_plan(traced: Traced, fuse: bool | str | Tuned, matmul_dtype: Any = None) -> Plan:
    """Decide. `fuse` and `matmul_dtype` as for `scan`."""
    if isinstance(fuse, Tuned):
        return tuned_plan(traced, fuse, matmul_dtype)
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


def tuned_plan(traced: Traced, tuned: Tuned, matmul_dtype: Any) -> Plan:
    """As it was tuned; where it was tuned for others, as the shapes say."""
    if traced.graph is not None and not tuned.fits(traced):
        misfit = f"the plan was tuned for {tuned.made_for}, got {in_words(*types_of(traced))}"
        return dataclasses.replace(make_plan(traced, True, matmul_dtype), misfit=misfit)
    plan = make_plan(traced, tuned.fuse, matmul_dtype)
    reason = "as tuned" if tuned.fuse is False else plan.reason
    return dataclasses.replace(plan, reason=reason, ways=tuned.ways, source=f"rj.tune: {tuned}")


def decide(traced: Traced, graph: Graph, fuse: bool | str, matmul_dtype: Any) -> Plan:
    """Rewrite, sort, find the taps; raises `Unsupported` for what JAX never made so far."""
    graph = rewrite(graph, traced.num_carry, fuse == "all" or traced.length >= JOIN)
    if matmul_dtype is not None:
        graph = lower_products(graph, matmul_dtype)
    s = sort(graph, traced.num_carry, everything=fuse == "all", hoisting=fuse != "defer")
    if len(_jax.meshes(v.aval for e in s.loop for v in e.outs)) > 1:
        return Plan("a part of the loop lies on another mesh than the rest, as a gather with out_sharding does")
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
    return sum(nbytes(v) for v in {v for e in s.loop for v in variables(e.ins) if s.when[v] == INPUT and v not in s.xs})

"""`explain`: what the engine does with each product of a body, and why."""

from __future__ import annotations

import dataclasses

from rnnjax.engine.binding_times import STAYS, Sorted, may_run_at_once
from rnnjax.engine.capture import Traced
from rnnjax.engine.execute.ways import gradient_schedule
from rnnjax.engine.graph import PRODUCTS, Eqn, Graph, is_var, variables
from rnnjax.engine.plan import Plan
from rnnjax.engine.schedule import Schedule

COLUMNS = ("where", "product", "fate", "why")


@dataclasses.dataclass(frozen=True)
class Row:
    """One product: where it stands, what it is, what becomes of it and of its weight's gradient, and why."""

    where: str
    product: str
    fate: str  # hoisted | deferred | left | once | after
    why: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `rnnjax.scan` does with a body; `str()` of it is a table.

    rows: one `Row` per product. decision: how the loop runs. fused: whether it differs from `lax.scan`.
    """

    rows: tuple[Row, ...]
    decision: str
    fused: bool

    def __str__(self) -> str:
        table = [COLUMNS, *((r.where, r.product, r.fate, r.why) for r in self.rows)]
        widths = [max(len(line[n]) for line in table) for n in range(len(COLUMNS) - 1)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]) for line in table]
        body = lines if self.rows else ["no products"]
        return "\n".join([*body, "", self.decision])

    __repr__ = __str__


def make_explanation(traced: Traced, plan: Plan) -> Explanation:
    """What a plan does with a traced body."""
    source = "".join(f"\n{line}" for line in (plan.source, plan.misfit) if line)
    if plan.sorted is None:
        rows = plain_rows(traced.graph, plan.reason) if traced.graph is not None else ()
        return Explanation(tuple(rows), f"plain lax.scan: {plan.reason}{source}", False)
    rows = tuple(fused_rows(plan.sorted, plan))
    if plan.taps is None:
        return Explanation(rows, f"plain lax.scan: {plan.reason}{source}", False)
    s = plan.sorted
    taps = len(plan.taps.taps)
    decision = (
        f"fused: {len(s.ahead)} equations before the loop, {len(s.loop)} in it, {len(s.after)} after it; "
        f"{taps} stored cotangent{'s serve' if taps != 1 else ' serves'} all deferred gradients\n"
        f"a gradient goes through time {through_time(gradient_schedule(plan, traced.length), traced.length)}"
    )
    if plan.ways.forward is not None and plan.source:
        decision += f"\na forward pass alone goes {through_time(plan.ways.forward, traced.length, gradient=False)}"
    return Explanation(rows, decision + source, True)


def through_time(way: Schedule, length: int, gradient: bool = True) -> str:
    """A schedule in words: of a gradient, or of a forward pass alone."""
    if not way.hoist:
        return "whole, its inputs made step by step"
    if way.written:
        return "written out step by step, without a loop"
    where = "whole" if way.blocks == 1 else f"in {way.blocks} blocks of {length // way.blocks} steps"
    if not gradient:
        return where
    return f"{where}, {'made again from the carries alone' if way.replay else 'what is costly kept'}"


def plain_rows(graph: Graph, reason: str) -> list[Row]:
    """Every product of a body that runs as it is."""
    return [row(e, "left", reason) for e in graph.eqns if e.name in PRODUCTS]


def fused_rows(s: Sorted, plan: Plan) -> list[Row]:
    """Every product of the body, in the order of the stages."""
    rows = [row(e, "once", "needs constants only") for e in s.once if e.name in PRODUCTS]
    rows += [row(e, "hoisted", "does not need the carry") for e in s.ahead if e.name in PRODUCTS]
    deferred = {u.eqn for u in plan.taps.uses} if plan.taps else set()
    for eqn in s.loop:
        if eqn in deferred and eqn.name != "mul":
            rows.append(row(eqn, "deferred", "constant operand: one gradient product after the reverse loop"))
        elif eqn.name in PRODUCTS:
            rows.append(row(eqn, "left", why_left(eqn, s)))
        elif eqn.name in STAYS or not may_run_at_once(eqn):
            rows.append(row(eqn, "left", "control flow or an unknown primitive is kept as it is"))
    return rows + [row(e, "after", "feeds no next carry") for e in s.after if e.name in PRODUCTS]


def why_left(eqn: Eqn, s: Sorted) -> str:
    """Why a product stays in the loop as it is."""
    if all(s.of(v) == 2 for v in variables(eqn.ins)):
        return "both operands need the carry"
    return "not asked for by fuse" if any(s.of(v) == 0 for v in variables(eqn.ins)) else "operand changes every step"


def row(eqn: Eqn, fate: str, why: str) -> Row:
    """One equation as a row."""

    def shape(atom):
        return f"{atom.aval.dtype}[{','.join(map(str, atom.aval.shape))}]" if is_var(atom) else str(atom)

    sign = " @ " if eqn.name == "dot_general" else ", "
    ins = [shape(a) for a in eqn.ins[:2]] if eqn.name in PRODUCTS else []
    return Row(eqn.where or "?", sign.join(ins) or eqn.name, fate, why)

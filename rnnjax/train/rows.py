"""Where the rows of a batch go: for each value of a traced loss, which axis counts them, or what else it is (`states`).

A rule for each primitive says what becomes of the axis (`rules`). Where no rule does, `Unprovable`: the loss is then left to
XLA's partitioner. Nothing here looks at values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import Eqn, Graph, Var, is_float, is_var, run_eqn
from rnnjax.train.rules import ELEMENTWISE, FILLED, KEYED, MOVES, PIECES, RULES, filled, led_to
from rnnjax.train.states import SUM, TAIL, Rows, State, Unprovable, Whole, fit, join, require, said, same_rows, shape_of

LARGE = 2**16  # constants with more elements are told apart as objects
CALLS = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "remat", "remat2", "checkpoint"})
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
LINEAR = MOVES | {
    "add",
    "add_any",
    "neg",
    "sub",
    "convert_element_type",
    "reduce_sum",
    "copy",
    "copy_p",
    "slice",
    "pad",
}
SILENT = frozenset(
    {"add", "add_any", "copy", "copy_p", "convert_element_type", "stop_gradient"}
)  # an engine may add these


@dataclasses.dataclass
class Study:
    """Follows the rows through a graph; `rows`: how many there are. `frontier`: the sums over them, in order. `marks`:
    (equation of the outermost graph, something in it that may have been made from the number of rows)."""

    rows: int
    frontier: list[Var] = dataclasses.field(default_factory=list)
    marks: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    inside: int | None = None  # the outermost equation that is looked into
    rules: bool = True  # look at derivative rules that are not JAX's own
    derivative: bool = False  # in such a rule: sums over the rows, and what is linear in them, may be results

    def follow(self, graph: Graph, given: list[State]) -> dict[Var, State]:
        """The state of every value."""
        env: dict[Var, State] = {v: Whole() for v in graph.consts}
        env.update(zip(graph.ins, given, strict=True))
        outermost = self.inside is None
        for eqn in graph.eqns:
            self.inside = id(eqn) if outermost else self.inside
            self.mark_literals(eqn, graph)
            out = self.apply(eqn, [env[a] if is_var(a) else Whole() for a in eqn.ins])
            if SUM in out:
                if not (outermost or self.derivative):
                    raise Unprovable(f"a sum over the batch inside a loop, a branch or a checkpoint{said(eqn)}")
                self.frontier += eqn.outs if outermost else []
                out = [TAIL] * len(out)
            env.update(zip(eqn.outs, out, strict=True))
        self.inside = None if outermost else self.inside
        return env

    def apply(self, eqn: Eqn, states: list[State]) -> list[State]:
        """The states of an equation's results."""
        split = any(isinstance(s, Rows) for s in states)
        if TAIL in states:
            if split:
                raise Unprovable(f"each row depends on a sum over the batch{said(eqn)}")
            if self.derivative and eqn.name not in LINEAR:
                raise Unprovable(f"a derivative rule with more than sums over the batch{said(eqn)}")
            return [TAIL] * len(eqn.outs)
        if eqn.name in CALLS:
            out = self.outs_of(_jax.called(eqn.params), states)
            if self.rules and split and eqn.name in CUSTOM:
                check_rule(self, eqn, states, out)
            return out
        if eqn.name in LOOPS:
            return LOOPS[eqn.name](self, eqn, states)
        if not split:
            return self.whole(eqn, states)
        if eqn.name in ELEMENTWISE:
            return same_rows(eqn, states)
        if eqn.name not in RULES:
            raise Unprovable(f"no rule for {eqn.name}{said(eqn)}")
        self.mark_mixed(eqn, states)
        out = RULES[eqn.name](eqn, states, self.rows)
        return out if isinstance(out, list) else [out] * len(eqn.outs)

    def outs_of(self, closed: Any, states: list[State]) -> list[State]:
        """The states of a nested jaxpr's results."""
        graph = to_graph(closed)
        env = self.follow(graph, states)
        return [env[a] if is_var(a) else Whole() for a in graph.outs]

    def whole(self, eqn: Eqn, states: list[State]) -> list[State]:
        """An equation that reads nothing of the batch."""
        for inner in (e for sub in _jax.sub_jaxprs(eqn.params) for e in _jax.equations(sub)):
            self.marks += [(self.inside or 0, fixed(a.val, a)) for a in inner.invars if isinstance(a, _jax.Literal)]
        if not eqn.ins or eqn.name in KEYED:
            self.marks.append((self.inside or 0, (eqn.name, *(v.shape for v in eqn.outs))))
        return [self.uniform(eqn, states, v) for v in eqn.outs]

    def uniform(self, eqn: Eqn, states: list[State], out: Var) -> Whole:
        """The axes of a result along which it is uniform: those that a rule leads a uniform axis to, and new ones."""
        if eqn.name in MOVES or not eqn.ins:
            return filled(eqn, states, out)
        if eqn.name in PIECES:
            return states[0]
        found = frozenset(range(len(out.shape))) if all(not shape_of(a) for a in eqn.ins) else frozenset()
        for k, (atom, state) in enumerate(zip(eqn.ins, states, strict=True)):
            for axis in state.uniform:
                to = led_to(eqn, [*states[:k], Rows(axis), *states[k + 1 :]], shape_of(atom)[axis])
                found |= {to} if to is not None and to < len(out.shape) else frozenset()
                if to is None and eqn.name not in ELEMENTWISE | FILLED:
                    self.marks.append((self.inside or 0, (eqn.name, shape_of(atom)[axis])))
        return Whole(found)

    def mark_mixed(self, eqn: Eqn, states: list[State]) -> None:
        """Constants made in the size of something: their sizes must not come from the number of rows."""
        for atom, state in zip(eqn.ins, states, strict=True):
            if isinstance(state, Whole) and state.uniform and eqn.name not in FILLED:
                self.marks.append((self.inside or 0, (eqn.name, shape_of(atom))))

    def mark_literals(self, eqn: Eqn, graph: Graph) -> None:
        """Numbers in the program, and what is done with them."""
        if eqn.name in ELEMENTWISE - SILENT:
            self.marks.append((self.inside or 0, eqn.name))
        for atom in eqn.ins:
            value = graph.consts.get(atom) if is_var(atom) else atom.val
            if value is not None:
                self.marks.append((self.inside or 0, fixed(value, atom)))


def fixed(value: Any, atom: Any) -> Any:
    """Something to compare constants by: their values, where they are known."""
    if isinstance(value, jax.core.Tracer) or getattr(value, "size", 1) > LARGE:
        return ("object", id(value))  # the same in every trace of the loss, unless the loss makes it anew
    if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
        return (str(value.dtype), (value.shape, np.asarray(value).tobytes()))
    value = np.asarray(value, atom.aval.dtype)
    return (str(value.dtype), repr(value.item()) if value.ndim == 0 else (value.shape, value.tobytes()))


def check_rule(study: Study, eqn: Eqn, states: list[State], outs: list[State]) -> None:
    """The derivative that a custom rule gives must treat the rows one by one, as the value does."""
    sub, _ = _jax.open_jaxpr(_jax.called(eqn.params))
    jvp = eqn.name == "custom_jvp_call"
    if jvp and any(e.primitive.name in ("scan", "while") for e in _jax.equations(sub)):
        return  # the engine's loops
    moving = [k for k, a in enumerate(eqn.ins) if is_float(a)]
    floats = [k for k, v in enumerate(eqn.outs) if is_float(v)]
    shape = lambda a: jax.ShapeDtypeStruct(shape_of(a), a.aval.dtype)

    def of(values: list, moved: list) -> list:
        full = list(values)
        for k, v in zip(moving, moved, strict=True):
            full[k] = v
        out = run_eqn(eqn, full)
        return [out[k] for k in floats]

    def forward(values: list, dots: list) -> list:
        return jax.jvp(lambda moved: of(values, moved), ([values[k] for k in moving],), (dots,))[1]

    def backward(values: list, dots: list) -> list:
        return jax.vjp(lambda moved: of(values, moved), [values[k] for k in moving])[1](dots)[0]

    given, made = [states[k] for k in moving], [outs[k] for k in floats]
    dots, wanted = (given, made) if jvp else (made, given)
    which, atoms = (forward, [eqn.ins[k] for k in moving]) if jvp else (backward, [eqn.outs[k] for k in floats])
    closed = jax.make_jaxpr(which)([shape(a) for a in eqn.ins], [shape(a) for a in atoms])
    inner = dataclasses.replace(study, inside=study.inside or 0, derivative=not jvp, rules=False, frontier=[], marks=[])
    graph = to_graph(closed)
    env = inner.follow(graph, [*states, *dots])
    for atom, want in zip(graph.outs, wanted, strict=True):
        have = env[atom] if is_var(atom) else Whole()
        if isinstance(want, Rows):
            fit(atom, have if have != TAIL else Whole(), want, f" in a derivative rule{said(eqn)}")
        elif isinstance(have, Rows):
            raise Unprovable(f"a derivative rule makes rows of what has none{said(eqn)}")


def scan(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """The carry's states are those that a step keeps; time must not be the rows' axis."""
    loop = _jax.loop_of_scan(SimpleNamespace(params=eqn.params, invars=eqn.ins))
    n, m = loop.num_consts, loop.num_consts + loop.num_carry
    xs = [shifted(s, -1, eqn) for s in states[m:]]
    carry, ys = steady(study, loop.body, states[:n], states[n:m], xs, eqn)
    return [*carry, *(shifted(s, 1, eqn) for s in ys)]


def steady(study: Study, body: Any, consts: list, carry: list, xs: list, eqn: Eqn) -> tuple[list, list]:
    """The states of a carry and of the other results, once another step does not change them."""
    before = len(study.marks)
    while True:
        del study.marks[before:]
        out = study.outs_of(body, [*consts, *carry, *xs])
        given = eqn.ins[len(consts) :] if eqn.name == "scan" else eqn.ins[-len(carry) :]
        new = [join(a, s, o, said(eqn)) for a, s, o in zip(given, carry, out, strict=False)]
        if new == carry:
            return carry, out[len(carry) :]
        carry = new


def shifted(state: State, by: int, eqn: Eqn) -> State:
    """A state with the axis of time taken away or put first."""
    if isinstance(state, Whole):
        return Whole(frozenset(a + by for a in state.uniform if a + by >= 0))
    require(state.axis + by >= 0, eqn)
    return state.at(state.axis + by)


def cond(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """All branches give the same rows."""
    if isinstance(states[0], Rows):
        raise Unprovable(f"a branch chosen by the batch{said(eqn)}")
    outs = [study.outs_of(branch, states[1:]) for branch in _jax.branches(eqn.params)]
    joined = outs[0]
    for other in outs[1:]:
        joined = [join(v, a, b, said(eqn)) for v, a, b in zip(eqn.outs, joined, other, strict=True)]
    return joined


def repeat(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """A `while`: how often it runs must not depend on the batch."""
    test, n, body, m = _jax.while_parts(eqn.params)
    carry, _ = steady(study, body, states[n : n + m], states[n + m :], [], eqn)
    if any(not isinstance(s, Whole) for s in study.outs_of(test, [*states[:n], *carry])):
        raise Unprovable(f"the batch decides how often a loop runs{said(eqn)}")
    return carry


def as_given(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """Each operand handed on as it is; `reshard` where no axis is explicit."""
    return list(states)


LOOPS: dict[str, Callable[[Study, Eqn, list[State]], list[State]]] = {
    "scan": scan,
    "cond": cond,
    "while": repeat,
    **dict.fromkeys(["optimization_barrier", "pvary", "pcast", "reshard"], as_given),
}

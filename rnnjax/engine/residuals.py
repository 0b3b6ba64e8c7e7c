"""What the forward loop stores for the reverse loop: the cheapest set, as a minimum cut.

Each value the linear part reads must be stored, or recomputed from what is. A value on the far side of the cut is
recomputed and pays for that; a value on the cut is stored and pays for its bytes; products, reductions, inner loops
and the carry cannot be recomputed. The costs are nanoseconds per byte, measured on CPUs (benchmarks/NOTES.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rnnjax.engine.binding_times import CHEAP, ELEMENTWISE_COSTLY
from rnnjax.engine.graph import Eqn, Var, nbytes, producers, variables

STORE, READ = 170, 30  # write step by step and read back; read only, of what is stored anyway
STACK = 60  # write for all steps at once and read back
ELEMENT, CURVE = 4, 90  # recompute an addition or a product; a tanh or a division
NEVER = 1 << 60


def recompute_cost(eqn: Eqn | None, var: Var) -> int:
    """Cost of having `var` again, its operands given; `NEVER` for what only the forward loop can know."""
    if eqn is None:
        return NEVER
    if eqn.name in CHEAP:
        return ELEMENT * nbytes(var)
    return CURVE * nbytes(var) if eqn.name in ELEMENTWISE_COSTLY else NEVER


def choose(eqns: list[Eqn], needed: Iterable[Var], free: set[Var], stored: set[Var], store: int = STORE) -> list[Var]:
    """The values to store so that `needed` can be had. `free` cost nothing, `stored` are stored anyway, others `store`."""
    made = producers(eqns)
    network = Network()
    seen: dict[Var, None] = {}  # ordered: the same program for the same body, in every process
    todo = [v for v in needed if v not in free]
    for v in todo:
        network.add((v, 1), "sink", NEVER)
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen[v] = None
        cost = recompute_cost(made.get(v), v)
        network.add("source", (v, 0), cost)
        network.add((v, 0), (v, 1), (READ if v in stored else store) * nbytes(v) + 1)
        if cost < NEVER:
            for u in variables(made[v].ins):
                if u not in free:
                    network.add((u, 1), (v, 0), NEVER)
                    todo.append(u)
    near = network.cut("source", "sink")
    return [v for v in seen if (v, 0) in near and (v, 1) not in near]


class Network:
    """A flow network with integer capacities; `cut` by shortest augmenting paths."""

    def __init__(self):
        self.capacity: dict = {}

    def add(self, a, b, capacity: int) -> None:
        edges = self.capacity.setdefault(a, {})
        edges[b] = edges.get(b, 0) + capacity
        self.capacity.setdefault(b, {}).setdefault(a, 0)

    def path(self, source, sink) -> tuple[dict, bool]:
        """(how each node was reached from the source over free capacity, whether the sink was)."""
        came, todo = {source: source}, deque([source])
        while todo:
            a = todo.popleft()
            for b, c in self.capacity.get(a, {}).items():
                if c > 0 and b not in came:
                    came[b] = a
                    if b == sink:
                        return came, True
                    todo.append(b)
        return came, False

    def cut(self, source, sink) -> set:
        """The nodes on the source's side of a minimum cut."""
        while True:
            came, reached = self.path(source, sink)
            if not reached:
                return set(came)
            steps, b = [], sink
            while b != source:
                steps.append((came[b], b))
                b = came[b]
            flow = min(self.capacity[a][b] for a, b in steps)
            for a, b in steps:
                self.capacity[a][b] -= flow
                self.capacity[b][a] += flow

"""Step 2, the passes: graph -> graph, one file each, to move work to where the loop does not pay for it.

The values are the same up to the order of sums. A pass is given the binding times of
its graph, and changes neither.
"""

from __future__ import annotations

from rnnjax.engine.binding_times import binding_times
from rnnjax.engine.graph import Graph, checked
from rnnjax.engine.passes.concats import open_concats
from rnnjax.engine.passes.join import join_products
from rnnjax.engine.passes.narrow import part_gates
from rnnjax.engine.passes.push_splits import push_splits
from rnnjax.engine.passes.slices import slices_to_splits

ORDER = (slices_to_splits, open_concats, join_products, push_splits, part_gates)


def rewrite(graph: Graph, num_carry: int, join: bool) -> Graph:
    """All passes, in order, the graph checked after each. `join`: make one product of those that read the same operand."""
    graph = checked(graph)
    for one in ORDER:
        if join or one is not join_products:
            graph = checked(one(graph, num_carry, binding_times(graph, num_carry)))
    return graph

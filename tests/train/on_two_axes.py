"""One of several processes with two devices each, or one alone with four: COORDINATOR PROCESSES PROCESS OUT. Prints JSON.

Features split over a second axis (`rj.sharding.rules`), and an ensemble with its members split: a step of each on a mesh
over all processes, and its numbers whole.
"""

import json
import sys

import jax


def main(coordinator, processes, process, out):
    from on_hosts import join

    processes = int(processes)
    join(coordinator, processes, int(process), 4 // processes)
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import NamedSharding, PartitionSpec

    import rnnjax as rj

    cell, xs = rj.LSTM(4), np.sin(0.3 * np.arange(5 * 4 * 3, dtype=np.float32)).reshape(5, 4, 3)
    loss = lambda params, xs: jnp.mean(rj.unroll(cell, params, xs)[1] ** 2)
    make = lambda key: cell.init(key, jnp.zeros((4, 3)))

    def over(tree, shardings):
        one = lambda a, where: jax.make_array_from_callback(np.shape(a), where, lambda at: np.asarray(a)[at])
        return jax.tree.map(one, tree, shardings)

    def whole(tree):
        gather = lambda a: np.asarray(multihost_utils.process_allgather(a, tiled=True) if processes > 1 else a)
        return np.concatenate([gather(a).ravel() for a in jax.tree.leaves(tree)]).tolist()

    mesh = jax.make_mesh((2, 2), ("data", "features"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    params, rows = make(jax.random.key(0)), NamedSharding(mesh, PartitionSpec(None, "data"))
    where = rj.sharding.rules(cell, params, mesh)
    step = jax.jit(jax.value_and_grad(loss))
    with jax.set_mesh(mesh):
        split = whole(step(over(params, where), over(xs, rows)))
    slices = {str(leaf.sharding.spec) for leaf in jax.tree.leaves(over(params, where))}

    members = jax.make_mesh((4,), ("member",), axis_types=(jax.sharding.AxisType.Auto,))
    each = NamedSharding(members, PartitionSpec("member"))
    many = jax.vmap(make)(jax.random.split(jax.random.key(1), 8))
    together = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, None)))
    placed = over(many, jax.tree.map(lambda _: each, many)), over(xs, NamedSharding(members, PartitionSpec()))
    said = {"split": split, "specs": sorted(slices), "ensemble": whole(together(*placed))}
    print(json.dumps(said | {"processes": jax.process_count()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])

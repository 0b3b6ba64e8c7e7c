"""Several devices: the numbers of one, no fall-back, and collectives where they are said to be; rules for params."""

import jax
import jax.numpy as jnp
import pytest
from several import on_devices

import rnnjax as rj

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import Mesh, PartitionSpec as P

assert len(jax.devices()) == 2
mesh = Mesh(np.array(jax.devices()), ("batch",))
xs = jax.random.normal(jax.random.key(0), (6, 4, 3))
lengths = jnp.array([6, 0, 3, 5])
cell = rj.Stack(rj.LSTM(4), rj.Readout(rj.GRU(3), 2))
params = cell.init(jax.random.key(1), xs[0])

def loss(params, xs, lengths):
    return jnp.sum(rj.unroll(cell, params, xs, lengths=lengths, truncate=4)[1] ** 2)

def shard(params, xs, lengths):
    value, grads = jax.value_and_grad(loss)(params, xs, lengths)
    return jax.lax.psum(value, "batch"), grads  # of parameters that all devices share: already summed

specs = dict(in_specs=(P(), P(None, "batch"), P("batch")), out_specs=(P(), P()))
got = jax.jit(jax.shard_map(shard, mesh=mesh, **specs))(params, xs, lengths)
want = jax.value_and_grad(loss)(params, xs, lengths)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
print("equal")
"""


def test_shard_map_over_the_batch_equals_one_device():
    run = on_devices(2, "-c", PROGRAM)
    assert run.stdout.strip() == "equal", run.stderr[-2000:]


COUNTING = """
import re

def collectives(text):
    '''(inside loops, outside) of a compiled program'''
    bodies, counts = set(re.findall(r"body=%?([\\w.-]+)", text)), [0, 0]
    for part in re.split(r"\\n(?=[%\\w].*\\{\\n)", text):
        found = re.findall(r" (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)[\\w-]*\\(", part)
        counts[part.split()[0].lstrip("%") not in bodies] += len(found)
    return tuple(counts)
"""

PLAIN_CODE = """
import warnings
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

warnings.simplefilter("error")
T, B, I, H = 6, 8, 3, 5
k = jax.random.split(jax.random.key(0), 3)
p = dict(w=jax.random.normal(k[0], (I, 4 * H)), u=jax.random.normal(k[1], (H, 4 * H)) / 3, b=jnp.zeros(4 * H))
xs, carry = jax.random.normal(k[2], (T, B, I)), (jnp.zeros((B, H)),) * 2

def loss(scan, p, xs, carry):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    return jnp.mean(scan(step, carry, xs)[1] ** 2)

want = jax.value_and_grad(loss, (1, 2))(jax.lax.scan, p, xs, carry)
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
    with jax.set_mesh(mesh):
        args = place(p, P()), place(xs, P(None, "data")), place(carry, P("data"))
        for scan in (jax.lax.scan, rj.scan):
            f = jax.jit(jax.value_and_grad(lambda *a: loss(scan, *a), (0, 1)))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), f(*args), want)
            print(kind.name, scan.__module__.split(".")[0], *collectives(f.lower(*args).compile().as_text()))
"""


def what_says(program, devices):
    """The lines that a program prints on so many CPU devices, in words."""
    run = on_devices(devices, "-c", COUNTING + program)
    assert run.returncode == 0, run.stderr[-2000:]
    return [line.split() for line in run.stdout.splitlines()]


def test_plain_code_on_a_batch_split_over_devices_sums_its_gradients_once_and_outside_the_loop():
    """Explicit and automatic meshes: `lax.scan` sums weight gradients over devices at every step; `rj.scan` once."""
    said = what_says(PLAIN_CODE, 4)
    assert len(said) == 4
    for _, whose, inside, outside in said:
        assert int(inside) == 0 < int(outside) == 1 if whose == "rnnjax" else int(inside) > 0


BLOCKS = """
import warnings
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rnnjax.engine.schedule import Schedule

warnings.simplefilter("error")
T, B, I, H = 12, 8, 3, 4
xs = jax.random.normal(jax.random.key(2), (T, B, I))
WAYS = [(Schedule(3), {}), (Schedule(3, True), {}), (Schedule(), dict(checkpoint="sqrt")), (Schedule(), dict(checkpoint=5))]
for cell in (rj.LSTM(H), rj.Elman(H)):
    params = jax.tree.map(np.asarray, cell.init(jax.random.key(0), xs[0]))
    carry = jax.tree.map(lambda a: jnp.ones((B, H)), cell.initial_carry(params, xs[0]))

    def loss(scan, p, xs, carry, **options):
        return jnp.mean(scan(lambda c, x: cell(p, c, x), carry, xs, **options)[1] ** 2)

    want = jax.value_and_grad(loss, (1, 2, 3))(jax.lax.scan, params, xs, carry)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
        place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
        with jax.set_mesh(mesh):
            args = place(params, P()), place(xs, P(None, "data")), place(carry, P("data"))
            for way, options in WAYS:
                rj.engine.execute.ways.choose = lambda length, sizes: way
                f = jax.jit(jax.value_and_grad(lambda *a: loss(rj.scan, *a, **options), (0, 1, 2)))
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), f(*args), want)
                text = f.lower(*args).compile().as_text()
                print(way.blocks, len(options), *collectives(text), len(re.findall("body=", text)))
"""


@pytest.mark.slow
def test_blocks_replays_and_segments_of_a_split_batch_have_no_collective_in_any_loop():
    """Not in the loop over blocks or segments either: one sum over devices a step, for explicit and automatic meshes."""
    said = what_says(BLOCKS, 4)
    assert len(said) == 16
    assert all(line[2:4] == ["0", "1"] for line in said), said
    assert all(int(line[4]) > 2 for line in said), said  # there is a loop of loops


FEATURES = """
import warnings
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

warnings.simplefilter("error")
T, B, I, H = 6, 8, 3, 4
xs = jax.random.normal(jax.random.key(2), (T, B, I))
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((2, 2), ("batch", "features"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        for cell in (rj.LSTM(H), rj.GRU(H), rj.Elman(H)):
            params = jax.tree.map(np.asarray, cell.init(jax.random.key(0), xs[0]))
            carry = jax.tree.map(lambda a: jnp.zeros((B, H)), cell.initial_carry(params, xs[0]))

            def loss(scan, p, xs, carry):
                return jnp.mean(scan(lambda c, x: cell(p, c, x), carry, xs)[1] ** 2)

            want = jax.value_and_grad(loss, (1, 2))(jax.lax.scan, params, xs, carry)
            place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
            args = (jax.tree.map(jax.device_put, params, rj.sharding.rules(cell, params, mesh)),
                    place(xs, P(None, "batch")), place(carry, P("batch", "features")))
            f = jax.jit(jax.value_and_grad(lambda *a: loss(rj.scan, *a), (0, 1)))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), f(*args), want)
            forward = jax.jit(lambda *a: loss(rj.scan, *a))
            print(*(collectives(g.lower(*args).compile().as_text())[0] for g in (forward, f)))
"""


def test_features_on_several_devices_gather_the_state_once_a_step_and_nothing_else_in_a_loop():
    """Forward one collective a step, with the gradient its transpose beside it; both meshes, three cells."""
    assert what_says(FEATURES, 4) == [["1", "2"]] * 6


def rules_of(cell, sizes, names=("batch", "features")):
    mesh = jax.sharding.AbstractMesh(sizes, names)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), jnp.zeros((2, 3))))
    return jax.tree.map(lambda s: tuple(s.spec), rj.sharding.rules(cell, params, mesh))


def test_rules_split_the_last_axis_over_the_second_axis_where_that_divides():
    assert rules_of(rj.Elman(4), (2, 4)) == {
        "input": (None, "features"),
        "recurrent": (None, "features"),
        "bias": ("features",),
    }
    assert set(jax.tree.leaves(rules_of(rj.Elman(6), (2, 4)), is_leaf=lambda s: isinstance(s, tuple))) == {()}
    assert set(jax.tree.leaves(rules_of(rj.Elman(4), (8,), ("batch",)), is_leaf=lambda s: isinstance(s, tuple))) == {()}


def test_rules_refuse_what_is_no_mesh_of_one_or_two_axes():
    with pytest.raises(TypeError, match="Elman.*mesh must be a jax.sharding.Mesh, got int"):
        rj.sharding.rules(rj.Elman(4), {}, 2)
    with pytest.raises(ValueError, match="one axis for the batch and at most one for features"):
        rules_of(rj.Elman(4), (1, 1, 1), ("a", "b", "c"))

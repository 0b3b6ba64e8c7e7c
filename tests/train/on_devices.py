"""Training steps on a mesh beside the same on one device, told as JSON: run by `test_mesh` on eight CPU devices."""

import json
import re
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnnjax as rj
from rnnjax.train import fit, make_step, memory, start, stateless

jax.config.update("jax_numpy_dtype_promotion", "strict")
T, B, I, V = 6, 8, 3, 7
CELL = rj.Readout(rj.Stack(rj.LSTM(4), rj.LSTM(4)), 2)
NOISY = rj.Readout(rj.Dropout(rj.GRU(4), 0.3), 2)
TOKENS = rj.Readout(rj.GRU(4), V)
XS, TARGETS = (np.random.default_rng(n).normal(size=(T, B, size)).astype(np.float32) for n, size in ((0, I), (1, 2)))
LENGTHS = np.array([6, 1, 0, 4, 6, 2, 5, 3])
LABELS = np.random.default_rng(2).integers(0, V, (T + 1, B))
HALF = jnp.float32(0.5)


def run(cell, params, carry, xs, key=None, **how):
    return rj.unroll(cell, params, xs, carry=carry, key=key, **how)


def mean(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, rj.losses.over_time(rj.losses.mse(ys, batch[1]))


def total(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, jnp.sum((ys - batch[1]) ** 2)


def masked(params, carry, batch, key):
    xs, targets, lengths = batch
    mask = jnp.arange(T)[:, None] < lengths
    carry, ys = run(CELL, params, carry, xs, lengths=lengths)
    return carry, rj.losses.over_time(rj.losses.mse(ys, targets, mask=mask), mask)


def decay(params, carry, batch, key):
    carry, loss = mean(params, carry, batch, key)
    return carry, loss + 0.01 * optax.tree.norm(params, squared=True)


def two_sums(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, jnp.mean((ys - batch[1]) ** 2) + 0.1 * jnp.mean(jnp.abs(ys))


def root(params, carry, batch, key):
    carry, loss = mean(params, carry, batch, key)
    return carry, jnp.sqrt(loss)


def product(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, jnp.mean((ys - batch[1]) ** 2) * jnp.mean(jnp.abs(ys))


def entropy(params, carry, tokens, key):
    carry, ys = run(TOKENS, params["cell"], carry, params["table"][tokens[:-1]])
    return carry, rj.losses.over_time(rj.losses.softmax_cross_entropy(ys, tokens[1:]))


def plain_scan(params, batch):
    step = lambda h, x: (jnp.tanh(x @ params["w"] + h @ params["u"]),) * 2
    return jnp.mean((jax.lax.scan(step, jnp.zeros((batch[0].shape[1], 2)), batch[0])[1] - batch[1]) ** 2)


def counted(params, carry, batch, key):
    """A part of the carry that is a number: the running mean of the losses."""
    state, loss = mean(params, carry[0], batch, key)
    return (state, HALF * carry[1] + HALF * loss), loss


def batch_norm(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    ys = (ys - ys.mean((0, 1))) / (1 + ys.std((0, 1)))
    return carry, jnp.mean((ys - batch[1]) ** 2)


def noise(params, carry, batch, key):
    carry, ys = run(NOISY, params, carry, batch[0], key)
    return carry, jnp.mean((ys - batch[1]) ** 2)


def own_size(params, carry, batch, key):
    """A number made of the batch's size where each row is computed."""
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, jnp.sum(jnp.tanh((ys - batch[1]) / batch[0].shape[1]))


def by_size(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    error = ys - batch[1]
    return carry, jnp.mean(jnp.abs(error) if batch[0].shape[1] > 4 else error**2)


def contrast(params, carry, batch, key):
    carry, ys = run(CELL, params, carry, batch[0])
    return carry, -jnp.mean(jnp.diag(jax.nn.log_softmax(ys[-1] @ ys[-1].T)))


def begin(cell, extra=None):
    params = cell.init(jax.random.key(0), jnp.zeros((B, I)))
    return params, cell.initial_carry(params, jnp.zeros((B, I)))


PARAMS, CARRY = begin(CELL)
WITH_TABLE = {"cell": TOKENS.init(jax.random.key(0), jnp.zeros((B, I))), "table": jnp.asarray(XS.reshape(-1, I)[:V])}
START = TOKENS.initial_carry(WITH_TABLE["cell"], jnp.zeros((B, I)))
BATCH, MASKED = (XS, TARGETS), ((XS, TARGETS, LENGTHS), (1, 1, 0))
# name -> loss, params, carry, batch, batch_axis
PROBLEMS = {
    **{f.__name__: (f, PARAMS, CARRY, BATCH, 1) for f in (mean, total, decay, two_sums, root, product)},
    **{f.__name__: (f, PARAMS, CARRY, BATCH, 1) for f in (batch_norm, own_size, by_size, contrast)},
    "masked": (masked, PARAMS, CARRY, *MASKED),
    "entropy": (entropy, WITH_TABLE, START, LABELS, 1),
    "plain_scan": (stateless(plain_scan), {"w": jnp.eye(I, 2), "u": jnp.eye(2)}, None, BATCH, (1, 1)),
    "counted": (counted, PARAMS, (CARRY, jnp.float32(0)), BATCH, 1),
    "noise": (noise, *begin(NOISY), BATCH, 1),
    "batch_first": (
        stateless(lambda p, b: jnp.mean((rj.unroll(CELL, p, b[0], time_axis=1)[1] - b[1]) ** 2)),
        PARAMS, None, (XS.swapaxes(0, 1), TARGETS.swapaxes(0, 1)), 0,
    ),
    "whole_leaf": (
        stateless(lambda p, b: jnp.mean(b["w"] * (rj.unroll(CELL, p, b["x"])[1] - b["y"]) ** 2)),
        PARAMS, None, {"x": XS, "y": TARGETS, "w": np.float32([1, 2])}, {"x": 1, "y": 1, "w": None},
    ),
}  # fmt: skip


def mesh_of(n, **kind):
    return jax.make_mesh((n,), ("data",), devices=jax.devices()[:n], **kind)


def steps(problem, mesh, count=3, optimizer=optax.sgd(0.1)):
    """The state and reports after some steps, and the step."""
    loss, params, carry, batch, axis = problem
    step = make_step(loss, optimizer, mesh=mesh, batch_axis=axis)
    state, key = start(params, optimizer, carry), jax.random.key(7)
    for _ in range(count):
        state, report = step(state, batch, key)
    return (state, report), step, batch, key


def distance(a, b):
    """The largest difference between two trees, relative to the largest entry of a leaf."""
    a, b = (jax.tree.leaves(jax.device_get(t)) for t in (a, b))
    gaps = [np.max(np.abs(x * 1.0 - y * 1.0)) / (1 + np.max(np.abs(x * 1.0))) for x, y in zip(a, b, strict=True)]
    return float(np.max(gaps))


def collectives(text):
    """(all-reduces, other collectives, those outside the outermost computation) of a compiled program."""
    found = re.findall(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text)
    entry = text[text.index("\nENTRY") :]
    inner = len(found) - len(re.findall(r" (?:all-\w+(?:-\w+)?|collective-permute|reduce-scatter)(?:-start)?\(", entry))
    return found.count("all-reduce"), len(found) - found.count("all-reduce"), inner


def compare(name, n, **kind):
    optimizer = optax.adam(1e-2) if name in ("mean", "masked", "entropy") else optax.sgd(0.1)
    one, _, _, _ = steps(PROBLEMS[name], None, optimizer=optimizer)
    many, step, batch, key = steps(PROBLEMS[name], mesh_of(n, **kind), optimizer=optimizer)
    text = step.lower(many[0], batch, key).compile().as_text()
    return {"distance": distance(one, many), "collectives": collectives(text), "placement": step.placement}


def compiled_once():
    """How often five calls trace the loss, with the batch on the host, on one device and where it belongs."""
    traces = []

    def loss(params, carry, batch, key):
        traces.append(batch[0].shape[1])
        return mean(params, carry, batch, key)

    optimizer, mesh = optax.adam(1e-2), mesh_of(4)
    step, state = make_step(loss, optimizer, mesh=mesh), start(PARAMS, optimizer, CARRY)
    placed = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec(None, "data")))
    counts = []
    for batch in (BATCH, BATCH, jax.tree.map(jnp.asarray, BATCH), placed, placed):
        given = state
        state, _ = step(state, batch)
        counts.append(len(traces))
    gone = all(a.is_deleted() for a in jax.tree.leaves(given))
    spread = {len(a.sharding.device_set) for a in jax.tree.leaves(state)}
    return {"traces": counts, "given_away": gone, "spread": sorted(spread)}


def in_double():
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), tree)
        problem = (mean, double(PARAMS), double(CARRY), double(BATCH), 1)
        return distance(steps(problem, None)[0], steps(problem, mesh_of(4))[0])


def fits():
    """A run on four devices, stopped and gone on with; the same on one; gone on with on two."""
    window = lambda step: (np.roll(XS, step, 0), TARGETS)
    check = jax.jit(lambda p: mean(p, None, BATCH, None)[1])
    options = dict(
        carry=CARRY, validate=check, validate_every=4, log_every=3, checkpoint_every=4, accumulate=2, average=0.9
    )
    go = lambda folder, count, **more: fit(mean, PARAMS, window, steps=count, out=folder, **(options | more))
    with tempfile.TemporaryDirectory() as top:
        whole = go(f"{top}/a", 10, mesh=mesh_of(4))
        go(f"{top}/b", 5, mesh=mesh_of(4))
        try:
            go(f"{top}/b", 10, mesh=mesh_of(2), resume=True)
        except ValueError as error:
            refused = str(error).replace(top, "")
        resumed = go(f"{top}/b", 10, mesh=mesh_of(4), resume=True)
        one = go(f"{top}/c", 10)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), resumed.state, whole.state)
    ordinary = [len(a.sharding.device_set) for a in jax.tree.leaves((whole.params, whole.state))]
    gap = distance(one.params, whole.params)
    return {"refused": refused, "same": all(jax.tree.leaves(same)), "devices": max(ordinary), "distance": gap}


def ensemble():
    """Eight seeds, two on each of four devices: one step under vmap, against each seed by itself."""
    optimizer, step = optax.adam(1e-2), make_step(mean, optax.adam(1e-2))
    make = lambda seed: start(CELL.init(jax.random.key(seed), jnp.zeros((B, I))), optimizer, CARRY)
    spread = NamedSharding(mesh_of(4), PartitionSpec("data"))
    states = jax.device_put(jax.tree.map(lambda *a: jnp.stack(a), *map(make, range(8))), spread)
    together = jax.jit(jax.vmap(step, (0, None)))
    text = together.lower(states, BATCH).compile().as_text()
    for _ in range(3):
        states, _ = together(states, BATCH)
    alone = []
    for seed in range(8):
        state = make(seed)
        for _ in range(3):
            state, _ = step(state, BATCH)
        alone.append(state)
    lie = {str(a.sharding.spec[0]) for a in jax.tree.leaves(states.params)}
    one = jax.tree.map(lambda *a: np.stack(a), *jax.device_get(alone))
    return {"distance": distance(one, states), "collectives": collectives(text), "axes": sorted(lie)}


def said(make):
    try:
        make()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def bad_input():
    optimizer = optax.sgd(0.1)

    def call(batch=BATCH, axis=1, carry=CARRY, mesh=None):
        step = make_step(mean, optimizer, mesh=mesh or mesh_of(4), batch_axis=axis)
        return lambda: step(start(PARAMS, optimizer, carry), batch)

    return {
        "rows": said(call((XS[:, :6], TARGETS[:, :6]), carry=None)),
        "axis": said(call((XS, np.float32(1)))),
        "prefix": said(call(axis={"x": 1})),
        "negative": said(call(axis=-1)),
        "carry": said(call(carry=jnp.zeros((3, 4)))),
        "mesh": said(lambda: make_step(mean, optimizer, mesh=4)),
        "nameless": said(lambda: make_step(mean, optimizer, mesh=jax.sharding.Mesh(np.array(jax.devices()[0]), ()))),
    }


def compared(name):
    """One comparison by its name: a problem on four devices, or the mean on another mesh."""
    if name == "automatic mesh":
        return compare("mean", 2, axis_types=(AxisType.Auto,))
    problem, _, n = name.partition(" on ")
    return compare(problem, int(n or 4))


def others():
    """What is told besides the comparisons."""
    told = {"problems": list(PROBLEMS)}
    grid = jax.make_mesh((2, 4), ("data", "model"))
    one, many = steps(PROBLEMS["masked"], None)[0], steps(PROBLEMS["masked"], grid)
    told["two axes"] = {"distance": distance(one, many[0]), "placement": many[1].placement}
    with jax.set_mesh(mesh_of(4)):
        told["mesh set"] = distance(steps(PROBLEMS["mean"], mesh_of(4))[0], steps(PROBLEMS["mean"], mesh_of(4))[0])
    step, state = make_step(mean, optax.sgd(0.1), mesh=mesh_of(4)), start(PARAMS, optax.sgd(0.1), CARRY)
    alone = make_step(mean, optax.sgd(0.1))
    shapes = jax.eval_shape(lambda: (state, jax.tree.map(jnp.asarray, BATCH)))
    told["memory"] = [memory(step, state, BATCH), memory(step, *shapes), memory(alone, state, BATCH)]
    return told | {
        "once": compiled_once(), "double": in_double(), "fit": fits(), "ensemble": ensemble(), "bad": bad_input()
    }  # fmt: skip


def main(*names):
    """Prints the comparisons of these names, or everything else where there is none."""
    print(json.dumps({name: compared(name) for name in names} or others()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

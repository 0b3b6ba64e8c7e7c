"""Models, searches and CTC on a batch that lies on several devices: no error, the results placed as the batch, the numbers of one."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from several import on_devices

import rnnjax as rj
from rnnjax.seq2seq import EncoderDecoder

B, V = 8, 6
MESH = AbstractMesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
ADDITIVE = EncoderDecoder(rj.Bidirectional(rj.GRU(3)), rj.LSTM(4), V, V, features=4, input_feeding=True)
AT_ONCE = EncoderDecoder(rj.LSTM(4), rj.LSTM(4), V, V, features=4, attention="multiplicative", tied=True)


def of_batch(dtype, *shape, at):
    """The type of an array whose axis `at` is split."""
    spec = P(*("batch" if n == at else None for n in range(len(shape))))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, spec))


def searches(model, params, source, lengths):
    step, carry = model.decoder_step(params, source, source_lengths=lengths)
    start, how = source[0], dict(end=1, length=3)
    return (
        rj.seq2seq.greedy(step, carry, start, **how),
        rj.seq2seq.sample(step, carry, start, jax.random.key(0), top_p=0.9, **how),
        rj.seq2seq.beam(step, carry, start, beams=2, length_penalty=1.0, **how),
    )


def labelled(logits, lengths):
    return rj.seq2seq.ctc_greedy(logits, lengths=lengths), rj.seq2seq.ctc_beam(logits, lengths=lengths, beams=3)


def loss(model, params, source, lengths, **how):
    logits = model(params, source, source[:3], source_lengths=lengths, key=jax.random.key(1), **how)
    return jnp.mean(jnp.sin(logits))


@pytest.mark.parametrize(
    "model", [ADDITIVE, pytest.param(AT_ONCE, marks=pytest.mark.slow)], ids=["additive", "multiplicative"]
)
def test_results_lie_where_the_batch_does(model):
    """The types need no devices; what has them is compared below."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    source, lengths = of_batch(jnp.int32, 4, B, at=1), of_batch(jnp.int32, B, at=0)
    logits = of_batch(jnp.float32, 5, B, V, at=1)
    with jax.sharding.use_abstract_mesh(MESH), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.eval_shape(
            lambda *a: (searches(model, *a), model.alignment(*a[:2], a[1], source_lengths=a[2])),
            params,
            source,
            lengths,
        )
        jax.eval_shape(jax.grad(lambda p, s, n: loss(model, p, s, n, sampling=0.5)), params, source, lengths)
        found = found, jax.eval_shape(labelled, logits, lengths), jax.eval_shape(lambda z: labelled(z, None), logits)
    for leaf in jax.tree.leaves(found):
        assert leaf.sharding.spec[leaf.shape.index(B)] == "batch", leaf


PROGRAM = """
import warnings
import jax, jax.numpy as jnp, numpy as np, rnnjax as rj
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from seq2seq.test_split_batch import ADDITIVE, AT_ONCE, B, V, labelled, loss, searches

warnings.simplefilter("error")
source = jax.random.randint(jax.random.key(0), (4, B), 0, V)
lengths = jnp.array([4, 0, 3, 1, 4, 4, 2, 4])
logits = jax.random.normal(jax.random.key(1), (5, B, V))
embed = rj.Embed(rj.GRU(4), V, 3)

def all_of(params, source, lengths, logits):
    def of(model, params):
        grads = [jax.value_and_grad(lambda p: loss(model, p, source, lengths, sampling=s))(params) for s in (0.0, 0.5)]
        return grads, searches(model, params, source, lengths)
    unrolled = jax.value_and_grad(lambda p: jnp.mean(rj.unroll(embed, p, source, lengths=lengths)[1] ** 2))(params["embed"])
    return of(ADDITIVE, params["additive"]), of(AT_ONCE, params["at once"]), labelled(logits, lengths), unrolled

params = {"additive": ADDITIVE.init(jax.random.key(2)), "at once": AT_ONCE.init(jax.random.key(3)),
          "embed": embed.init(jax.random.key(4), source[0])}
params = jax.tree.map(np.asarray, params)
want = jax.jit(all_of)(params, source, lengths, logits)
for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    place = lambda tree, spec: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)
    with jax.set_mesh(mesh):
        over_time = place((source, logits), P(None, "batch"))
        got = jax.jit(all_of)(place(params, P()), over_time[0], place(lengths, P("batch")), over_time[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), got, want)
    print("equal")
"""


@pytest.mark.slow
def test_the_numbers_are_those_of_one_device():
    run = on_devices(4, "-c", PROGRAM)
    assert run.stdout.split() == ["equal"] * 2, run.stderr[-2000:]

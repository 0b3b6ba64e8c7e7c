"""Layers against torch's own (packed sequences), and the article's one-to-many, many-to-one, many-to-many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax
from rnnjax.engine import Tuned
from rnnjax.engine.schedule import Schedule, Ways

T, B, I, H = 5, 3, 2, 4
LENGTHS = np.array([5, 2, 4])


def port(w_ih, w_hh, b_ih, b_hh, kind):
    """torch's tensors in our layout, written out here so that no converter is trusted."""
    params = {"input": jnp.asarray(w_ih.T), "recurrent": jnp.asarray(w_hh.T)}
    bias = b_ih + b_hh
    if kind == "GRU":
        bias[2 * H :] = b_ih[2 * H :]
        params["recurrent_bias"] = jnp.asarray(b_hh[2 * H :])
    return {**params, "bias": jnp.asarray(bias)}


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "cell"), [("LSTM", rj.LSTM(H)), ("GRU", rj.GRU(H)), ("RNN", rj.Elman(H))])
def test_bidirectional_stack_equals_torch_on_packed_sequences(kind, cell):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = getattr(torch.nn, kind)(I, H, num_layers=2, bidirectional=True)
    xs = torch.randn(T, B, I, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(LENGTHS), enforce_sorted=False)
    out, last = net(packed)
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=T)
    out.sin().sum().backward()

    def params_of(layer, suffix):
        names = [f"{n}_l{layer}{suffix}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        return port(*(getattr(net, n).detach().numpy().copy() for n in names), kind)

    layer = rj.Sequential(rj.Bidirectional(cell), rj.Bidirectional(cell))
    params = {f"layer_{n}": {"forward": params_of(n, ""), "backward": params_of(n, "_reverse")} for n in range(2)}
    x = jnp.asarray(xs.detach().numpy())
    junk = jnp.where(jnp.arange(T)[:, None, None] < LENGTHS[:, None], x, jnp.nan)

    @jax.jit
    def run(params, x):
        def total(params, x):
            carry, ys = layer(params, x, lengths=LENGTHS)
            return jnp.sin(ys).sum(), (carry, ys)

        return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

    (_, (carry, ys)), (grads, dx) = run(params, junk)
    np.testing.assert_allclose(ys, out.detach(), atol=1e-5)
    np.testing.assert_allclose(dx, xs.grad, atol=1e-5)
    hidden = last[0] if kind == "LSTM" else last
    ours = [getattr(part, "h", part) for layer_carry in carry for part in layer_carry]
    np.testing.assert_allclose(jnp.stack(ours), hidden.detach(), atol=1e-5)
    for n in range(2):
        for side, suffix in (("forward", ""), ("backward", "_reverse")):
            got = grads[f"layer_{n}"][side]
            np.testing.assert_allclose(got["input"].T, getattr(net, f"weight_ih_l{n}{suffix}").grad, atol=1e-4)
            np.testing.assert_allclose(got["recurrent"].T, getattr(net, f"weight_hh_l{n}{suffix}").grad, atol=1e-4)
            np.testing.assert_allclose(got["bias"], getattr(net, f"bias_ih_l{n}{suffix}").grad, atol=1e-4)


@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "mul", None])
def test_bidirectional_is_two_plain_loops(merge):
    layer = rj.Bidirectional(rj.GRU(H), rj.GRU(H, reset_after=False), merge=merge)
    xs = jax.random.normal(jax.random.key(0), (T, B, I))
    params = layer.init(jax.random.key(1), xs[0])
    carry, ys = layer(params, xs, lengths=LENGTHS)
    pair = layer_pair(layer, params, xs)
    want = {
        "concat": lambda a, b: np.concatenate([a, b], -1), "sum": np.add, "mul": np.multiply,
        "mean": lambda a, b: (a + b) / 2, None: lambda a, b: (a, b),
    }[merge](*pair)  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ys, want)
    np.testing.assert_allclose(carry.backward, pair[1][0], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_two_episodes_in_a_row_are_read_as_two_sequences_in_either_direction(masked):
    """A reset at step 3 holds for who reads backward too, and where step 3 itself is masked out."""
    layer = rj.Sequential(rj.Bidirectional(rj.GRU(H)), rj.RNN(rj.MinGRU(H), reverse=True))
    xs = jax.random.normal(jax.random.key(0), (T, B, I))
    params, flags = layer.init(jax.random.key(1), xs[0]), np.arange(T)[:, None] == [3] * B
    mask = np.arange(T)[:, None] != [3] * B if masked else np.ones((T, B), bool)
    for method in ("scan", "loop"):
        ys = layer(params, xs, reset=flags, mask=mask, method=method)[1]
        parts = [layer(params, xs[part], mask=mask[part], method=method)[1] for part in (slice(3), slice(3, None))]
        np.testing.assert_allclose(ys, np.concatenate(parts), atol=1e-6)


def layer_pair(layer, params, xs):
    """Each direction of each sequence step by step."""
    forward, backward = np.zeros((T, B, H), np.float32), np.zeros((T, B, H), np.float32)
    for b, n in enumerate(LENGTHS):
        h = jnp.zeros(H)
        for t in range(n):
            h, forward[t, b] = layer.cell(params["forward"], h, xs[t, b])
        h = jnp.zeros(H)
        for t in reversed(range(n)):
            h, backward[t, b] = layer.backward(params["backward"], h, xs[t, b])
    return forward, backward


def test_batch_major_equals_time_major():
    layer = rj.Sequential(rj.RNN(rj.LSTM(H)), rj.Bidirectional(rj.GRU(H)))
    xs = jax.random.normal(jax.random.key(0), (T, B, I))
    params = layer.init(jax.random.key(1), xs[0])
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, (T, B))
    carry, ys = layer(params, xs, mask=mask)
    carry1, ys1 = layer(params, xs.swapaxes(0, 1), mask=mask.T, time_axis=1)
    jax.tree.map(np.testing.assert_array_equal, (carry, ys), (carry1, ys1.swapaxes(0, 1)))


def test_streaming_a_sequence_of_layers():
    layer = rj.Sequential(rj.RNN(rj.LSTM(H)), rj.RNN(rj.Stack(rj.GRU(H), rj.Elman(2))))
    xs = jax.random.normal(jax.random.key(0), (T, B, I))
    params = layer.init(jax.random.key(1), xs[0])
    carry, ys = layer(params, xs)
    part, first = layer(params, xs[:2])
    part, second = layer(params, xs[2:], carry=part)
    np.testing.assert_allclose(jnp.concatenate([first, second]), ys, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), part, carry)
    assert jax.tree.structure(layer.initial_carry(params, xs[0])) == jax.tree.structure(carry)


def test_one_to_many_many_to_one_and_encoder_decoder():
    """The article's shapes of problem, each in the lines a user would write."""
    cell, xs = rj.Readout(rj.GRU(H), I), jax.random.normal(jax.random.key(0), (T, B, I))
    params = cell.init(jax.random.key(1), xs[0])
    carry, aligned = rj.unroll(cell, params, xs)  # many to many, aligned
    many_to_one = aligned[-1]

    def feed_back(carry, _):  # one to many: the output is the next input
        state, x = carry
        state, y = cell(params, state, x)
        return (state, y), y

    start = cell.initial_carry(params, xs[0])
    _, generated = rj.scan(feed_back, (start, xs[0]), None, length=3)
    _, decoded = rj.scan(feed_back, (carry, many_to_one), None, length=3)  # many to many: encoder, then decoder
    state, x, want = start, xs[0], []
    for _ in range(3):
        state, x = cell(params, state, x)
        want.append(x)
    np.testing.assert_allclose(generated, jnp.stack(want), atol=1e-6)
    np.testing.assert_allclose(decoded[0], cell(params, carry, many_to_one)[1], atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "lengths", "warned"),
    [
        (rj.RNN(rj.GRU(H)), [2, 3], 0),
        (rj.RNN(rj.Stack(rj.GRU(H), rj.GRU(H))), [2, 3, 6], 1),
        (rj.Bidirectional(rj.GRU(H), merge="sum"), [2, 3, 2, 3], 0),
        (rj.Sequential(rj.RNN(rj.GRU(H)), rj.RNN(rj.Elman(H), reverse=True)), [2, 3, 6], 1),
    ],
    ids=repr,
)
def test_a_plan_goes_to_the_cells_whose_shapes_it_was_tuned_for(layer, lengths, warned, recwarn):
    """Blocks of three steps where x has I features; the layers above read H, and warn."""
    plan = Tuned(True, Ways(Schedule(2), Schedule(2)), True, 6, (f"float32[{B},{H}]",), (f"float32[{B},{I}]",))
    xs = jax.random.normal(jax.random.key(0), (6, B, I))
    params = layer.init(jax.random.key(1), xs[0])
    jaxpr = jax.make_jaxpr(lambda xs: layer(params, xs, fuse=plan))(xs).jaxpr
    assert [_jax.loop_of_scan(e).length for e in _jax.equations(jaxpr) if e.primitive.name == "scan"] == lengths
    assert [w.category for w in recwarn.list] == [RuntimeWarning] * warned
    got, want = layer(params, xs, fuse=plan), layer(params, xs, method="loop")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


def test_messages():
    layer = rj.Sequential(rj.RNN(rj.LSTM(H)), rj.RNN(rj.GRU(H)))
    xs = jnp.ones((T, B, I))
    params = layer.init(jax.random.key(0), xs[0])
    with pytest.raises(TypeError, match="takes no reverse="):
        layer(params, xs, reverse=True)
    with pytest.raises(ValueError, match="carry must have 2 parts, one a layer, got 1"):
        layer(params, xs, carry=(None,))
    both = rj.Bidirectional(rj.GRU(H))
    with pytest.raises(TypeError, match="reads both ways already"):
        both(both.init(jax.random.key(0), xs[0]), xs, reverse=True)

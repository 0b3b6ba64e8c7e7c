"""torch modules in and out, against torch itself: forward, gradients, packed sequences, round trips, messages."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, T, close, data, draw, new_params, same, trained, value_and_grads

import rnnjax as rj

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
]  # from torch itself
nn = torch.nn


def random_module(seed):
    c = draw(
        seed, kind=["RNN", "LSTM", "GRU"], num_layers=[1, 2, 3], bidirectional=[False, True], bias=[True, True, False],
        batch_first=[False, True], proj_size=[0, 2], nonlinearity=["tanh", "relu"], packed=[False, True],
    )  # fmt: skip
    options = {k: c[k] for k in ("num_layers", "bidirectional", "bias", "batch_first")}
    if c["kind"] == "RNN":
        options["nonlinearity"] = c["nonlinearity"]
    if c["kind"] == "LSTM":
        options["proj_size"] = c["proj_size"]
    torch.manual_seed(seed)
    return getattr(nn, c["kind"])(I, H, **options), c["packed"]


def run(module, xs, weights, lengths=None):
    """torch's ys, final states, and gradients for the parameters and the inputs."""
    x = torch.tensor(xs, requires_grad=True)
    if lengths is None:
        ys, states = module(x)
    else:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=module.batch_first, enforce_sorted=False)
        ys, states = module(packed)
        ys, _ = nn.utils.rnn.pad_packed_sequence(ys, batch_first=module.batch_first, total_length=T)
    (torch.tensor(weights) * ys).sum().backward()
    return ys.detach().numpy(), states, x.grad.numpy()


def gradients_as_params(module):
    """torch's gradients laid out by from_torch: the two biases have the same gradient and must not be added up."""
    clone = copy.deepcopy(module)
    with torch.no_grad():
        for (name, p), source in zip(clone.named_parameters(), module.parameters()):
            p.copy_(source.grad)
            if name.startswith("bias_hh"):
                p[: 2 * H if isinstance(module, (nn.GRU, nn.GRUCell)) else None] = 0
    return rj.interop.from_torch(clone)[1]


def final_states(carry):
    """Our carry stacked as torch stacks it: h of every layer and direction, then c."""
    if isinstance(carry, rj.LSTMCarry):
        return [[carry.h], [carry.c]]
    if not isinstance(carry, tuple):
        return [[carry]]
    return [sum(parts, []) for parts in zip(*map(final_states, carry))]


QUICK = (3, 9, 11)  # a packed GRU, three bidirectional LSTMs with projections, a bidirectional RNN with batch first
SEEDS = [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in range(60)]


@pytest.mark.parametrize("seed", SEEDS)
def test_layers_forward_gradients_lengths_and_back(seed):
    module, packed = random_module(seed)
    layer, params = rj.interop.from_torch(module)
    time_axis = 1 if module.batch_first else 0
    xs = data(seed, *((B, T) if time_axis else (T, B)), I)
    lengths = np.array([T, 2, 4]) if packed else None
    width = (module.proj_size or H) * (1 + module.bidirectional)
    weights = data(seed + 1, *xs.shape[:2], width)
    expected, states, x_grad = run(module, xs, weights, lengths)
    how = {"time_axis": time_axis, "lengths": lengths}
    ys, carry, (grads, xs_grad) = value_and_grads(layer, params, xs, weights, **how)
    close(ys, expected)
    ours = [np.stack(part) for part in final_states(carry)]
    close(ours, [s.detach().numpy() for s in (states if isinstance(states, tuple) else (states,))])
    close(xs_grad, x_grad)
    close(grads, gradients_as_params(module))
    assert jax.tree.structure(grads) == jax.tree.structure(params)

    state = torch.get_rng_state()
    new = trained(lambda p, x: layer(p, x, time_axis=time_axis), params, xs)
    back = rj.interop.to_torch(layer, new)
    assert torch.equal(torch.get_rng_state(), state), "a conversion must not draw from torch's global random state"
    with torch.no_grad():
        close(back.eval()(torch.tensor(xs.swapaxes(0, time_axis)))[0], layer(new, xs.swapaxes(0, time_axis))[1])
    again, params_again = rj.interop.from_torch(back)
    assert again == layer
    same(params_again, new)


@pytest.mark.parametrize("bias", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_forward_gradients_and_back(kind, bias):
    module = getattr(nn, kind)(I, H, bias=bias)
    cell, params = rj.interop.from_torch(module)
    x, h, weights = data(0, B, I), data(1, B, H), data(2, B, H)
    c = data(3, B, H)
    state = (torch.tensor(h), torch.tensor(c)) if kind == "LSTMCell" else torch.tensor(h)
    out = module(torch.tensor(x), state)
    out = out if isinstance(out, tuple) else (out,)
    (torch.tensor(weights) * out[-1]).sum().backward()
    start = rj.LSTMCarry(h, c) if kind == "LSTMCell" else jnp.asarray(h)

    def loss(params):
        carry, _ = cell(params, start, jnp.asarray(x))
        return (weights * jax.tree.leaves(carry)[-1]).sum(), carry

    grads, carry = jax.grad(loss, has_aux=True)(params)
    close(carry, [o.detach().numpy() for o in out])
    close(grads, gradients_as_params(module))
    back = rj.interop.to_torch(cell, params)
    assert type(back) is type(module)
    again, params_again = rj.interop.from_torch(back)
    assert again == cell
    same(params_again, params)


def test_dropout_between_layers_becomes_the_wrapper():
    module = nn.GRU(I, 64, num_layers=2, dropout=0.5)
    layer, params = rj.interop.from_torch(module)
    assert repr(layer) == "Sequential(RNN(Dropout(GRU(64), 0.5)), RNN(GRU(64)))"
    xs = data(0, T, B, I)
    close(layer(params, xs)[1], module.eval()(torch.tensor(xs))[0].detach())  # no key: as torch in eval mode
    lower, p = layer.layers[0], params["layer_0"]
    dropped = np.asarray(lower(p, jnp.asarray(xs), key=jax.random.key(0))[1])
    kept = dropped != 0
    assert 0.4 < kept.mean() < 0.6
    close(dropped[kept], 2 * np.asarray(lower(p, jnp.asarray(xs))[1])[kept])
    assert rj.interop.to_torch(layer, params).dropout == 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_dtypes_are_kept_both_ways(dtype):
    module = nn.LSTM(I, H, num_layers=2, dtype=getattr(torch, dtype))
    with jax.enable_x64(dtype == "float64"):
        layer, params = rj.interop.from_torch(module)
        assert {str(a.dtype) for a in jax.tree.leaves(params)} == {dtype}
        back = rj.interop.to_torch(layer, params)
        assert {p.dtype for p in back.parameters()} == {getattr(torch, dtype)}
        xs = data(0, T, B, I, dtype="float64")
        ys = layer(params, jnp.asarray(xs, dtype))[1]
        assert ys.dtype == dtype
        expected = module(torch.tensor(xs).to(module.weight_ih_l0.dtype))[0].detach().double().numpy()
        close(ys, expected, {"float32": 2e-5, "float64": 1e-12, "bfloat16": 0.03}[dtype])


def test_float64_is_not_rounded_in_silence():
    with pytest.raises(
        ValueError, match=r"from_torch: bias is float64, which JAX would round to float32; .*jax_enable_x64"
    ):
        rj.interop.from_torch(nn.GRU(I, H, dtype=torch.float64))


def test_memory_is_not_shared():
    module = nn.RNN(I, H)
    _, params = rj.interop.from_torch(module)
    before = np.array(params["input"])
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    np.testing.assert_array_equal(params["input"], before)
    back = rj.interop.to_torch(rj.RNN(rj.Elman(H)), params)
    with torch.no_grad():
        back.weight_ih_l0.zero_()
    np.testing.assert_array_equal(params["input"], before)


def test_stack_and_irnn_go_to_torch():
    layer = rj.RNN(rj.Stack(rj.IRNN(H), rj.Elman(H, activation="relu")))
    params = new_params(layer)
    xs = data(0, T, B, I)
    close(layer(params, xs)[1], rj.interop.to_torch(layer, params)(torch.tensor(xs))[0].detach())


def test_modules_that_are_not_one_of_these():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleList([nn.LSTM(I, H)])

    class Odd(nn.LSTM):
        pass

    with pytest.raises(TypeError, match=r"from_torch: takes nn.RNN.*got Linear"):
        rj.interop.from_torch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"got Tagger; it contains body.0: pass one of those"):
        rj.interop.from_torch(Tagger())
    with pytest.raises(TypeError, match=r"got Odd, a subclass, which may compute something else"):
        rj.interop.from_torch(Odd(I, H))
    with pytest.raises(TypeError, match=r"got str; pass the module itself.*never unpickled"):
        rj.interop.from_torch("model.pt")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (rj.RNN(rj.LSTM(H, peephole=True)), r"to_torch: torch has no LSTM\(4, peephole=True\); it has Elman"),
        (rj.LSTM(H, coupled=True), r"torch has no LSTM\(4, coupled=True\)"),
        (rj.RNN(rj.LSTM(H, layer_norm=True)), r"torch has no LSTM\(4, layer_norm=True\)"),
        (rj.RNN(rj.GRU(H, reset_after=False)), r"torch has no GRU\(4, reset_after=False\)"),
        (rj.Elman(H, activation="sigmoid"), r"torch has no Elman\(4, activation='sigmoid'\)"),
        (rj.LSTM(H, projection=2), r"nn.LSTMCell has no projection"),
        (rj.RNN(rj.LSTM(H), reverse=True), r"forward in all layers or bidirectional"),
        (rj.Bidirectional(rj.LSTM(H), merge="sum"), r"bidirectional with merge='concat'"),
        (rj.Sequential(rj.RNN(rj.LSTM(H)), rj.RNN(rj.GRU(H))), r"all layers of a torch module are of one kind and size"),
        (rj.Sequential(rj.RNN(rj.LSTM(H)), rj.RNN(rj.LSTM(5))), r"of one kind and size"),
        (rj.RNN(rj.Dropout(rj.LSTM(H), 0.5)), r"dropout there acts between layers only"),
        (rj.RNN(rj.Readout(rj.LSTM(H), 2)), r"Readout has no counterpart there"),
        (rj.RNN(rj.LearnedCarry(rj.LSTM(H))), r"LearnedCarry has no counterpart there"),
    ],
)  # fmt: skip
def test_what_torch_lacks_is_named(layer, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rj.interop.to_torch(layer, new_params(layer))


def test_params_of_two_dtypes_are_refused():
    params = new_params(rj.LSTM(H))
    params["bias"] = params["bias"].astype(jnp.bfloat16)
    with pytest.raises(ValueError, match=r"to_torch: the parameters must have one dtype, got bfloat16, float32"):
        rj.interop.to_torch(rj.LSTM(H), params)

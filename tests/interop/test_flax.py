"""linen and nnx cells and layers in and out, against Flax itself."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop.compare import B, H, I, T, close, data, new_params, same, trained

import rnnjax as rj

LINEN_CELLS = {
    "lstm": (nn.LSTMCell(H), rj.LSTM(H)),
    "optimized": (nn.OptimizedLSTMCell(H), rj.LSTM(H)),
    "gru": (nn.GRUCell(H), rj.GRU(H)),
    "simple": (nn.SimpleCell(H, activation_fn=jax.nn.relu), rj.Elman(H, activation="relu")),
    "residual": (nn.SimpleCell(H, residual=True), rj.Elman(H)),
    "mgu": (nn.MGUCell(H), rj.GRU(H)),
    "mgu without reset": (nn.MGUCell(H, reset_gate=False), rj.UGRNN(H)),
    "activations": (
        nn.OptimizedLSTMCell(H, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.relu),
        rj.LSTM(H, activation="relu", gate_activation="hard_sigmoid"),
    ),
    "gru activations": (
        nn.GRUCell(H, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.soft_sign),
        rj.GRU(H, activation="softsign", gate_activation="hard_sigmoid"),
    ),
    "mgu activations": (
        nn.MGUCell(H, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.elu),
        rj.GRU(H, activation="elu", gate_activation="hard_sigmoid"),
    ),
}
RANDOM = jax.nn.initializers.normal(0.5)


def randomised(variables, seed=0):
    """Every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), a.dtype), variables)


def flax_value_and_grads(apply, variables, xs, weights):
    def loss(variables, xs):
        ys = apply(variables, xs)
        return (weights * ys).sum(), ys

    (_, ys), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, xs)
    return ys, grads


SLOW = ("lstm", "optimized", "gru", "simple", "mgu without reset", "gru activations", "mgu activations")


def some_slow(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@pytest.mark.parametrize("name", some_slow(LINEN_CELLS))
def test_linen_cells_forward_gradients_and_back(name):
    module, expected_cell = LINEN_CELLS[name]
    xs, weights = data(0, B, T, I), data(1, B, T, H)
    layer_module = nn.RNN(module)
    variables = randomised(layer_module.init(jax.random.key(0), xs))
    cell, params = rj.interop.from_flax(module, {"params": variables["params"]["cell"]})
    assert cell == expected_cell
    layer, layer_params = rj.interop.from_flax(layer_module, variables)
    assert layer == rj.RNN(cell)
    same(layer_params, params)

    def through(variables, xs):  # gradients flow through the conversion itself
        return layer(rj.interop.from_flax(layer_module, variables)[1], xs, time_axis=1)[1]

    ys, grads = flax_value_and_grads(layer_module.apply, variables, xs, weights)
    got, got_grads = flax_value_and_grads(through, variables, xs, weights)
    close(got, ys)
    close(got_grads, grads)

    new = trained(layer, params, data(2, T, B, I))
    back, back_variables = rj.interop.to_flax(layer, new)
    close(back.apply(back_variables, xs), layer(new, xs, time_axis=1)[1])
    again, params_again = rj.interop.from_flax(back, back_variables)
    assert again == layer
    same(params_again, new)


@pytest.mark.parametrize("merge", ["concat", *[pytest.param(m, marks=pytest.mark.slow) for m in ("mul", "sum")]])
def test_linen_bidirectional_stack_with_lengths(merge):
    layer = rj.Sequential(rj.Bidirectional(rj.GRU(H), rj.LSTM(H), merge=merge), rj.RNN(rj.LSTM(2), reverse=True))
    params = new_params(layer)
    module, variables = rj.interop.to_flax(layer, params)
    xs, lengths = data(0, B, T, I), jnp.array([T, 1, 3])
    ys = layer(params, xs, time_axis=1)[1]
    close(module.apply(variables, xs), ys)
    again, params_again = rj.interop.from_flax(module, variables)
    assert again == layer
    same(params_again, params)
    first, first_variables = module.layers[0], {"params": variables["params"]["layers_0"]}
    expected = first.apply(first_variables, xs, seq_lengths=lengths)
    got = layer.layers[0](params["layer_0"], xs, time_axis=1, lengths=lengths)[1]
    valid = np.arange(T) < np.asarray(lengths)[:, None]
    close(got[valid], expected[valid])  # flax leaves junk in the padding, we zeros


@pytest.mark.parametrize("dims", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_linen_conv_lstm(dims):
    kernel = (3, 2)[:dims]
    module = nn.RNN(nn.ConvLSTMCell(H, kernel))
    xs = data(0, B, T, *(4, 3)[:dims], 2)
    variables = randomised(module.init(jax.random.key(0), xs))
    layer, params = rj.interop.from_flax(module, variables)
    assert layer == rj.RNN(rj.ConvLSTM(H, kernel=kernel, dims=dims, peephole=False))
    close(layer(params, xs, time_axis=1)[1], module.apply(variables, xs))
    back, back_variables = rj.interop.to_flax(layer, params)
    close(back.apply(back_variables, xs), module.apply(variables, xs))


def nnx_cells():
    rngs = nnx.Rngs(0)
    options = {"rngs": rngs, "bias_init": RANDOM}
    return {
        "lstm": (nnx.LSTMCell(I, H, **options), rj.LSTM(H)),
        "optimized": (nnx.OptimizedLSTMCell(I, H, **options), rj.LSTM(H)),
        "gru": (nnx.GRUCell(I, H, **options), rj.GRU(H)),
        "simple": (nnx.SimpleCell(I, H, **options), rj.Elman(H)),
        "residual": (
            nnx.SimpleCell(I, H, residual=True, activation_fn=jax.nn.relu, **options),
            rj.Elman(H, activation="relu"),
        ),
        "activations": (
            nnx.GRUCell(I, H, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.elu, **options),
            rj.GRU(H, activation="elu", gate_activation="hard_sigmoid"),
        ),
    }


NNX_SLOW = ("lstm", "optimized", "simple", "residual", "activations")


@pytest.mark.parametrize("name", ["gru", *[pytest.param(n, marks=pytest.mark.slow) for n in NNX_SLOW]])
def test_nnx_cells_forward_gradients_and_back(name):
    module, expected_cell = nnx_cells()[name]
    xs, weights = jnp.asarray(data(0, B, T, I)), data(1, B, T, H)
    layer_module = nnx.RNN(module)
    cell, params = rj.interop.from_nnx(module)
    assert cell == expected_cell
    layer = rj.interop.from_nnx(layer_module)[0]

    def value_and_grads(apply):
        return nnx.jit(nnx.value_and_grad(lambda m, xs: (weights * apply(m, xs)).sum(), argnums=(0, 1)))(
            layer_module, xs
        )

    def through(m, xs):  # gradients flow through the conversion itself
        return layer(rj.interop.from_nnx(m)[1], xs, time_axis=1)[1]

    expected, grads = value_and_grads(lambda m, xs: m(xs))
    got, got_grads = value_and_grads(through)
    close(layer(params, xs, time_axis=1)[1], layer_module(xs))
    close(got, expected)
    close(got_grads[1], grads[1])
    close(nnx.to_pure_dict(got_grads[0]), nnx.to_pure_dict(grads[0]))

    new = trained(layer, params, data(2, T, B, I))
    back = rj.interop.to_nnx(layer, new)
    close(back(xs), layer(new, xs, time_axis=1)[1])
    again, params_again = rj.interop.from_nnx(back)
    assert again == layer
    same(params_again, new)


def test_nnx_bidirectional_in_sequential():
    rngs = nnx.Rngs(1)
    cells = [nnx.GRUCell(I, H, rngs=rngs), nnx.LSTMCell(I, H, rngs=rngs), nnx.SimpleCell(2 * H, 2, rngs=rngs)]
    first, last = (
        nnx.Bidirectional(nnx.RNN(cells[0]), nnx.RNN(cells[1])),
        nnx.RNN(cells[2], reverse=True, keep_order=True),
    )
    layer, params = rj.interop.from_nnx(nnx.Sequential(first, last))
    xs = data(0, B, T, I)
    close(layer(params, xs, time_axis=1)[1], last(first(xs)))
    back = rj.interop.to_nnx(layer, params)
    close(back(xs), last(first(xs)))


def test_what_stands_on_a_layer_that_flips_its_outputs_reads_from_the_other_end():
    xs, rngs = jnp.asarray(data(0, B, T, I)), nnx.Rngs(1)
    ours = lambda read: read[0](read[1], xs, time_axis=1)[1]
    linen = nn.Sequential([nn.RNN(nn.LSTMCell(H), reverse=True), nn.RNN(nn.GRUCell(2))])
    variables = randomised(linen.init(jax.random.key(0), xs))
    close(ours(rj.interop.from_flax(linen, variables))[:, ::-1], linen.apply(variables, xs))
    layers = [
        nnx.RNN(nnx.LSTMCell(I, H, rngs=rngs), reverse=True),
        nnx.RNN(nnx.LSTMCell(H, 2, rngs=rngs), reverse=True),
    ]
    close(ours(rj.interop.from_nnx(nnx.Sequential(*layers))), layers[1](layers[0](xs)))


def test_bound_modules_bring_their_variables():
    module = nn.RNN(nn.GRUCell(H))
    variables = module.init(jax.random.key(0), jnp.ones((B, T, I)))
    same(rj.interop.from_flax(module.bind(variables)), rj.interop.from_flax(module, variables["params"]))
    with pytest.raises(TypeError, match=r"has no parameters of its own; pass from_flax\(module, variables\)"):
        rj.interop.from_flax(module)


def test_length_zero_gives_the_start_and_not_the_end():
    """google/flax: seq_lengths - 1 is -1 there, so the last carry of the padding comes back; not reproduced."""
    module = nn.RNN(nn.SimpleCell(H), return_carry=True)
    xs, lengths = jnp.asarray(data(0, B, T, I)), jnp.array([0, 2, T])
    variables = module.init(jax.random.key(0), xs)
    theirs, _ = module.apply(variables, xs, seq_lengths=lengths)
    layer, params = rj.interop.from_flax(module, variables)
    ours, _ = layer(params, xs, time_axis=1, lengths=lengths)
    close(ours[1:], theirs[1:])
    assert np.all(np.asarray(ours[0]) == 0) and np.abs(theirs[0]).max() > 0.1


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtypes_are_kept(dtype):
    with jax.enable_x64(dtype == "float64"):
        module = nn.GRUCell(H, param_dtype=dtype)
        x = jnp.ones((B, I), dtype)
        plain = nn.GRUCell(H).init(jax.random.key(0), jnp.zeros((B, H), "float32"), x.astype("float32"))
        variables = jax.tree.map(lambda a: a.astype(dtype), plain)  # flax's orthogonal() has no bfloat16
        cell, params = rj.interop.from_flax(module, variables)
        assert {str(a.dtype) for a in jax.tree.leaves(params)} == {dtype}
        back, _ = rj.interop.to_flax(cell, params)
        assert back.param_dtype == dtype
        moved = rj.interop.to_nnx(cell, {k: v for k, v in params.items() if k != "recurrent_bias"})
        assert moved.dense_i.kernel.get_value().dtype == dtype


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Dense(3), r"from_flax: takes a recurrent cell of flax.linen.*got flax.linen.linear.Dense"),
        (nn.GRUCell(H, gate_fn=jnp.abs), r"activation must be one of tanh, relu.*got <"),
        (nn.MGUCell(H, reset_gate=False, gate_fn=jax.nn.relu), r"MGUCell without reset_gate must have gate_fn=sigmoid"),
        (nn.SimpleCell(H, activation_fn=lambda x: x * 2), r"activation must be one of tanh, relu.*got <function"),
        (nn.SimpleCell(H, carry_init=RANDOM), r"SimpleCell has carry_init="),
        (
            nn.SimpleCell(H, dtype=jnp.bfloat16),
            r"SimpleCell has dtype=bfloat16 with parameters of float32.*matmul_dtype",
        ),
    ],
)
def test_linen_options_without_a_counterpart(module, message):
    x = jnp.ones((B, I))
    arguments = (x,) if isinstance(module, nn.Dense) else (module.initialize_carry(jax.random.key(0), (B, I)), x)
    variables = nn.SimpleCell(H).init(jax.random.key(0), jnp.ones((B, H)), jnp.ones((B, I)))
    if not isinstance(module, nn.SimpleCell):
        variables = module.init(jax.random.key(0), *arguments)
    with pytest.raises((TypeError, ValueError), match=message):
        rj.interop.from_flax(module, variables)


def test_other_messages():
    x = jnp.ones((B, T, I))
    conv = nn.ConvLSTMCell(H, (3,), padding="VALID")
    with pytest.raises(ValueError, match=r"strides 1 and padding 'SAME', got padding='VALID'"):
        rj.interop.from_flax(conv, {"params": {}})
    with pytest.raises(ValueError, match=r"the params of GRUCell lack 'ir', got \['kernel'\]"):
        rj.interop.from_flax(nn.GRUCell(H), {"kernel": jnp.ones(2)})
    module = nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)), merge_fn=lambda a, b: a - b)
    with pytest.raises(ValueError, match=r"merge_fn must be Flax's default"):
        rj.interop.from_flax(module, module.init(jax.random.key(0), x))
    with pytest.raises(TypeError, match=r"from_nnx: takes a recurrent cell of flax.nnx.*Linear"):
        rj.interop.from_nnx(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    layer = rj.RNN(rj.GRU(H))
    with pytest.raises(ValueError, match=r"to_nnx: nnx.GRUCell has no bias inside the reset"):
        rj.interop.to_nnx(layer, new_params(layer))
    for cell in (rj.LSTM(H, peephole=True), rj.GRU(H, reset_after=False), rj.MGU(H)):
        with pytest.raises(TypeError, match=r"to_flax: Flax has no .*; it has Elman"):
            rj.interop.to_flax(cell, new_params(cell))
    with pytest.raises(TypeError, match=r"to_nnx: nnx has LSTMCell, GRUCell and SimpleCell, got UGRNN"):
        rj.interop.to_nnx(rj.UGRNN(H), new_params(rj.UGRNN(H)))
    with pytest.raises(TypeError, match=r"got merge='mean'"):
        rj.interop.to_flax(rj.Bidirectional(rj.GRU(H), merge="mean"), new_params(rj.Bidirectional(rj.GRU(H))))

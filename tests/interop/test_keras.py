"""Keras layers in and out, against Keras itself on its JAX backend."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, T, close, data, draw, new_params, same, trained

import rnnjax as rj

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.peer
L = keras.layers


@pytest.fixture(autouse=True)
def jax_backend_and_standard_promotion():
    """Keras's JAX backend relies on implicit promotion; our own code is under strict promotion everywhere else."""
    if keras.backend.backend() != "jax":
        pytest.skip("set KERAS_BACKEND=jax")
    with jax.numpy_dtype_promotion("standard"):
        yield


def randomised(layer, shape=(None, None, I), seed=0):
    if not layer.built:
        layer.build(shape)
    for k, weight in enumerate(layer.weights):
        weight.assign(0.5 * data(seed + k, *weight.shape))
    return layer


def ours_and_theirs(layer, params, module, xs):
    close(layer(params, xs, time_axis=1)[1], np.asarray(module(xs)))


def random_layer(seed):
    c = draw(
        seed, kind=["SimpleRNN", "LSTM", "GRU", "GRU"], use_bias=[True, True, False], reset_after=[True, False], backwards=[False, True],
        merge=["none", "concat", "sum", "ave", "mul"], activation=["tanh", "relu"],
    )  # fmt: skip
    options = {"use_bias": c["use_bias"], "return_sequences": True}
    options |= {"reset_after": c["reset_after"]} if c["kind"] == "GRU" else {}
    options |= {"activation": c["activation"]} if c["kind"] == "SimpleRNN" else {}
    if c["merge"] != "none":
        return L.Bidirectional(getattr(L, c["kind"])(H, **options), merge_mode=c["merge"])
    return getattr(L, c["kind"])(H, go_backwards=c["backwards"], **options)


@pytest.mark.parametrize("seed", [*range(2), *[pytest.param(s, marks=pytest.mark.slow) for s in range(2, 40)]])
def test_layers_forward_gradients_masks_and_back(seed):
    module, xs = randomised(random_layer(seed)), data(seed, B, T, I)
    layer, params = rj.interop.from_keras(module)
    flip = getattr(module, "go_backwards", False)
    expected = np.asarray(module(xs))
    close(layer(params, xs, time_axis=1)[1], expected[:, ::-1] if flip else expected)

    weights = data(seed + 1, *expected.shape)
    flipped = weights[:, ::-1] if flip else weights

    fixed = [v.value for v in module.non_trainable_variables]

    def theirs(values, xs):
        return (weights * module.stateless_call(values, fixed, xs)[0]).sum()

    def ours(values, xs):
        for variable, value in zip(module.trainable_variables, values):
            variable._value = value  # traced: gradients flow through the conversion itself
        return (flipped * layer(rj.interop.from_keras(module)[1], xs, time_axis=1)[1]).sum()

    values = [v.value for v in module.trainable_variables]
    grads = jax.jit(jax.grad(theirs, argnums=(0, 1)))(values, xs)
    try:
        got = jax.jit(jax.grad(ours, argnums=(0, 1)))(values, xs)
    finally:
        for variable, value in zip(module.trainable_variables, values):
            variable._value = value
    close(got, grads)

    new = trained(lambda p, x: layer(p, x, time_axis=1), params, xs)
    back = rj.interop.to_keras(layer, new)
    expected = np.asarray(back(xs))
    close(layer(new, xs, time_axis=1)[1], expected[:, ::-1] if flip else expected)
    again, params_again = rj.interop.from_keras(back)
    assert again == layer
    same(params_again, new)


def test_mask_is_keras_mask():
    module, xs, lengths = (
        randomised(L.GRU(H, return_sequences=True, return_state=True)),
        data(0, B, T, I),
        np.array([2, T, 3]),
    )
    mask = np.arange(T) < lengths[:, None]
    layer, params = rj.interop.from_keras(module)
    carry, ys = layer(params, xs, time_axis=1, mask=mask)
    expected, last = module(xs, mask=jnp.asarray(mask))
    close(carry, last)
    close(np.asarray(ys)[mask], np.asarray(expected)[mask])  # keras repeats the last output in the padding


def test_sequential_model_with_dropout_and_dense():
    model = keras.Sequential(
        [
            L.Input((None, I)),
            L.Bidirectional(L.LSTM(H, return_sequences=True)),
            L.Dropout(0.25),
            L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_sequences=True),
            L.Dense(2),
        ]
    )
    randomised(model)
    layer, params = rj.interop.from_keras(model)
    expected = rj.Sequential(
        rj.Bidirectional(rj.Dropout(rj.LSTM(H), 0.25)), rj.RNN(rj.GRU(3)), rj.RNN(rj.Readout(rj.LSTM(2), 2))
    )
    assert layer == expected
    xs = data(0, B, T, I)
    ours_and_theirs(layer, params, model, xs)
    back = rj.interop.to_keras(layer, params)
    ours_and_theirs(layer, params, back, xs)
    assert any(isinstance(inner, L.Dropout) and inner.rate == 0.25 for inner in back.layers)
    again, params_again = rj.interop.from_keras(back)
    assert again == expected
    same(params_again, params)


BACK = dict(return_sequences=True, go_backwards=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [L.LSTM(H, **BACK), L.GRU(2, return_sequences=True)],
        lambda: [L.LSTM(H, **BACK), L.GRU(2, **BACK), L.SimpleRNN(3, return_sequences=True)],
        lambda: [
            L.GRU(H, return_sequences=True),
            L.RNN([L.GRUCell(3), L.LSTMCell(2)], **BACK),
            L.Dense(2),
            L.SimpleRNN(3, **BACK),
        ],
        lambda: [
            L.LSTM(H, **BACK),
            L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum"),
            L.LSTM(2, **BACK),
        ],
    ],
)
def test_what_stands_on_a_layer_that_flips_its_outputs_reads_from_the_other_end(make):
    model = randomised(keras.Sequential([L.Input((None, I)), *make()]))
    layer, params = rj.interop.from_keras(model)
    xs = data(0, B, T, I)
    flipped = sum(getattr(inner, "go_backwards", False) for inner in model.layers) % 2
    expected = np.asarray(model(xs))
    close(layer(params, xs, time_axis=1)[1], expected[:, ::-1] if flipped else expected)


def test_two_directions_side_by_side_on_flipped_outputs_are_refused():
    layers = [L.LSTM(H, **BACK), L.Bidirectional(L.GRU(2, return_sequences=True))]
    model = randomised(keras.Sequential([L.Input((None, I)), *layers]))
    with pytest.raises(
        ValueError, match="joins its directions by 'concat' stands after a layer that flips its outputs"
    ):
        rj.interop.from_keras(model)


@pytest.mark.parametrize("dims", [2, *[pytest.param(d, marks=pytest.mark.slow) for d in (1, 3)]])
def test_conv_lstm(dims):
    size, kernel = (4, 3, 2)[:dims], (3, 2, 1)[:dims]
    kind = getattr(L, f"ConvLSTM{dims}D")
    module = randomised(kind(2, kernel, padding="same", return_sequences=True), (None, None, *size, 2))
    layer, params = rj.interop.from_keras(module)
    assert layer == rj.RNN(rj.ConvLSTM(2, kernel=kernel, dims=dims, peephole=False))
    xs = data(0, B, T, *size, 2)
    ours_and_theirs(layer, params, module, xs)
    ours_and_theirs(layer, params, rj.interop.to_keras(layer, params, input_shape=size), xs)


# -- options and whole models: values and gradients ----------------------------------------------------------------------


def gradients_agree(module, xs, read=lambda result: result[1], flip=False, tolerance=3e-5):
    """Values of module and conversion, and gradients for every weight of the module, through the conversion."""
    layer, params = rj.interop.from_keras(module)
    expected = np.asarray(module(xs))
    weights = data(7, *expected.shape)
    fixed = [v.value for v in module.non_trainable_variables]
    values = [v.value for v in module.trainable_variables]

    @jax.jit
    def theirs(values):
        return jax.grad(lambda values: (weights * module.stateless_call(values, fixed, xs)[0]).sum())(values)

    @jax.jit
    def ours(values):
        def loss(values):
            for variable, value in zip(module.trainable_variables, values):
                variable._value = value  # traced: gradients flow through the conversion itself
            y = read(layer(rj.interop.from_keras(module)[1], xs, time_axis=1))
            return (weights * (y[:, ::-1] if flip else y)).sum(), y

        return jax.value_and_grad(loss, has_aux=True)(values)

    wanted = theirs(values)
    try:
        (_, y), got = ours(values)
    finally:
        for variable, value in zip(module.trainable_variables, values):
            variable._value = value
    close(y[:, ::-1] if flip else y, expected, tolerance)
    close(got, wanted, tolerance)
    return layer, params


ACTIVATED = {
    "LSTM": lambda: L.LSTM(H, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
    "GRU": lambda: L.GRU(H, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True),
    "GRU before": lambda: L.GRU(
        H, activation="elu", recurrent_activation="softplus", reset_after=False, return_sequences=True
    ),
}


@pytest.mark.parametrize("name", ["LSTM", *[pytest.param(n, marks=pytest.mark.slow) for n in ("GRU", "GRU before")]])
def test_activations_of_gated_layers_values_and_gradients_and_back(name):
    module, xs = randomised(ACTIVATED[name]()), 0.5 * data(3, B, T, I)
    layer, params = gradients_agree(module, xs)
    again, params_again = rj.interop.from_keras(rj.interop.to_keras(layer, params))
    assert again == layer and layer.cell.gate_activation != "sigmoid"
    same(params_again, params)


def test_the_hard_sigmoid_of_older_keras_is_another():
    """Keras 1 and 2: clip(0.2 x + 0.5, 0, 1), written here with Keras's own operations."""

    def hard(x):
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    module, xs = randomised(L.LSTM(H, recurrent_activation=hard, return_sequences=True)), data(3, B, T, I)
    with pytest.raises(ValueError, match=r"must have an recurrent_activation of"):
        rj.interop.from_keras(module)
    old = randomised(L.LSTM(H, return_sequences=True))
    layer, params = rj.RNN(rj.LSTM(H, gate_activation="hard_sigmoid_0.2")), rj.interop.from_keras(old)[1]
    close(layer(params, xs, time_axis=1)[1], np.asarray(module(xs)))


@pytest.mark.parametrize(
    "options",
    [
        dict(dims=2, strides=(2, 1), padding="valid"),
        pytest.param(dict(dims=1, dilation_rate=2, padding="same"), marks=pytest.mark.slow),
        pytest.param(dict(dims=1, dilation_rate=2, padding="valid"), marks=pytest.mark.slow),
        pytest.param(
            dict(dims=1, strides=3, padding="same", recurrent_activation="hard_sigmoid"), marks=pytest.mark.slow
        ),
        pytest.param(dict(dims=3, strides=(1, 2, 2), padding="valid"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_conv_lstm_strides_dilation_and_padding_values_and_gradients(options):
    dims = options.pop("dims")
    size, kernel = (7, 5, 4)[:dims], (3, 2, 2)[:dims]
    module = getattr(L, f"ConvLSTM{dims}D")(2, kernel, return_sequences=True, **options)
    xs = data(0, B, T, *size, 2)
    layer, params = gradients_agree(randomised(module, (None, None, *size, 2)), xs)
    ours_and_theirs(layer, params, rj.interop.to_keras(layer, params, input_shape=size), xs)


TOKENS = np.array([[1, 5, 2, 0, 0], [3, 0, 4, 4, 6], [0, 0, 6, 1, 2]])  # 0 is passed over: after, amid and before
TAGGER = lambda **embedding: [
    L.Input((None,), dtype="int32"), L.Embedding(7, 3, **embedding), L.LSTM(H, return_sequences=True), L.Dropout(0.1), L.Dense(2)
]  # fmt: skip
MODELS = {
    "tagger": (TAGGER, TOKENS),
    "tagger, masked": (lambda: TAGGER(mask_zero=True), TOKENS),
    "sentiment": (
        lambda: [
            L.Input((None,), dtype="int32"), L.Embedding(7, 3, mask_zero=True), L.Bidirectional(L.LSTM(H, return_sequences=True)),
            L.Bidirectional(L.GRU(2)), L.Dense(3, activation="relu"), L.Dropout(0.5), L.Dense(1, activation="sigmoid"),
        ],
        TOKENS,
    ),
    "two directions": (
        lambda: [
            L.Input((None,), dtype="int32"), L.Embedding(7, 3), L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum"),
            L.TimeDistributed(L.Dense(3)), L.Activation("softmax"),
        ],
        TOKENS,
    ),
    "masking": (
        lambda: [
            L.Input((None, I)), L.Masking(-1.0), L.GRU(H, return_sequences=True), L.LSTM(2, return_sequences=True),
            L.Dense(2, activation="tanh"),
        ],
        np.where(TOKENS[..., None] == 0, -1, data(0, B, T, I)).astype("float32"),
    ),
    "mean": (
        lambda: [
            L.Input((None,), dtype="int32"), L.Embedding(7, 3, mask_zero=True), L.GRU(H, return_sequences=True),
            L.GlobalAveragePooling1D(), L.Dense(2),
        ],
        TOKENS,
    ),
    "max": (
        lambda: [
            L.Input((None, I)), L.Dense(3, activation="relu"), L.GRU(H, return_sequences=True), L.Dense(4), L.GlobalMaxPooling1D(),
            L.Dense(2),
        ],
        data(0, B, T, I),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [n if n in ("tagger", "sentiment") else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_whole_models_values_and_gradients(name):
    make, xs = MODELS[name]
    model = randomised(keras.Sequential(make()))
    layer, params = gradients_agree(model, xs)
    if name == "tagger":
        assert layer == rj.RNN(rj.Readout(rj.Dropout(rj.Embed(rj.LSTM(H), 7, 3), 0.1), 2))
    if name in ("tagger", "two directions"):
        again, params_again = rj.interop.from_keras(rj.interop.to_keras(layer, params))
        assert again == layer
        same(params_again, params)


def test_one_answer_for_a_sequence_and_a_functional_model():
    """return_sequences=False: all of the sequence comes back; with a mask too its last is Keras's answer."""
    for options in ({}, {"mask_zero": True}):
        inputs = L.Input((None,), dtype="int32")
        flow = L.LSTM(H, return_sequences=True)(L.Embedding(7, 3, **options)(inputs))
        model = keras.Model(inputs, L.Dense(2, activation="sigmoid")(L.GRU(3)(flow)))
        for k, weight in enumerate(model.weights):
            weight.assign(0.5 * data(k, *weight.shape))
        layer, params = rj.interop.from_keras(model)
        ys = layer(params, TOKENS, time_axis=1)[1]
        close(rj.last_output(ys, time_axis=1), np.asarray(model(TOKENS)))
        more = layer(params, np.pad(TOKENS, ((0, 0), (0, 2))), time_axis=1, lengths=np.array([5, 5, 5]))
        close(more[1][:, :5], ys)


@pytest.mark.parametrize("kind", ["SimpleRNNCell", "LSTMCell", "GRUCell"])
def test_cells_and_back(kind):
    module = randomised(getattr(L, kind)(H), (None, I))
    cell, params = rj.interop.from_keras(module)
    x, state = data(0, B, I), [data(1, B, H), data(2, B, H)][: 2 if kind == "LSTMCell" else 1]
    carry = rj.LSTMCarry(*state) if kind == "LSTMCell" else jnp.asarray(state[0])
    carry, y = cell(params, carry, jnp.asarray(x))
    expected, states = module(x, state)
    close([y, carry], [expected, states])
    same(rj.interop.from_keras(rj.interop.to_keras(cell, params))[1], params)


def test_stacked_cells():
    cell = rj.Stack(rj.GRU(H), rj.LSTM(2))
    params = new_params(cell)
    module = rj.interop.to_keras(cell, params)
    assert rj.interop.from_keras(module)[0] == cell
    same(rj.interop.from_keras(module)[1], params)


def test_activations_mean_the_same():
    from rnnjax.activations import ACTIVATIONS
    from rnnjax.interop.keras_read import ACTIVATIONS as SHARED

    z = np.linspace(-8, 8, 101, dtype="float32")
    for name in SHARED:
        close(ACTIVATIONS[name](jnp.asarray(z)), np.asarray(keras.activations.get(name)(z)))


def test_float64_and_bfloat16_are_kept():
    for dtype in ("float64", "bfloat16"):
        with jax.enable_x64(dtype == "float64"):
            module = L.LSTM(H, dtype=dtype, recurrent_initializer="zeros")  # Keras's orthogonal has no bfloat16
            module.build((None, None, I))
            layer, params = rj.interop.from_keras(module)
            assert {str(a.dtype) for a in jax.tree.leaves(params)} == {dtype}
            assert rj.interop.to_keras(layer, params).cell.kernel.dtype == dtype


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: L.Dense(2), r"from_keras: takes SimpleRNN, LSTM.*got Dense"),
        (lambda: L.LSTM(H, dropout=0.1), r"has dropout=0.1, one mask for all steps.*VariationalDropout"),
        (lambda: L.LSTM(H, recurrent_dropout=0.1), r"has recurrent_dropout=0.1"),
        (
            lambda: L.GRU(H, activation="exponential"),
            r"must have an activation of tanh, relu.*got 'exponential'; the nearest known is",
        ),
        (
            lambda: L.LSTM(H, recurrent_activation="gelu"),
            r"must have an recurrent_activation of tanh, relu.*got 'gelu'",
        ),
        (
            lambda: L.SimpleRNN(H, activation="gelu"),
            r"must have an activation of tanh, relu.*got 'gelu'; the nearest known is 'elu'",
        ),
        (lambda: L.ConvLSTM1D(2, 3, data_format="channels_first"), r"must have data_format='channels_last'"),
        (lambda: L.SimpleRNN(H, dtype="mixed_bfloat16"), r"computes in bfloat16 with float32 weights.*matmul_dtype"),
        (lambda: L.RNN(L.LSTMCell(H), name="r", stateful=True), r"'r' is stateful; here the carry is handed on"),
        (lambda: L.LSTM(H, kernel_regularizer="l2"), r"has kernel_regularizer=<.*L2.*add it to your loss"),
    ],
)
def test_options_without_a_counterpart(module, message):
    module = module()
    module.build({L.Dense: (None, I), L.ConvLSTM1D: (None, None, 4, 8)}.get(type(module), (2, 3, I)))
    with pytest.raises((TypeError, ValueError, UserWarning), match=message):
        rj.interop.from_keras(module)


def test_other_messages():
    with pytest.raises(ValueError, match=r"has no weights yet; build it"):
        rj.interop.from_keras(L.GRU(H))
    for layers, message in [
        ([L.SpatialDropout1D(0.1), L.GRU(H)], r"got SpatialDropout1D 'sd'; the nearest known is \w*Dropout"),
        ([L.GRU(H, return_sequences=True), L.Masking()], r"a mask must be read off the input, by the first layer"),
        ([L.Dense(2)], r"the model 's' has no recurrent layer|the model has no recurrent layer \(model 's'\)"),
        ([L.GRU(H), L.Dense(2, activation="gelu")], r"must have an activation of .*softmax, got 'gelu'"),
    ]:
        layers[0].name = "sd"
        with pytest.raises((TypeError, ValueError), match=message):
            rj.interop.from_keras(randomised(keras.Sequential([L.Input((None, I)), *layers], name="s")))
    with pytest.raises(TypeError, match=r"got str ''; pass the model itself, as keras.saving.load_model"):
        rj.interop.from_keras("model.keras")
    inputs = L.Input((None, I))
    branch = L.GRU(H, return_sequences=True)(inputs)
    two = keras.Model(inputs, L.Add()([branch, L.GRU(H, return_sequences=True)(inputs)]))
    with pytest.raises(TypeError, match=r"whose layers stand in a row.*does not read what stands before it alone"):
        rj.interop.from_keras(two)
    for cell, message in [
        (rj.LSTM(H, peephole=True), r"to_keras: Keras has no LSTM\(4, peephole=True\); it has Elman"),
        (rj.Elman(H, activation="gelu"), r"Keras has no Elman"),
        (rj.RNN(rj.LearnedCarry(rj.GRU(H))), r"LearnedCarry has no counterpart there"),
        (rj.Sequential(rj.RNN(rj.GRU(H), reverse=True), rj.RNN(rj.GRU(H))), r"only the last may be reversed"),
    ]:
        with pytest.raises(TypeError, match=message):
            rj.interop.to_keras(cell, new_params(cell))

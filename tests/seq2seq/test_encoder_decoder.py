"""`EncoderDecoder` against its equations in numpy, step by step against all at once, padding, gradients, draws, messages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.seq2seq import EncoderDecoder

S, T, B, V, W, F, H = 4, 3, 3, 6, 5, 4, 5
RNG = np.random.default_rng(0)
LENGTHS = np.array([4, 2, 0])
SOURCE, TARGET = RNG.integers(0, V, (S, B)), RNG.integers(0, W, (T, B))
FLOATS = RNG.normal(size=(S, B, 2)).astype(np.float32)
PADDED = np.arange(S)[:, None] >= LENGTHS
BOTH_WAYS = rj.Bidirectional(rj.GRU(3))
MODELS = {
    "additive": EncoderDecoder(rj.Elman(H), rj.Elman(H), V, W, features=F),
    "additive, fed, tied": EncoderDecoder(BOTH_WAYS, rj.Elman(H), V, W, features=F, input_feeding=True, tied=True),
    "multiplicative": EncoderDecoder(BOTH_WAYS, rj.Elman(H), V, W, features=F, attention="multiplicative"),
    "multiplicative, fed": EncoderDecoder(
        rj.Elman(H), rj.Elman(H), None, W, features=F, attention="multiplicative", input_feeding=True
    ),
    "none, tied": EncoderDecoder(rj.Elman(H), rj.Elman(H), V, W, features=F, attention=None, tied=True),
    "none, floats": EncoderDecoder(rj.Elman(H), rj.Elman(H), None, W, features=F, attention=None),
    "stacks": EncoderDecoder(rj.Stack(rj.LSTM(3), rj.GRU(H)), rj.Stack(rj.LSTM(3), rj.GRU(H)), V, W, features=F),
    "layers": EncoderDecoder(
        rj.Sequential(BOTH_WAYS, rj.RNN(rj.LSTM(4), reverse=True)), rj.Stack(rj.LSTM(4), rj.Readout(rj.LSTM(3), H)),
        V, W, features=H, attention="multiplicative", tied=True,
    ),
}  # fmt: skip


def params_of(model):
    """Biases too are not zero, so that each of them counts."""
    params = model.init(jax.random.key(0), FLOATS[0]) if model.source_tokens is None else model.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        tree, [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    )


PARAMS = {name: params_of(model) for name, model in MODELS.items()}


def source_of(model, junk=False):
    if model.source_tokens is None:
        return np.where(PADDED[..., None], np.nan, FLOATS).astype(np.float32) if junk else FLOATS
    return np.where(PADDED, -7, SOURCE) if junk else SOURCE


QUICK = ("additive, fed, tied", "multiplicative", "none, tied")
GROUPS = [QUICK, pytest.param(tuple(name for name in MODELS if name not in QUICK), marks=pytest.mark.slow)]


@partial(jax.jit, static_argnums=0)
def everything(names, params, junk):
    """`{name: (logits, gradients, weights)}` of some models, in one program."""

    def of(name):
        model = MODELS[name]
        source = jnp.where(junk, source_of(model, junk=True), source_of(model))

        def loss(p):
            logits = model(p, source, TARGET, source_lengths=LENGTHS)
            return jnp.sum(jnp.sin(logits)), logits

        (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(params[name])
        weights = model.attention and model.alignment(params[name], source, TARGET, source_lengths=LENGTHS)
        return logits, grads, weights

    return {name: of(name) for name in names}


@pytest.fixture(scope="module", params=GROUPS, ids=["quick", "the rest"])
def found(request):
    return jax.device_get(everything(request.param, PARAMS, False))


def by_hand(model, params, source):
    """Logits and weights of a model with an Elman decoder, in numpy's float64, one row and one step after the other."""
    layer = model.encoder if model.encoder == BOTH_WAYS else rj.RNN(model.encoder)
    xs = source if model.source_tokens is None else params["source_table"][source]
    last, encoded = jax.device_get(layer(params["encoder"], xs, lengths=LENGTHS))
    p = jax.tree.map(lambda a: np.asarray(a, float), params)
    logits, weights = np.zeros((T, B, W)), np.zeros((T, B, S))
    for b in range(B):
        e, start = encoded[: LENGTHS[b], b].astype(float), not isinstance(last, tuple)
        s = last[b].astype(float) if start else np.zeros(H)
        h = np.zeros(p["combine"].shape[1]) if "combine" in p else None

        def look(s):
            a = p["attention"]
            keys = e @ a["memory"]
            if model.attention == "additive":
                z = np.tanh(s @ a["query"] + keys + a["bias"]) @ a["score"]
            else:
                z = keys @ s
            w = np.exp(z) / np.exp(z).sum()
            return w @ e, np.append(w, np.zeros(S - len(e)))

        for t in range(T):
            inputs = [p["target_table"][TARGET[t, b]]]
            if model.input_feeding:
                inputs.append(h)
            if model.attention == "additive":
                c, weights[t, b] = look(s)
                inputs.append(c)
            d = p["decoder"]
            s = np.tanh(np.concatenate(inputs) @ d["input"] + s @ d["recurrent"] + d["bias"])
            if model.attention == "multiplicative":
                c, weights[t, b] = look(s)
            seen = [s, c] if model.attention else [s]
            h = np.tanh(np.concatenate(seen) @ p["combine"] + p["combine_bias"]) if "combine" in p else s
            logits[t, b] = h @ (p["target_table"].T if model.tied else p["output"]) + p["output_bias"]
    return logits, weights


def test_logits_and_weights_are_the_equations(found):
    """One row's source is empty: no weights, a context of zero."""
    for name, (got, _, got_weights) in found.items():
        if MODELS[name].decoder == rj.Elman(H):
            logits, weights = by_hand(MODELS[name], PARAMS[name], source_of(MODELS[name]))
            np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-5, err_msg=name)
            if MODELS[name].attention:
                np.testing.assert_allclose(got_weights, weights, rtol=1e-4, atol=1e-6, err_msg=name)


def test_weights_are_zero_on_padding_and_sum_to_one(found):
    for name, (_, _, weights) in found.items():
        if MODELS[name].attention:
            assert not weights[:, PADDED.T].any()
            np.testing.assert_allclose(weights.sum(-1), np.broadcast_to(LENGTHS > 0, (T, B)), rtol=1e-5)


def test_every_param_has_a_gradient(found):
    for name, (_, grads, _) in found.items():
        for path, grad in jax.tree.leaves_with_path(grads):
            assert np.isfinite(grad).all() and np.abs(grad).max() > 1e-4, (name, path)  # rounding is no gradient


def test_junk_in_the_padding_changes_nothing_gradients_included(found):
    junk = jax.device_get(everything(tuple(found), PARAMS, True))
    jax.tree.map(np.testing.assert_array_equal, junk, found)


@partial(jax.jit, static_argnums=0)
def steps(names, params):
    """`{name: logits}` by the steps of `decoder_step`."""
    out = {}
    for name in names:
        step, carry = MODELS[name].decoder_step(params[name], source_of(MODELS[name]), source_lengths=LENGTHS)
        assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(carry))
        out[name] = jax.lax.scan(step, carry, TARGET)[1]
    return out


def test_step_by_step_is_all_at_once(found):
    for name, logits in steps(tuple(found), PARAMS).items():
        np.testing.assert_allclose(logits, found[name][0], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "multiplicative, fed"])
def test_vmap_two_batch_axes_and_a_single_row_are_the_batch(name):
    model, params, source, n = MODELS[name], PARAMS[name], source_of(MODELS[name]), jnp.asarray(LENGTHS)

    @jax.jit
    def ways():
        call = lambda s, t, n: model(params, s, t, source_lengths=n)
        mapped = jax.vmap(call, (1, 1, 0), 1)(source, TARGET, n)
        wide = call(np.expand_dims(source, 1), TARGET[:, None], n[None])[:, 0]
        return call(source, TARGET, n), mapped, wide, call(source[:, 1], TARGET[:, 1], n[1])

    whole, mapped, wide, row = ways()
    for got, want in ((mapped, whole), (wide, whole), (row, whole[:, 1])):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_source_of_no_steps_is_one_of_length_zero():
    model, params = MODELS["multiplicative"], PARAMS["multiplicative"]
    nothing = jax.jit(
        lambda p: (model(p, np.zeros((0, B), int), TARGET), model.alignment(p, np.zeros((0, B), int), TARGET))
    )
    logits, weights = nothing(params)
    np.testing.assert_allclose(logits[:, 2], by_hand(model, params, SOURCE)[0][:, 2], rtol=1e-4, atol=1e-5)
    assert weights.shape == (T, B, 0)


# -- draws and noise ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_share_of_steps_is_fed_with_the_models_own_draw():
    """A model that is sure of token 3: the logits of a row whose first tokens were 3 are those with 3 in the target."""
    model, steps, rows = MODELS["multiplicative"], 6, 400
    params = PARAMS["multiplicative"] | {"output_bias": 100.0 * jnp.eye(W)[3]}
    source, target = np.zeros((2, rows), int), np.ones((steps, rows), int)

    @jax.jit
    def shares():
        call = lambda target, share: model(params, source, target, key=jax.random.key(0), sampling=share)
        never, given, own = (
            call(target, 0.0),
            call(np.where(np.arange(steps)[:, None] > 0, 3, 1) + target * 0, 0.0),
            call(target, 1.0),
        )
        return never, given, own, call(target, 0.3), model(params, source, target)

    never, given, own, some, plain = map(np.asarray, shares())
    np.testing.assert_allclose(never, plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(own, given, rtol=1e-4, atol=1e-4)
    assert np.abs(given - plain)[1:].max() > 0.01 > np.abs(some - plain)[0].max()
    fed = np.abs(some - plain)[1].max(-1) > 1e-3
    assert abs(fed.mean() - 0.3) < 5 * (0.3 * 0.7 / rows) ** 0.5
    np.testing.assert_allclose(some[1][fed], given[1][fed], rtol=1e-4, atol=1e-4)


def test_draws_are_of_the_softmax_of_the_logits():
    """The first draw of 2000 rows: chi-square with 4 degrees, passed by chance once in 10,000."""
    from rnnjax.seq2seq.decoding import draw

    p = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    counts = np.bincount(
        draw(jax.random.key(0), jnp.log(jnp.broadcast_to(jnp.asarray(p, jnp.float32), (2000, 5)))), minlength=5
    )
    assert ((counts - 2000 * p) ** 2 / (2000 * p)).sum() < 23.5


@pytest.mark.slow
def test_noise_is_the_same_step_by_step_as_all_at_once():
    """A share of draws that is 0, but known only when it runs, goes step by step; the masks are those of all steps at once."""
    noisy = lambda cell: rj.Dropout(rj.VariationalDropout(cell, 0.3), 0.4)
    model = EncoderDecoder(noisy(rj.Elman(H)), noisy(rj.Elman(H)), V, W, features=F, attention="multiplicative")
    params = model.init(jax.random.key(0))

    @jax.jit
    def both(share):
        call = lambda key, **how: model(params, SOURCE, TARGET, key=key, **how)
        one = jax.random.key(1)
        return call(one), call(one, sampling=share), call(jax.random.key(2)), call(None)

    at_once, by_step, other, plain = both(0.0)
    np.testing.assert_allclose(by_step, at_once, rtol=1e-4, atol=1e-5)
    assert np.abs(other - at_once).max() > 0.01 < np.abs(plain - at_once).max()


# -- the engine, searches, dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["additive, fed, tied", "multiplicative, fed"])
def test_products_with_the_memory_are_taken_out_of_the_loop(name):
    """The keys are formed before it, the gradients of values and keys after it, where those of the weights are."""
    step, carry = MODELS[name].decoder_step(PARAMS[name], source_of(MODELS[name]))
    table = rj.explain(step, carry, TARGET)
    size = PARAMS[name]["attention"]["memory"].shape[0]
    operands = {f"float32[{B},{S},{size}]", f"float32[{B},{H},{S}]"}  # values; keys, where they are multiplied
    keys_or_values = [row for row in table.rows if row.product.split(" @ ")[1] in operands]
    assert table.fused and len(keys_or_values) == (1 if MODELS[name].attention == "additive" else 2)
    assert {row.fate for row in keys_or_values} == {"deferred"}
    assert {row.fate for row in table.rows} <= {"hoisted", "deferred", "after"}
    assert not any(f",{S},{size}] @ float32[{size}," in row.product for row in table.rows)  # the keys are formed before


@pytest.mark.slow
def test_rows_that_have_ended_stay_as_they_are():
    """However many steps the others still take; for greedy, drawn and the beam."""
    model, params = MODELS["additive"], PARAMS["additive"] | {"output_bias": jnp.eye(W)[1]}
    source, start = np.arange(2 * 12).reshape(2, 12) % V, np.zeros(12, int)

    @jax.jit
    def search():
        step, carry = model.decoder_step(params, source)
        keys = jax.random.split(jax.random.key(0), 12)
        out = []
        for length in (3, 8):
            how = dict(end=1, length=length)
            drawn = rj.seq2seq.sample(step, carry, start, keys, temperature=2.0, **how)
            best = rj.seq2seq.beam(step, carry, start, beams=2, length_penalty=1.0, **how)
            out.append((rj.seq2seq.greedy(step, carry, start, **how), drawn, best))
        return out

    few, many = jax.device_get(search())
    for (short, lengths, *_), (long, later, *_) in zip(few[:2], many[:2], strict=True):
        done = (short == 1).any(0)
        assert done.any() and (later[done] == lengths[done]).all()
        assert (long[:3, done] == short[:, done]).all() and (long[3:, done] == 1).all()
    tokens, lengths, _ = many[2]
    after = np.arange(8)[:, None] >= lengths[:, None]
    assert (tokens[after] == 1).all() and (np.diff(many[2][2], axis=0) <= 0).all()


@pytest.mark.slow
def test_half_precision_goes_through():
    """Logits in bfloat16, near those of float32; steps keep the types of their carry, whatever the params are."""
    model, params = MODELS["additive, fed, tied"], PARAMS["additive, fed, tied"]
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)

    @jax.jit
    def both():
        step, carry = model.decoder_step(half, SOURCE)
        tokens, _ = rj.seq2seq.greedy(step, carry, TARGET[0], end=-1, length=3)
        return (
            model(half, SOURCE, TARGET, source_lengths=LENGTHS),
            model(params, SOURCE, TARGET, source_lengths=LENGTHS),
            tokens,
        )

    low, high, tokens = both()
    assert low.dtype == jnp.bfloat16 and tokens.shape == (3, B)
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.1)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_bad_input():
    lstm, model, params = rj.LSTM(H), MODELS["additive"], PARAMS["additive"]
    make = lambda *cells, **how: EncoderDecoder(*(cells or (lstm, lstm)), V, W, features=F, **how)
    call = lambda source=SOURCE, target=TARGET, **how: model(params, source, target, **how)
    step, carry = model.decoder_step(params, SOURCE)
    for error, message, f in [
        (ValueError, "source must lie in 0..5, a vocabulary of 6, got 6", lambda: call(np.full((S, B), V))),
        (ValueError, "target must lie in 0..4.*got -1", lambda: call(target=TARGET - TARGET - 1)),
        (ValueError, "token must lie in 0..4.*got 5", lambda: step(carry, np.full(B, 5))),
        (TypeError, "source must be integer tokens, got float32", lambda: call(FLOATS)),
        (ValueError, "target must be.*batch axes of the source.*got shape", lambda: call(target=TARGET[:, :2])),
        (ValueError, r"source_lengths must lie in 0\.\.4", lambda: call(source_lengths=np.array([5, 1, 1]))),
        (ValueError, r"source_lengths must be \[\*B\]", lambda: call(source_lengths=np.array([4]))),
        (ValueError, "sampling=0.5 draws tokens and needs key=", lambda: call(sampling=0.5)),
        (
            ValueError,
            "sampling is a share of steps, 0 to 1, got 1.5",
            lambda: call(sampling=1.5, key=jax.random.key(0)),
        ),
        (TypeError, "takes no reverse=", lambda: call(reverse=True)),
        (ValueError, "params lack", lambda: model({}, SOURCE, TARGET)),
        (ValueError, "attention must be one of.*did you mean 'additive'", lambda: make(attention="aditive")),
        (ValueError, "input_feeding feeds what attention found", lambda: make(attention=None, input_feeding=True)),
        (ValueError, "features must be at least 1", lambda: EncoderDecoder(lstm, lstm, V, W, features=0)),
        (TypeError, "takes a cell or a layer", lambda: make(3, lstm)),
        (TypeError, "EncoderDecoder: takes a cell", lambda: make(lstm, rj.RNN(lstm))),
        (TypeError, "encoder must read vectors", lambda: make(rj.Embed(lstm, V, F), lstm)),
        (ValueError, "needs one step of it", lambda: MODELS["none, floats"].init(jax.random.key(0))),
        (TypeError, "init takes no floats", lambda: model.init(jax.random.key(0), FLOATS[0])),
        (ValueError, "no alignment without attention", lambda: MODELS["none, tied"].alignment(params, SOURCE, TARGET)),
    ]:
        with pytest.raises(error, match=message):
            f()
    inside = jax.jit(lambda t: model(params, SOURCE, t))(np.where(np.arange(B) == 1, W, TARGET))
    assert np.isnan(inside[:, 1]).all() and np.isfinite(inside[:, ::2]).all()


@pytest.mark.parametrize(
    "encoder, decoder, attention, message",
    [
        (
            BOTH_WAYS,
            rj.GRU(3),
            None,
            r"GRU\(3\) cannot start from that of Bidirectional.*take cells of one kind and size",
        ),
        (rj.GRU(4), rj.GRU(3), None, r"GRU\(3\) cannot start from that of GRU\(4\)"),
        (rj.Readout(rj.GRU(3), 2), rj.GRU(3), None, "encoder/output, encoder/output_bias could never learn"),
        (rj.GRU(3), rj.LearnedCarry(rj.GRU(3)), "additive", "decoder/carry could never learn"),
        (rj.Bidirectional(rj.GRU(3), merge=None), rj.GRU(3), "additive", "encoder must put out one vector a step"),
        (rj.GRU(3), rj.Skip(rj.GRU(3)), "additive", "output does not grow with its input"),
    ],
)
def test_models_that_cannot_be_or_could_not_learn_are_refused(encoder, decoder, attention, message):
    model = EncoderDecoder(
        encoder, decoder, V, W, features=F, attention=attention, input_feeding=decoder == rj.Skip(rj.GRU(3))
    )
    with pytest.raises((ValueError, TypeError), match=message):
        model.init(jax.random.key(0))

"""Wrappers: what each adds to a cell, in closed form or in numpy; where the noise comes from and how long it holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax

T, B, I, H = 5, 2, 3, 4
KEY = jax.random.key(7)
XS = jax.random.normal(jax.random.key(1), (T, B, I))


def made(cell, x=XS[0]):
    return cell.init(jax.random.key(0), x)


def one_step(cell, made_for=XS[0], x=None, carry=None):
    params = made(cell, made_for)
    x = made_for if x is None else x
    return cell(params, cell.initial_carry(params, x) if carry is None else carry, x)


# -- without noise -----------------------------------------------------------------------------------------------------


def test_residual_adds_the_input_and_skip_joins_it():
    cell = rj.GRU(I)
    params = made(cell)
    carry, ys = rj.unroll(cell, params, XS)
    for wrapped, want in ((rj.Residual(cell), ys + XS), (rj.Skip(cell), jnp.concatenate([ys, XS], -1))):
        got_carry, got = rj.unroll(wrapped, params, XS)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(got_carry, carry, rtol=1e-6)


def test_layer_norm_is_the_cells_own_where_it_has_one_and_on_the_output_elsewhere():
    params = made(rj.LayerNorm(rj.LSTM(H)))
    inside = rj.unroll(rj.LSTM(H, layer_norm=True), params, XS)
    for a, b in zip(jax.tree.leaves(rj.unroll(rj.LayerNorm(rj.LSTM(H)), params, XS)), jax.tree.leaves(inside)):
        np.testing.assert_array_equal(a, b)
    params = made(rj.LayerNorm(rj.Elman(H))) | {"norm_output": jnp.arange(1.0, 5.0), "norm_output_bias": jnp.ones(H)}
    carry, ys = rj.unroll(rj.LayerNorm(rj.Elman(H)), params, XS)
    plain_carry, plain = map(np.asarray, rj.unroll(rj.Elman(H), params["cell"], XS))
    want = np.arange(1, 5) * (plain - plain.mean(-1, keepdims=True)) / np.sqrt(plain.var(-1, keepdims=True) + 1e-5) + 1
    np.testing.assert_allclose(ys, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(carry, plain_carry, rtol=1e-6)


def test_record_gives_the_carry_after_every_step():
    cell = rj.LSTM(H)
    params = made(cell)
    last, (ys, carries) = rj.unroll(rj.Record(cell), params, XS)
    carry = cell.initial_carry(params, XS[0])
    for t in range(T):
        carry, y = cell(params, carry, XS[t])
        np.testing.assert_allclose(carries.c[t], carry.c, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ys[t], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last.c, carries.c[-1])


def test_learned_carry_learns_floating_parts_and_leaves_counters_alone():
    cell = rj.LearnedCarry(rj.Clockwork(H, periods=(1, 2)))
    params = made(cell)
    assert set(params["carry"]) == {"h"}
    start = cell.initial_carry(params | {"carry": {"h": jnp.ones(H)}}, XS[0])
    np.testing.assert_array_equal(start.h, np.ones((B, H)))
    grads = jax.grad(lambda p: jnp.sum(rj.unroll(cell, p, XS)[1]))(params)
    assert np.abs(grads["carry"]["h"]).sum() > 0


def test_clip_keeps_the_carry_and_its_output_within_bounds():
    ones = {"input": jnp.eye(2), "recurrent": jnp.eye(2)}
    carry, ys = rj.unroll(rj.Clip(rj.IRNN(2), 3.0), ones, jnp.tile(jnp.array([1.0, 0.25]), (8, 1)))
    np.testing.assert_allclose(ys[:, 0], [1, 2, 3, 3, 3, 3, 3, 3])
    np.testing.assert_allclose(carry, [3, 2])


def test_scale_multiplies_input_and_output():
    cell = rj.ATR(H)
    params = made(cell)
    _, ys = rj.unroll(rj.Scale(cell, input=0.5, output=3.0), params, XS)
    np.testing.assert_allclose(ys, 3 * rj.unroll(cell, params, XS / 2)[1], rtol=1e-5, atol=1e-6)


# -- zoneout -----------------------------------------------------------------------------------------------------------


def test_zoneout_without_a_key_is_the_expectation_of_its_equations():
    cell = rj.LSTM(H)
    params, rates = made(cell), (0.1, 0.5)
    h, c, ys = np.zeros((B, H)), np.zeros((B, H)), []
    for x in XS:
        new, _ = cell(params, rj.LSTMCarry(jnp.asarray(h, jnp.float32), jnp.asarray(c, jnp.float32)), x)
        h, c = 0.1 * h + 0.9 * np.asarray(new.h), 0.5 * c + 0.5 * np.asarray(new.c)
        ys.append(h)
    carry, got = rj.unroll(rj.Zoneout(cell, rates), params, XS)
    np.testing.assert_allclose(got, np.stack(ys), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(carry.c, c, rtol=1e-4, atol=1e-6)


def test_zoneout_keeps_old_values_at_its_rate_and_averages_to_the_expectation():
    cell = rj.Zoneout(rj.GRU(4), 0.3)
    params, x = made(cell, jnp.ones(3)), jnp.ones((500, 3))
    start = jnp.full((500, 4), 0.123)
    new, y = cell(params, start, x, key=KEY)
    assert 0.26 < float((new == 0.123).mean()) < 0.34
    np.testing.assert_array_equal(new, y)
    mean, _ = cell(params, start, x)
    drawn = jax.vmap(lambda k: cell(params, start, x, key=k)[0])(jax.random.split(KEY, 400))
    assert float(jnp.abs(drawn.mean(0) - mean).max()) < 0.15 and float(jnp.abs(drawn.mean(0) - mean).mean()) < 0.02


# -- noise of a whole sequence -----------------------------------------------------------------------------------------


def test_variational_dropout_holds_one_mask_for_each_sequence_and_place():
    """An identity cell shows the masks: input mask through x, carry mask through h, output mask on y."""

    @rj.cell
    class Show:
        def init(self, key, x):
            return {}

        def initial_carry(self, params, x):
            return jnp.zeros(x.shape)

        def __call__(self, params, carry, x, key=None):
            return jnp.ones_like(carry), {"x": x, "carry": carry, "y": jnp.ones_like(x)}

    xs = jnp.ones((6, 3, 50))
    cell = rj.VariationalDropout(Show(), 0.0, input_rate=0.2, carry_rate=0.5, output_rate=0.0)
    _, seen = rj.unroll(cell, {}, xs, carry=jnp.ones((3, 50)), key=KEY)
    for place, rate in (("x", 0.2), ("carry", 0.5)):
        mask = np.asarray(seen[place])
        np.testing.assert_array_equal(mask, np.broadcast_to(mask[0], mask.shape))  # constant over time
        assert set(np.unique(mask.round(4))) == {0.0, np.float32(round(1 / (1 - rate), 4))}
        assert abs((mask[0] == 0).mean() - rate) < 0.15
        assert (mask[0, 0] != mask[0, 1]).any()  # each sequence has its own
    assert (seen["x"][0] != 0).sum() != (seen["carry"][0] != 0).sum()


def test_variational_dropout_masks_what_an_lstm_shows_not_what_it_remembers():
    cell = rj.VariationalDropout(rj.LSTM(H), 0.0, carry_rate=0.9)
    prepared = cell.prepare(made(cell), KEY, XS[0])
    assert (prepared.noise["carry"].c == 1).all() and (prepared.noise["carry"].h == 0).any()


@pytest.mark.parametrize("wrap", [rj.VariationalDropout, rj.WeightDrop])
def test_noise_of_a_sequence_is_the_same_in_pieces_stacks_batches_of_keys_and_single_steps(wrap):
    cell = wrap(rj.GRU(H), 0.5)
    params = made(cell)
    last, ys = rj.unroll(cell, params, XS, key=KEY)
    middle, first = rj.unroll(cell, params, XS[:2], key=KEY)
    end, second = rj.unroll(cell, params, XS[2:], carry=middle, key=KEY)
    np.testing.assert_allclose(jnp.concatenate([first, second]), ys, rtol=1e-5, atol=1e-6)
    carry = cell.initial_carry(params, XS[0])
    for t in range(T):
        carry, y = cell(params, carry, XS[t], key=KEY)
        np.testing.assert_allclose(y, ys[t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(end, last, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rj.unroll(cell, params, XS, key=KEY, method="loop")[1], ys, rtol=1e-5, atol=1e-6)
    plain = rj.unroll(cell, params, XS)[1]
    np.testing.assert_array_equal(plain, rj.unroll(rj.GRU(H), params, XS)[1])
    assert bool((plain != ys).any())
    in_a_stack = rj.unroll(rj.Stack(cell, cell), made(rj.Stack(cell, cell)), XS, key=KEY)[1]
    assert bool(jnp.isfinite(in_a_stack).all())


def test_weight_drop_drops_recurrent_weights_only_and_averages_to_them():
    cell = rj.WeightDrop(rj.Elman(H, activation="identity"), 0.25)
    params = made(cell)
    prepared = jax.jit(jax.vmap(lambda k: cell.prepare(params, k, XS[0]).params))(jax.random.split(KEY, 300))
    np.testing.assert_array_equal(prepared["input"][0], params["input"])
    for drawn in prepared["recurrent"][:3]:
        ratio = np.asarray(drawn / params["recurrent"])
        assert set(np.unique(ratio.round(3))) <= {0.0, np.float32(1.333)}
    np.testing.assert_allclose(prepared["recurrent"].mean(0), params["recurrent"], atol=0.12)
    stacked = rj.WeightDrop(rj.Stack(rj.LSTM(H), rj.GRU(H)), 0.5)
    drawn = stacked.prepare(made(stacked), KEY, XS[0]).params
    assert all((drawn[layer]["recurrent"] == 0).any() for layer in ("layer_0", "layer_1"))


def test_dropout_on_input_and_output_of_a_linear_cell_averages_to_the_deterministic_path():
    cell = rj.VariationalDropout(rj.Elman(H, activation="identity"), 0.5, carry_rate=0.0)
    params = made(cell)
    plain = rj.unroll(cell, params, XS)[1]
    many = jax.jit(jax.vmap(lambda k: rj.unroll(cell, params, XS, key=k)[1]))(jax.random.split(KEY, 4000))
    error = np.asarray(many.std(0)) / np.sqrt(4000)
    assert (np.abs(many.mean(0) - plain) < 5 * error + 1e-6).all()


def test_dropout_on_the_output_averages_to_it_and_leaves_the_carry_alone():
    cell = rj.Dropout(rj.Elman(H), 0.3)
    params = made(cell)
    start = cell.initial_carry(params, XS[0])
    carry, plain = cell(params, start, XS[0])
    carries, drawn = jax.vmap(lambda k: cell(params, start, XS[0], key=k))(jax.random.split(KEY, 4000))
    error = np.asarray(drawn.std(0)) / np.sqrt(4000)
    assert (np.abs(drawn.mean(0) - plain) < 5 * error + 1e-6).all()
    np.testing.assert_allclose(carries, np.broadcast_to(carry, carries.shape), rtol=1e-6)
    assert set(np.unique(np.asarray(drawn / plain).round(3))) == {0.0, np.float32(1.429)}


def test_noise_has_its_standard_deviation_at_its_place():
    cell = rj.Noise(rj.GRU(4), 0.1)
    params, x = made(cell, jnp.ones(2)), jnp.ones((1000, 2))
    start = cell.initial_carry(params, x)
    clean, _ = cell(params, start, x)
    noisy, y = cell(params, start, x, key=KEY)
    assert 0.095 < float((noisy - clean).std()) < 0.105 and bool((noisy == y).all())
    carry, y = rj.Noise(rj.GRU(4), 0.1, at="output")(params, start, x, key=KEY)
    assert bool((carry == clean).all()) and 0.095 < float((y - clean).std()) < 0.105


@pytest.mark.parametrize(
    "cell",
    [
        rj.Dropout(rj.GRU(H), 0.5),
        rj.VariationalDropout(rj.LSTM(H), 0.5),
        rj.Zoneout(rj.GRU(H), 0.1),
        rj.WeightDrop(rj.GRU(H), 0.5),
        rj.Noise(rj.GRU(H), 0.1),
    ],
    ids=repr,
)
def test_all_masks_are_drawn_outside_the_loop(cell):
    def primitives(jaxpr, inside):
        for eqn in jaxpr.eqns:
            loop = inside or eqn.primitive.name in ("scan", "while")
            if inside:
                yield eqn.primitive.name
            if not eqn.primitive.name.startswith("threefry"):
                for sub in _jax.sub_jaxprs(eqn.params):
                    yield from primitives(sub, loop)

    jaxpr = jax.make_jaxpr(lambda p, xs, key: rj.unroll(cell, p, xs, key=key))(made(cell), XS, KEY)
    names = set(primitives(jaxpr.jaxpr, False))
    assert names and not {n for n in names if "random" in n or "threefry" in n}


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: rj.Zoneout(rj.GRU(2), 1.0), ValueError, "Zoneout: rate must be at least 0 and below 1, got 1.0"),
        (lambda: one_step(rj.Zoneout(rj.LSTM(2), (0.1,))), ValueError, r"Zoneout: rate must be one number or one for each of the 2 parts"),
        (lambda: rj.VariationalDropout(rj.GRU(2), 0.5, carry_rate=-1.0), ValueError, "carry_rate must be at least 0"),
        (lambda: rj.WeightDrop(rj.GRU(2), "half"), TypeError, "WeightDrop: rate must be a number, got 'half'"),
        (lambda: made(rj.WeightDrop(rj.TRNN(2), 0.5)), ValueError, r"TRNN\(2\) has no params named 'recurrent'.*pass names="),
        (lambda: made(rj.Residual(rj.GRU(2))), ValueError, r"Residual: GRU\(2\) must put out the shape of its input"),
        (lambda: rj.Clip(rj.GRU(2), 0.0), ValueError, "Clip: limit must be above 0, got 0.0"),
        (lambda: rj.Noise(rj.GRU(2), -0.1), ValueError, "Noise: std must be at least 0"),
        (lambda: rj.Noise(rj.GRU(2), 0.1, at="cary"), ValueError, "did you mean 'carry'"),
        (lambda: rj.Scale(rj.GRU(2), input="2"), TypeError, "Scale: input must be a number"),
        (lambda: rj.LSTM(4, projection=5), ValueError, "LSTM: projection must be at most features=4, got 5"),
        (lambda: rj.LSTM(4, projection=0), ValueError, "LSTM: projection must be at least 1"),
        (lambda: rj.Clockwork(4, periods=(1, 0)), ValueError, "Clockwork: each of periods must be at least 1, got 0"),
        (lambda: rj.Clockwork(4, periods=(1, 2, 4)), ValueError, "Clockwork: features=4 must divide into 3 modules"),
        (lambda: rj.Clockwork(4, periods=[1, 2]), TypeError, "Clockwork: periods must be a tuple"),
        (lambda: rj.FastGRNN(4, recurrent_rank=5), ValueError, "FastGRNN: recurrent_rank must be at most features=4"),
        (lambda: rj.SCRN(4, alpha=1.0), ValueError, "SCRN: alpha must be at least 0 and below 1"),
        (lambda: rj.Jordan(4, decay=1.5), ValueError, "Jordan: decay must be at least 0 and below 1"),
        (lambda: rj.JANET(4, chrono=1.0), ValueError, "JANET: chrono must be above 2 steps"),
        (lambda: rj.IndRNN(4, activation="rleu"), ValueError, "IndRNN: activation.*did you mean 'relu'"),
        (lambda: rj.RHN(4, depth=0), ValueError, "RHN: depth must be at least 1"),
        (lambda: rj.ConvLSTM(4, dims=4), ValueError, "ConvLSTM: dims must be 1, 2 or 3, got 4"),
        (lambda: rj.ConvGRU(4, kernel=(3, 3, 3)), ValueError, "ConvGRU: kernel must be an int or 2 ints"),
        (lambda: made(rj.ConvLSTM(4), jnp.ones((2, 3))), ValueError, "ConvLSTM.*at least 3 ax"),
        (lambda: one_step(rj.ConvLSTM(2, dims=1), jnp.ones((5, 3)), jnp.ones((6, 3))), ValueError, r"made for \(5,\)"),
        (lambda: one_step(rj.LSTM(4, coupled=True), carry=(XS[0],) * 2), TypeError, r"carry must be LSTMCarry\(h, c\), got tuple"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(build, error, message):
    with pytest.raises(error, match=message):
        build()


# -- activation regularisation -----------------------------------------------------------------------------------------


def test_activation_regularisation_in_numpy_and_blind_to_padding():
    ys = np.array(jax.random.normal(KEY, (T, B, H)))
    mask = np.arange(T)[:, None] < np.array([5, 2])
    junk = np.where(mask[..., None], ys, np.nan)
    ar = lambda y: rj.losses.activation_regularization(y, mask=mask)
    tar = lambda y: rj.losses.temporal_activation_regularization(y, mask=mask)
    np.testing.assert_allclose(ar(junk), (ys**2).mean(-1) * mask, rtol=1e-6)
    change = np.concatenate([np.zeros((1, B)), ((ys[1:] - ys[:-1]) ** 2).mean(-1)]) * mask
    np.testing.assert_allclose(tar(junk), change, rtol=1e-5)
    np.testing.assert_allclose(
        rj.losses.temporal_activation_regularization(ys)[1:], ((ys[1:] - ys[:-1]) ** 2).mean(-1), rtol=1e-5
    )
    for loss in (ar, tar):
        gradient = np.asarray(jax.grad(lambda y: loss(y).sum())(jnp.asarray(junk)))
        assert np.isfinite(gradient).all() and (gradient[~mask] == 0).all() and (gradient[0] != 0).any()

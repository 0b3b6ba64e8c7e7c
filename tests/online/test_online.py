"""Forward gradients against backpropagation through time, a numpy loop of single-step Jacobians, and closed forms."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from zoo import ZOO

import rnnjax as rj

T, B = 4, 2


def loss(y, target):
    return sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(y)) * target


TARGETS = jnp.array([1.0, -0.5, 2.0, 0.7])


def problem(cell, x=(3,), batch=(B,)):
    xs = jax.random.normal(jax.random.key(3), (T, *batch, *x))
    return cell.init(jax.random.key(1), xs[0]), xs


def bptt(cell, params, xs, carry=None, key=None, targets=TARGETS):
    def total(params):
        ys = rj.unroll(cell, params, xs, carry=carry, key=key)[1]
        return jnp.sum(jax.vmap(loss)(ys, targets))

    return jax.jit(jax.value_and_grad(total))(params)


def online(cell, method, params, xs, **options):
    return jax.jit(rj.online.value_and_grad(cell, loss, method))(params, xs, TARGETS, **options)


def assert_same(got, want, rtol=1e-5):
    """Leaf by leaf, to rounding of the largest number of the leaf; small leaves are differences of larger ones."""
    largest = max(float(jnp.abs(b).max(initial=0)) for b in jax.tree.leaves(want))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        own = float(jnp.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-3, own, largest / 10))


def integer_carry(entry):
    shape = jax.ShapeDtypeStruct((B, *entry.x), jnp.float32)
    params = jax.eval_shape(entry.cell.init, jax.random.key(0), shape)
    carry = jax.eval_shape(entry.cell.initial_carry, params, shape)
    return any(not jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves((carry, params)))


CHEAP = [rj.LSTM(3), rj.IndRNN(4), rj.LRU(2, state=3), rj.Readout(rj.Stack(rj.GRU(2), rj.LearnedCarry(rj.Elman(2))), 1)]


ONCE = [CHEAP[0], CHEAP[2], *(pytest.param(cell, marks=pytest.mark.slow) for cell in CHEAP[1::2])]


@pytest.mark.parametrize("cell", ONCE, ids=repr)
def test_rtrl_is_backpropagation_through_time(cell):
    params, xs = problem(cell)
    assert_same(online(cell, "rtrl", params, xs), bptt(cell, params, xs))


@pytest.mark.slow  # every third; all of them by ONLINE_ZOO=1, seven minutes
@pytest.mark.parametrize("entry", ZOO[:: int(os.environ.get("ONLINE_ZOO", "3"))], ids=lambda e: e.id)
def test_rtrl_is_backpropagation_through_time_for_the_whole_zoo(entry, key):
    params, xs = problem(entry.cell, entry.x)
    if integer_carry(entry):
        with pytest.raises(TypeError, match="needs floating point"):
            online(entry.cell, "rtrl", params, xs)
        return
    noise = key if entry.noisy else None
    got, want = online(entry.cell, "rtrl", params, xs, key=noise), bptt(entry.cell, params, xs, key=noise)
    assert_same(got, want, rtol=2e-5 * entry.tolerance)


def test_complex_params_as_jax_grad_takes_them():
    """h' = a h + b x: complex a and b, a real loss."""

    def step(params, h, x):
        h = params["a"] * h + params["b"] * x
        return h, h

    params = {"a": jnp.array([0.5 + 0.3j, -0.2j]), "b": jnp.array([1.0 - 1.0j, 0.3 + 0.0j])}
    xs = jax.random.normal(jax.random.key(0), (T, B, 1)).astype(jnp.complex64)
    carry = jnp.ones((B, 2), jnp.complex64)
    assert_same(online(step, "rtrl", params, xs, carry=carry), bptt(step, params, xs, carry=carry))


def test_step_by_step_is_the_whole(key):
    """Pieces with carry and influence handed on, through jit: the gradients of the steps sum to that of the whole."""
    cell = rj.GRU(3)
    params, xs = problem(cell)
    learner = rj.online.Learner(cell, loss)
    state, total, value = learner.init(params, xs[0]), jax.tree.map(jnp.zeros_like, params), 0.0
    size = jax.tree.map(jnp.shape, state)
    step = jax.jit(learner.step)
    for x, target in zip(xs, TARGETS):
        state, now, grads = step(params, state, x, target)
        total, value = jax.tree.map(jnp.add, total, grads), value + now
        assert jax.tree.map(jnp.shape, state) == size
    assert_same((value, total), bptt(cell, params, xs))
    assert_same(state.carry, rj.unroll(cell, params, xs)[0])


@pytest.mark.parametrize("noisy", [rj.Dropout(rj.GRU(2), 0.5), rj.VariationalDropout(rj.GRU(2), 0.5)], ids=repr)
def test_noise_is_that_of_unroll(noisy, key):
    params, xs = problem(noisy)
    assert_same(online(noisy, "rtrl", params, xs, key=key), bptt(noisy, params, xs, key=key))


def test_sequences_that_touch_each_other_are_one_system():
    """A step that takes the mean over its batch: one by one they would be something else."""

    def step(params, h, x):
        h = jnp.tanh(h @ params["u"] + x - jnp.mean(h, axis=0, keepdims=True))
        return h, h

    params, xs = {"u": jax.random.normal(jax.random.key(0), (2, 2))}, jax.random.normal(jax.random.key(1), (T, 3, 2))
    carry = jnp.ones((3, 2)) * jnp.arange(3.0)[:, None]
    assert_same(online(step, "rtrl", params, xs, carry=carry), bptt(step, params, xs, carry=carry))


@pytest.mark.slow
def test_what_passes_no_gradient_has_no_influence_and_still_joins_sequences():
    """The mean over the batch is held constant, so that in J sequences are apart while their values are not; a rule of one's own
    passes a gradient where its value passes none."""

    @jax.custom_jvp
    def rounded(h):
        return jnp.round(jax.lax.stop_gradient(h) * 4) / 4

    rounded.defjvp(lambda primals, tangents: (rounded(*primals), 0.5 * tangents[0]))

    def step(params, h, x):
        h = jnp.tanh(rounded(h) @ params["u"] + x - jax.lax.stop_gradient(jnp.mean(h, axis=0, keepdims=True)))
        return h, h

    params, xs = {"u": jax.random.normal(jax.random.key(0), (2, 2))}, jax.random.normal(jax.random.key(1), (T, 3, 2))
    carry = jnp.ones((3, 2)) * jnp.arange(3.0)[:, None]
    assert_same(online(step, "rtrl", params, xs, carry=carry), bptt(step, params, xs, carry=carry))


# -- approximations ----------------------------------------------------------------------------------------------------


def by_hand(mask_of, cell, params, xs, cut=None):
    """RTRL in numpy on dense Jacobians of single steps; mask_of(J pattern, D pattern) -> entries kept. One sequence."""
    flat, unflatten = ravel_pytree(params)
    hidden, back = ravel_pytree(cell.initial_carry(params, xs[0]))
    step = lambda w, h, x: ravel_pytree(cell(unflatten(w), back(h), x)[0])[0]
    cost = lambda w, h, x, t: loss(cell(unflatten(w), back(h), x)[1], t)
    jacobians = jax.jit(lambda w, h, x: (step(w, h, x), *jax.jacobian(step, (0, 1))(w, h, x)))
    costs = jax.jit(jax.grad(cost, (0, 1)))
    influence, total, kept = np.zeros((hidden.size, flat.size)), np.zeros(flat.size), None
    for x, target in zip(xs, TARGETS):
        new, direct, carry = jacobians(flat, hidden, x)
        by_params, by_carry = costs(flat, hidden, x, target)
        kept = mask_of(direct) if kept is None else kept
        total += np.asarray(by_params) + np.asarray(by_carry) @ influence
        influence = kept * (np.asarray(carry) @ influence + np.asarray(direct))
        hidden = new
    return unflatten(jnp.asarray(total, flat.dtype))


def test_snap1_keeps_what_one_step_writes():
    """Every param of an Elman cell writes one unit; numpy masks the dense influence with that, known from the equation."""
    cell = rj.Elman(3)
    params, xs = problem(cell, batch=())
    column = ravel_pytree(jax.tree.map(lambda a: jnp.broadcast_to(jnp.arange(3.0), a.shape), params))[0]
    mask = lambda _: np.asarray(column)[None, :] == np.arange(3)[:, None]
    assert_same(online(cell, "snap1", params, xs)[1], by_hand(mask, cell, params, xs))
    approximate, exact = online(cell, "snap1", params, xs)[1], bptt(cell, params, xs)[1]
    assert float(jnp.abs(approximate["recurrent"] - exact["recurrent"]).max()) > 1e-3  # it does leave something out


@pytest.mark.parametrize("method,steps", [("snap1", 1), ("snap2", 2)])
def test_snap_n_is_exact_for_n_steps(method, steps):
    cell = rj.LSTM(3)
    params, xs = problem(cell)
    got = jax.jit(rj.online.value_and_grad(cell, loss, method))(params, xs[:steps], TARGETS[:steps])
    assert_same(got, bptt(cell, params, xs[:steps], targets=TARGETS[:steps]))


def test_snap2_of_a_chain_keeps_two_links():
    """h_i' = w_i h_i + v h_(i-1): w_i reaches i in one step, i+1 in two, i+2 in three."""

    def chain(params, h, x):
        h = params["w"] * h + 0.7 * jnp.concatenate([x, h[:-1]]) * params["v"]
        return h, h

    params = {"w": jnp.array([0.5, -0.4, 0.3, 0.9]), "v": jnp.array([1.0, 0.5, -1.0, 0.8])}
    carry, xs = jnp.ones(4), jnp.ones((T, 1))
    learner = rj.online.Learner(chain, loss, "snap2")
    kept = sum(m.size for m in learner.init(params, xs[0], carry=carry).influence)
    assert kept == 2 * (3 * 2 + 1)  # the last unit has nobody after it
    sizes = [sum(m.size for m in rj.online.Learner(chain, loss, m).init(params, xs[0], carry=carry).influence) for m in
             ("snap1", "rtrl")]  # fmt: skip
    assert sizes == [2 * 4, 2 * (4 + 3 + 2 + 1)]
    assert_same(online(chain, "rtrl", params, xs, carry=carry), bptt(chain, params, xs, carry=carry))


def test_a_diagonal_cell_keeps_one_number_a_param_and_is_exact():
    """IndRNN: each unit sees its own past, so that M has one row a param: exact RTRL at the price of SnAp-1."""
    cell = rj.IndRNN(4)
    params, xs = problem(cell, batch=())
    influence = rj.online.Learner(cell, loss).init(params, xs[0]).influence
    assert sum(m.size for m in influence) == sum(p.size for p in jax.tree.leaves(params))


def test_uoro_has_the_gradient_as_its_mean():
    """4000 keys; per param the mean lies within 5 standard errors. A bias of 15 percent of the gradient's norm would show: the
    standard error of the part along the gradient is tested to be below 3 percent."""
    cell = rj.Elman(3)
    params, xs = problem(cell)
    keys = jax.random.split(jax.random.key(7), 4000)
    f = rj.online.value_and_grad(cell, loss, "uoro")
    draws = jax.jit(jax.vmap(lambda k: ravel_pytree(f(params, xs, TARGETS, key=k)[1])[0]))(keys)
    draws = np.asarray(draws, np.float64)
    want = np.asarray(ravel_pytree(bptt(cell, params, xs)[1])[0], np.float64)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - want) < 5 * error + 1e-5).all()
    along = draws @ want / (want @ want)
    assert along.std() / np.sqrt(len(draws)) < 0.03
    assert abs(along.mean() - 1) < 5 * along.std() / np.sqrt(len(draws))


def test_eprop_of_an_lstm_is_its_definition():
    """By hand: eps_c = f eps_c + d c / d w, e = d h / d w + o (1 - tanh(c)^2) eps_c, grads = sum dl/dh e (Bellec et al. 2020)."""
    cell = rj.LSTM(3)
    params, xs = problem(cell, batch=())
    p = {k: np.asarray(v, np.float64) for k, v in params.items()}
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    h, c, trace = np.zeros(3), np.zeros(3), {n: 0.0 for n in p}
    total = {n: np.zeros_like(v) for n, v in p.items()}
    for x, target in zip(np.asarray(xs, np.float64), np.asarray(TARGETS)):
        before = {"input": x[:, None], "recurrent": h[:, None], "bias": np.ones((1, 1))}
        i, f, g, o = np.split(x @ p["input"] + h @ p["recurrent"] + p["bias"], 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        slopes = np.concatenate([g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), np.zeros(3)])
        c = f * c + i * g
        h = o * np.tanh(c)
        signal = 2 * target * h
        for n in p:
            trace[n] = np.tile(f, 4) * trace[n] + before[n] * slopes
            e = np.tile(o * (1 - np.tanh(c) ** 2), 4) * trace[n]
            e = e + before[n] * np.concatenate([np.zeros(9), np.tanh(c) * o * (1 - o)])
            total[n] += (np.tile(signal, 4) * e).reshape(total[n].shape)
    assert_same(online(cell, "eprop", params, xs)[1], total)
    kept = rj.online.Learner(cell, loss, "eprop").init(params, xs[0]).influence
    size = sum(p.size for p in jax.tree.leaves(params))
    assert (
        sum(m.size for m in kept) == 2 * size - size // 4
    )  # of a param one number in its unit's h and c; the output gate's: in h


def test_eprop_of_a_gru_with_a_readout_is_its_definition():
    """h' = (1 - z) n + z h: a unit keeps z of itself; the readout's product is no message between units and is not cut."""

    def step(params, h, x):
        z, n = jnp.split(h @ params["u"] + x, 2, axis=-1)
        z, n = jax.nn.sigmoid(z), jnp.tanh(n)
        h = (1 - z) * n + z * h
        return h, h @ params["out"]

    u, out = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(2, 4), (2, 3)]))
    xs, carry = jax.random.normal(jax.random.key(3), (T, 4)), jnp.array([0.3, -0.5])
    _, got = online(step, "eprop", {"u": u, "out": out}, xs, carry=carry)
    h, u, out = (np.asarray(a, np.float64) for a in (carry, u, out))
    trace, total, readout = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 3))
    for x, target in zip(np.asarray(xs, np.float64), np.asarray(TARGETS)):
        z, n = np.split(h @ u + x, 2)
        z, n = 1 / (1 + np.exp(-z)), np.tanh(n)
        slopes = np.concatenate([(h - n) * z * (1 - z), (1 - z) * (1 - n**2)])
        trace = np.tile(z, 2) * trace + h[:, None] * slopes
        h = (1 - z) * n + z * h
        signal = 2 * target * (h @ out)
        total += np.tile(out @ signal, 2) * trace
        readout += np.outer(h, signal)
    assert_same(got, {"u": total, "out": readout})


# -- memory, reports, streams, mistakes --------------------------------------------------------------------------------


def test_memory_does_not_grow_with_time():
    """The compiled program's own arrays at T = 16 and T = 1024: backpropagation's grow, these do not."""
    cell = rj.GRU(3)
    params, xs = problem(cell)

    def bytes_of(f, time):
        xs = jax.ShapeDtypeStruct((time, B, 3), jnp.float32)
        return jax.jit(f).lower(params, xs, jax.ShapeDtypeStruct((time,), jnp.float32)).compile().memory_analysis()

    def back(params, xs, targets):
        return jax.grad(lambda p: jnp.sum(jax.vmap(loss)(rj.unroll(cell, p, xs)[1], targets)))(params)

    f = rj.online.value_and_grad(cell, loss)
    short, long = (bytes_of(f, time).temp_size_in_bytes for time in (16, 1024))
    assert long <= short + 256
    assert bytes_of(back, 1024).temp_size_in_bytes > 4 * long


def test_compare_reports_the_angle(key):
    """Cosine and signs as numpy has them from the two gradients."""
    cell = rj.Elman(3)
    params, xs = problem(cell)
    bare = lambda params, carry, x: cell(params, carry, x)  # takes no key; the signs of UORO do
    report = rj.online.compare(
        bare, loss, params, xs, TARGETS, ["rtrl", "snap1", "uoro"], carry=jnp.zeros((B, 3)), key=key
    )
    assert -1 <= report["uoro"].cosine < 0.99
    assert report["rtrl"].cosine == pytest.approx(1, abs=1e-6) and report["rtrl"].seconds > 0
    a, b = (
        np.asarray(ravel_pytree(g)[0], np.float64)
        for g in (online(cell, "snap1", params, xs)[1], bptt(cell, params, xs)[1])
    )
    assert report["snap1"].cosine == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-6)
    assert report["snap1"].sign_agreement == pytest.approx(np.mean(np.sign(a) == np.sign(b)))


def test_fit_follows_a_stream():
    """y = k x with k to be found, by plain gradient steps: k_t = k_(t-1) - rate 2 x^2 (k - 3), closed form."""
    import optax

    scale = lambda params, carry, x: (carry, params["k"] * x)
    stream = ((jnp.ones(1), 3 * jnp.ones(1)) for _ in iter(int, 1))  # never ends
    run = rj.online.fit(
        scale,
        lambda y, t: jnp.sum((y - t) ** 2),
        {"k": jnp.zeros(())},
        stream,
        optimizer=optax.sgd(0.1),
        carry=jnp.zeros(1),
    )
    ks = [float(next(run).params["k"]) for _ in range(10)]
    np.testing.assert_allclose(ks, 3 * (1 - 0.8 ** np.arange(1, 11)), rtol=1e-5)


def test_mistakes_are_named(key):
    cell = rj.Elman(2)
    params, xs = problem(cell)
    with pytest.raises(ValueError, match="online: method must be one of .*'rtrl'.*got 'bptt'"):
        rj.online.value_and_grad(cell, loss, "bptt")
    with pytest.raises(TypeError, match=r"must give a real scalar for one step, got float32\[2, 2\]"):
        rj.online.value_and_grad(cell, lambda y, t: y * t)(params, xs, TARGETS)
    with pytest.raises(ValueError, match="method='uoro' draws random signs; pass key="):
        rj.online.value_and_grad(cell, loss, "uoro")(params, xs, TARGETS)
    counting = lambda params, carry, x: ((carry[0] + x, carry[1] + 1), x)
    with pytest.raises(TypeError, match=r"needs floating point carry, got int32 at carry\[1\]"):
        online(counting, "rtrl", {}, xs, carry=(jnp.zeros((B, 3)), jnp.int32(0)))
    with pytest.raises(TypeError, match=r"needs floating point params, got int32 at params\['n'\]"):
        online(lambda p, c, x: (c, x), "rtrl", {"n": jnp.int32(0)}, xs, carry=jnp.zeros((B, 3)))
    with pytest.raises(ValueError, match="must agree on a number of steps"):
        rj.online.value_and_grad(cell, loss)(params, xs, TARGETS[:2])
    with pytest.raises(ValueError, match="a bare function has no initial carry"):
        online(functools.partial(cell), "rtrl", params, xs)
    with pytest.raises(ValueError, match="methods must be a list of names"):
        rj.online.compare(cell, loss, params, xs, TARGETS, "rtrl")

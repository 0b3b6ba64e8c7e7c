"""Each cell against the equations of its paper, transcribed in numpy; and its number of parameters."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from cells.oracle import blocks, check, normalised, random_params, relu, run, sigmoid

import rnnjax as rj

I, H = 3, 4
tanh = np.tanh


def elman_residual(p, h, x):
    h = h + tanh(x @ p["input"] + h @ p["recurrent"] + p["bias"])
    return h, h


def jordan(p, s, x):
    h = tanh(x @ p["input"] + s @ p["recurrent"] + p["bias"])
    y = sigmoid(h @ p["output"] + p["output_bias"])
    return 0.5 * s + y, y


def indrnn(p, h, x):
    h = relu(x @ p["input"] + p["recurrent"] * h + p["bias"])
    return h, h


def scrn(p, h, s, x):
    s = (1 - 0.95) * (x @ p["context_input"]) + 0.95 * s
    h = sigmoid(s @ p["context"] + x @ p["input"] + h @ p["recurrent"])
    return (h, s), h @ p["output"] + s @ p["context_output"]


def fastrnn(p, h, x):
    alpha, beta = sigmoid(p["alpha"]), sigmoid(p["beta"])
    h = alpha * tanh(x @ p["input"] + h @ p["recurrent"] + p["bias"]) + beta * h
    return h, h


def fastgrnn(p, h, x):
    b_z, b_h = blocks(p["bias"], 2)
    w, u = p["input"], p["recurrent"] @ p["recurrent_out"]
    z = sigmoid(x @ w + h @ u + b_z)
    h_tilde = tanh(x @ w + h @ u + b_h)
    h = (sigmoid(p["zeta"]) * (1 - z) + sigmoid(p["nu"])) * h_tilde + z * h
    return h, h


def janet(p, h, x):
    (w_f, w_c), (u_f, u_c), (b_f, b_c) = blocks(p["input"], 2), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
    s = x @ w_f + h @ u_f + b_f
    c_tilde = tanh(x @ w_c + h @ u_c + b_c)
    h = sigmoid(s) * h + (1 - sigmoid(s - 1)) * c_tilde
    return h, h


def multiplicative_lstm(p, h, c, x):
    w_m, w_h, w_i, w_o, w_f = blocks(p["input"], 5)
    (u_h, u_i, u_o, u_f), (b_h, b_i, b_o, b_f) = blocks(p["latent"], 4), blocks(p["bias"], 4)
    m = (x @ w_m) * (h @ p["recurrent"])
    h_hat = x @ w_h + m @ u_h + b_h
    i, o, f = sigmoid(x @ w_i + m @ u_i + b_i), sigmoid(x @ w_o + m @ u_o + b_o), sigmoid(x @ w_f + m @ u_f + b_f)
    c = f * c + i * h_hat
    h = tanh(c * o)
    return (h, c), h


def nas(p, h, c, x):
    a, b = blocks(x @ p["input"], 8), blocks(h @ p["recurrent"] + p["recurrent_bias"], 8)
    level = [sigmoid, relu, sigmoid, relu, tanh, sigmoid, tanh, sigmoid]
    l = [act(u * v if k == 3 else u + v) for k, (act, u, v) in enumerate(zip(level, a, b))]
    one, two, three, four = tanh(l[0] * l[1]), tanh(l[2] + l[3]), tanh(l[4] * l[5]), sigmoid(l[6] + l[7])
    c = tanh(one + c) * two
    h = tanh(c * tanh(three + four))
    return (h, c), h


def rhn(gates):
    def step(p, h, x):
        s = h
        for l in range(2):
            w, r, b = blocks(p["input"], gates), blocks(p["recurrent"][l], gates), blocks(p["bias"][l], gates)
            pre = [s @ r_k + b_k + (x @ w_k if l == 0 else 0) for w_k, r_k, b_k in zip(w, r, b)]
            g, t = tanh(pre[0]), sigmoid(pre[1])
            s = g * t + s * (1 - t if gates == 2 else sigmoid(pre[2]))
        return s, s

    return step


def mgu(p, h, x):
    (w_f, w_h), (u_f, u_h), (b_f, b_h) = blocks(p["input"], 2), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
    f = sigmoid(x @ w_f + h @ u_f + b_f)
    h_tilde = tanh(x @ w_h + (f * h) @ u_h + b_h)
    h = (1 - f) * h + f * h_tilde
    return h, h


def ugrnn(p, h, x):
    (w_c, w_g), (u_c, u_g), (b_c, b_g) = blocks(p["input"], 2), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
    c, g = relu(x @ w_c + h @ u_c + b_c), sigmoid(x @ w_g + h @ u_g + b_g)
    h = g * h + (1 - g) * c
    return h, h


def ligru(norm):
    def step(p, h, x):
        (w_z, w_c), (u_z, u_c), (b_z, b_c) = blocks(p["input"], 2), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
        if norm:
            g_z, g_c = blocks(p["norm_input"], 2)
            xz, xc = g_z * normalised(x @ w_z), g_c * normalised(x @ w_c)
        else:
            xz, xc = x @ w_z, x @ w_c
        z, c = sigmoid(xz + h @ u_z + b_z), relu(xc + h @ u_c + b_c)
        h = z * h + (1 - z) * c
        return h, h

    return step


def lightru(p, h, x):
    w_h, w_f = blocks(p["input"], 2)
    f = sigmoid(x @ w_f + h @ p["recurrent"] + p["bias"])
    h = (1 - f) * h + f * tanh(x @ w_h)
    return h, h


def minimal_rnn(p, h, x):
    z = tanh(x @ p["input"] + p["input_bias"])
    u = sigmoid(h @ p["recurrent"] + z @ p["latent"] + p["bias"])
    h = u * h + (1 - u) * z
    return h, h


def mut1(p, h, x):
    (w_z, w_r, w_h), (u_r, u_h), (b_z, b_r, b_h) = (
        blocks(p["input"], 3),
        blocks(p["recurrent"], 2),
        blocks(p["bias"], 3),
    )
    z, r = sigmoid(x @ w_z + b_z), sigmoid(x @ w_r + h @ u_r + b_r)
    h = tanh((r * h) @ u_h + tanh(x @ w_h) + b_h) * z + h * (1 - z)
    return h, h


def mut23(squash):
    def step(p, h, x):
        w_z, w_r, w_h = blocks(p["input"], 3)
        (u_z, u_r, u_h), (b_z, b_r, b_h) = blocks(p["recurrent"], 3), blocks(p["bias"], 3)
        z, r = sigmoid(x @ w_z + squash(h) @ u_z + b_z), sigmoid(x @ w_r + h @ u_r + b_r)
        h = tanh((r * h) @ u_h + x @ w_h + b_h) * z + h * (1 - z)
        return h, h

    return step


def brc(p, h, x):
    (u_a, u_c, u_h), (w_a, w_c) = blocks(p["input"], 3), p["recurrent"]
    a, c = 1 + tanh(x @ u_a + w_a * h), sigmoid(x @ u_c + w_c * h)
    h = c * h + (1 - c) * tanh(x @ u_h + a * h)
    return h, h


def nbrc(p, h, x):
    (u_a, u_c, u_h), (w_a, w_c), (b_a, b_c, b_h) = (
        blocks(p["input"], 3),
        blocks(p["recurrent"], 2),
        blocks(p["bias"], 3),
    )
    a, c = 1 + tanh(x @ u_a + h @ w_a + b_a), sigmoid(x @ u_c + h @ w_c + b_c)
    h = c * h + (1 - c) * tanh(x @ u_h + b_h + a * h)
    return h, h


def ran(g):
    def step(p, h, c, x):
        (w_c, w_i, w_f), (u_i, u_f), (b_i, b_f) = blocks(p["input"], 3), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
        i, f = sigmoid(x @ w_i + h @ u_i + b_i), sigmoid(x @ w_f + h @ u_f + b_f)
        c = i * (x @ w_c) + f * c
        return (g(c), c), g(c)

    return step


def cfn(p, h, x):
    (v_t, v_e, w), (u_t, u_e), (b_t, b_e) = blocks(p["input"], 3), blocks(p["recurrent"], 2), blocks(p["bias"], 2)
    theta, eta = sigmoid(h @ u_t + x @ v_t + b_t), sigmoid(h @ u_e + x @ v_e + b_e)
    h = theta * tanh(h) + eta * tanh(x @ w)
    return h, h


def atr(p, h, x):
    a, b = x @ p["input"], h @ p["recurrent"]
    h = sigmoid(a + b) * a + sigmoid(a - b) * h
    return h, h


def star(p, h, x):
    (w_k, w_z), (b_k, b_z) = blocks(p["input"], 2), blocks(p["bias"], 2)
    k, z = sigmoid(x @ w_k + h @ p["recurrent"] + b_k), tanh(x @ w_z + b_z)
    h = tanh((1 - k) * h + k * z)
    return h, h


def trnn(p, h, x):
    w, v = blocks(p["input"], 2)
    f = sigmoid(x @ v + p["bias"])
    h = f * h + (1 - f) * (x @ w)
    return h, h


def tgru(p, h, before, x):
    (w_z, w_f, w_o), (v_z, v_f, v_o), (b_z, b_f, b_o) = (
        blocks(p["input"], 3),
        blocks(p["previous"], 3),
        blocks(p["bias"], 3),
    )
    z = before @ v_z + x @ w_z + b_z
    f, o = sigmoid(before @ v_f + x @ w_f + b_f), tanh(before @ v_o + x @ w_o + b_o)
    h = f * h + z * o
    return (h, x), h


def tlstm(p, c, before, x):
    (w_z, w_f, w_o), (v_z, v_f, v_o), (b_z, b_f, b_o) = (
        blocks(p["input"], 3),
        blocks(p["previous"], 3),
        blocks(p["bias"], 3),
    )
    z = before @ v_z + x @ w_z + b_z
    f, o = sigmoid(before @ v_f + x @ w_f + b_f), tanh(before @ v_o + x @ w_o + b_o)
    c = f * c + (1 - f) * z
    return (c, x), c * o


def lstm_variant(peephole, coupled, projection, norm):
    """Gers' peepholes, Greff's coupling, Sak's projection and Ba's normalisation, all in one loop."""

    def step(p, h, c, x):
        zx, zh = x @ p["input"], h @ p["recurrent"]
        if norm:
            zx, zh = p["norm_input"] * normalised(zx), p["norm_recurrent"] * normalised(zh)
        gates = blocks(zx + zh + p["bias"], 3 if coupled else 4)
        f, g, o = gates[-3:]
        peeps = list(p["peephole"]) if peephole else [0.0] * 3
        f = sigmoid(f + peeps[-2] * c)
        i = 1 - f if coupled else sigmoid(gates[0] + peeps[0] * c)
        c = i * tanh(g) + f * c
        seen = p["norm_cell"] * normalised(c) + p["norm_cell_bias"] if norm else c
        h = sigmoid(o + peeps[-1] * c) * tanh(seen)
        h = h @ p["projection"] if projection else h
        return (h, c), h

    return step


def gru_layer_norm(reset_after):
    def step(p, h, x):
        norm = lambda z, gain: gain * normalised(z)
        w, u, gx, gh, b = p["input"], p["recurrent"], p["norm_input"], p["norm_recurrent"], p["bias"]
        rz = norm((x @ w)[:, : 2 * H], gx[: 2 * H]) + norm((h @ u)[:, : 2 * H], gh[: 2 * H]) + b[: 2 * H]
        r, z = blocks(sigmoid(rz), 2)
        xn = norm((x @ w)[:, 2 * H :], gx[2 * H :]) + b[2 * H :]
        if reset_after:
            n = tanh(xn + r * (norm((h @ u)[:, 2 * H :], gh[2 * H :]) + p["recurrent_bias"]))
        else:
            n = tanh(xn + norm((r * h) @ u[:, 2 * H :], gh[2 * H :]))
        h = (1 - z) * n + z * h
        return h, h

    return step


one, two = ((H,),), ((H,), (H,))
IH, HH = I * H, H * H
PAPERS = [  # cell, equations, parts of the carry, number of params
    (rj.Elman(H, residual=True), elman_residual, one, IH + HH + H),
    (rj.Jordan(H, outputs=2, decay=0.5), jordan, ((2,),), IH + 2 * H + H + 2 * H + 2),
    (rj.IndRNN(H), indrnn, one, IH + 2 * H),
    (rj.SCRN(H, context=2), scrn, ((H,), (2,)), IH + HH + 2 * I + 2 * H + HH + 2 * H),
    (rj.FastRNN(H), fastrnn, one, IH + HH + H + 2),
    (rj.FastGRNN(H, recurrent_rank=2), fastgrnn, one, IH + 2 * 2 * H + 2 * H + 2),
    (rj.JANET(H), janet, one, 2 * (IH + HH + H)),
    (rj.MultiplicativeLSTM(H), multiplicative_lstm, two, 5 * IH + 5 * HH + 4 * H),
    (rj.NAS(H, use_bias=True), nas, two, 8 * (IH + HH + H)),
    (rj.RHN(H, depth=2), rhn(2), one, 2 * IH + 2 * 2 * (HH + H)),
    (rj.RHN(H, depth=2, coupled=False), rhn(3), one, 3 * IH + 2 * 3 * (HH + H)),
    (rj.MGU(H), mgu, one, 2 * (IH + HH + H)),
    (rj.UGRNN(H, activation="relu"), ugrnn, one, 2 * (IH + HH + H)),
    (rj.LiGRU(H), ligru(False), one, 2 * (IH + HH + H)),
    (rj.LiGRU(H, layer_norm=True), ligru(True), one, 2 * (IH + HH + 2 * H)),
    (rj.LightRU(H), lightru, one, 2 * IH + HH + H),
    (rj.MinimalRNN(H), minimal_rnn, one, IH + 2 * HH + 2 * H),
    (rj.MUT1(H), mut1, one, 3 * IH + 2 * HH + 3 * H),
    (rj.MUT2(H), mut23(lambda h: h), one, 3 * (IH + HH + H)),
    (rj.MUT3(H), mut23(tanh), one, 3 * (IH + HH + H)),
    (rj.BRC(H), brc, one, 3 * IH + 2 * H),
    (rj.NBRC(H, use_bias=True), nbrc, one, 3 * IH + 2 * HH + 3 * H),
    (rj.RAN(H), ran(tanh), two, 3 * IH + 2 * HH + 2 * H),
    (rj.RAN(H, activation="identity"), ran(lambda c: c), two, 3 * IH + 2 * HH + 2 * H),
    (rj.CFN(H), cfn, one, 3 * IH + 2 * HH + 2 * H),
    (rj.ATR(H), atr, one, IH + HH),
    (rj.STAR(H), star, one, 2 * IH + HH + 2 * H),
    (rj.TRNN(H), trnn, one, 2 * IH + H),
    (rj.TGRU(H), tgru, ((H,), (I,)), 6 * IH + 3 * H),
    (rj.TLSTM(H), tlstm, ((H,), (I,)), 6 * IH + 3 * H),
    (rj.LSTM(H, peephole=True), lstm_variant(True, False, False, False), two, 4 * (IH + HH + H) + 3 * H),
    (rj.LSTM(H, coupled=True), lstm_variant(False, True, False, False), two, 3 * (IH + HH + H)),
    (rj.LSTM(H, layer_norm=True), lstm_variant(False, False, False, True), two, 4 * (IH + HH + 3 * H) + 2 * H),
    (
        rj.LSTM(H, peephole=True, coupled=True, projection=2, layer_norm=True),
        lstm_variant(True, True, True, True),
        ((2,), (H,)),
        3 * (IH + 2 * H + 3 * H) + 2 * H + 2 * H + 2 * H,
    ),
    (rj.GRU(H, layer_norm=True), gru_layer_norm(True), one, 3 * (IH + HH + 3 * H) + H),
    (rj.GRU(H, layer_norm=True, reset_after=False), gru_layer_norm(False), one, 3 * (IH + HH + 3 * H)),
]


@pytest.mark.parametrize("cell, equations, parts, count", PAPERS, ids=lambda v: repr(v) if hasattr(v, "init") else "")
def test_the_cell_is_its_papers_equations(cell, equations, parts, count):
    check(cell, equations, parts, (I,), count)


def clockwork(p, h, t, x):
    """Module by module, as the paper describes it: only modules whose period divides t act, reading those at least as slow."""
    periods, size, new = (1, 3), 2, h.copy()
    for i, period in enumerate(periods):
        mine = slice(i * size, (i + 1) * size)
        if t[0] % period == 0:
            z = x @ p["input"][:, mine] + p["bias"][mine]
            for j, other in enumerate(periods):
                if other >= period:
                    z = z + h[:, j * size : (j + 1) * size] @ p["recurrent"][j * size : (j + 1) * size, mine]
            new[:, mine] = tanh(z)
    return (new, t + 1), new


def test_clockwork_modules_tick_at_their_periods():

    cell = rj.Clockwork(H, periods=(1, 3))
    with jax.enable_x64(True):
        params, rng = random_params(cell, (I,)), np.random.default_rng(1)
        xs = rng.normal(size=(7, 2, I))
        (h, t), ys = run(cell, params, xs)
        carry, want = (np.zeros((2, H)), np.zeros(2, int)), []
        for x in xs:
            carry, y = clockwork(params, *carry, x)
            want.append(y)
    np.testing.assert_allclose(ys, want, rtol=1e-10)
    assert (t == 7 % 3).all() and (ys[1, :, 2:] == ys[0, :, 2:]).all() and (ys[3, :, 2:] != ys[2, :, 2:]).all()


# -- special cases in closed form --------------------------------------------------------------------------------------


def test_the_mutants_are_the_papers_where_the_input_is_as_wide_as_the_state():
    def paper_mut2(p, h, x):  # r = sigmoid(x + W_hr h + b_r)
        (w_z, _, w_h), (u_z, u_r, u_h) = blocks(p["input"], 3), blocks(p["recurrent"], 3)
        b_z, b_r, b_h = blocks(p["bias"], 3)
        z, r = sigmoid(x @ w_z + h @ u_z + b_z), sigmoid(x + h @ u_r + b_r)
        h = tanh((r * h) @ u_h + x @ w_h + b_h) * z + h * (1 - z)
        return h, h

    with jax.enable_x64(True):
        p, xs = random_params(rj.MUT2(H), (H,)), np.random.default_rng(1).normal(size=(6, H))
        start = rj.MUT2(H).init(jax.random.key(0), xs[0])["input"][:, H : 2 * H]
        np.testing.assert_array_equal(start, np.eye(H))
        p["input"][:, H : 2 * H] = np.eye(H)
        h, ys = np.zeros(H), []
        for x in xs:
            h, y = paper_mut2(p, h, x)
            ys.append(y)
        np.testing.assert_allclose(run(rj.MUT2(H), p, xs)[1], ys, rtol=1e-10)


def test_without_input_the_chaos_free_network_decays():
    cell = rj.CFN(8)
    params = cell.init(jax.random.key(0), np.zeros(3, np.float32))
    _, ys = rj.unroll(cell, params, np.zeros((200, 3), np.float32), carry=3 * np.ones(8, np.float32))
    size = np.abs(ys).max(-1)
    assert (np.diff(size) <= 0).all() and size[-1] < 1e-3


def test_a_bistable_unit_remembers_the_sign_of_its_last_push():
    """With a = 2 and c = 1/2, ``h = h / 2 + tanh(2 h) / 2`` has two stable points, the roots of ``h = tanh(2 h)``."""
    params = {"input": np.array([[0.0, 0.0, 1.0]]), "recurrent": np.zeros((2, 1)), "bias": np.array([20.0, 0.0, 0.0])}
    xs = np.zeros((200, 2, 1))
    xs[0] = [[2.0], [-2.0]]
    with jax.enable_x64(True):
        h, _ = rj.unroll(rj.BRC(1, use_bias=True), params, xs)
    np.testing.assert_allclose(np.asarray(h)[:, 0], [0.9575040240772687, -0.9575040240772687], rtol=1e-9)


def test_an_independent_linear_unit_is_a_geometric_series():
    params = {"input": np.eye(2), "recurrent": np.array([0.5, 0.9]), "bias": np.zeros(2)}
    with jax.enable_x64(True):
        h, _ = rj.unroll(rj.IndRNN(2, activation="identity"), params, np.ones((30, 2)))
    np.testing.assert_allclose(h, [(1 - u**30) / (1 - u) for u in (0.5, 0.9)], rtol=1e-12)


def test_a_strongly_typed_cell_with_a_fixed_gate_is_an_exponential_average():
    params = {"input": np.array([[1.0, 0.0]]), "bias": np.array([np.log(9.0)])}  # f = 0.9
    with jax.enable_x64(True):
        h, _ = rj.unroll(rj.TRNN(1), params, np.ones((30, 1)))
    np.testing.assert_allclose(h, [1 - 0.9**30], rtol=1e-12)


def test_the_start_is_as_documented():
    """Recurrent blocks orthogonal, inputs of variance one over I, and the biases that the docstrings promise."""
    init = lambda cell, x=np.zeros(64, np.float32): jax.device_get(cell.init(jax.random.key(0), x))
    for cell in (rj.LSTM(16), rj.GRU(16), rj.MGU(16), rj.STAR(16), rj.NAS(16)):
        p = init(cell)
        for block in blocks(p["recurrent"], p["recurrent"].shape[-1] // 16):
            np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-5)
        assert abs(p["input"].std() * 8 - 1) < 0.15
    np.testing.assert_array_equal(init(rj.LSTM(4))["bias"], np.repeat([0, 1, 0, 0], 4))
    np.testing.assert_array_equal(init(rj.LSTM(4, coupled=True, forget_bias=2.0))["bias"], np.repeat([2, 0, 0], 4))
    i, f, g, o = blocks(init(rj.LSTM(100, chrono=100.0))["bias"], 4)
    np.testing.assert_array_equal(i, -f)
    assert (f >= 0).all() and f.max() <= np.log(99) and abs(np.exp(f).mean() - 50) < 12 and not g.any() and not o.any()
    r, z, n = blocks(
        init(rj.GRU(100, chrono=100.0))["bias"], 3
    )  # z keeps the old state, so its bias is the positive one
    assert (z >= 0).all() and z.max() <= np.log(99) and abs(np.exp(z).mean() - 50) < 12 and not r.any() and not n.any()
    np.testing.assert_array_equal(init(rj.CFN(4))["bias"], np.repeat([1, -1], 4))
    np.testing.assert_array_equal(init(rj.UGRNN(4))["bias"], np.repeat([0, 1], 4))
    np.testing.assert_array_equal(init(rj.ConvLSTM(2, dims=1), np.zeros((5, 3), np.float32))["peephole"], 0)
    assert (init(rj.RHN(4, depth=3))["bias"] == np.tile(np.repeat([0, -2], 4), (3, 1))).all()
    u = init(rj.IndRNN(400, max_time=10))["recurrent"]
    assert u.min() >= 0 and 2**0.1 - 0.01 < u.max() <= 2**0.1
    fast = init(rj.FastGRNN(4))
    assert (fast["zeta"], fast["nu"], *fast["bias"]) == (1, -4, *[1] * 8)

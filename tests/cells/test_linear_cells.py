"""Cells linear in time against their papers' equations, written here as plain float64 numpy loops; and closed forms."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import rnnjax as rj

T, I, H = 6, 3, 4
XS = np.random.default_rng(0).normal(size=(T, I))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiling is what costs


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softplus(z: Any) -> Any:
    return np.log1p(np.exp(z))


def run(cell: Any, xs: Any = XS, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Random float64 params, and the outputs, which scan and associative agree on."""
    with jax.enable_x64(True):
        xs = jnp.asarray(xs)
        params = cell.init(jax.random.key(seed), xs[0])
        rng = np.random.default_rng(seed)
        params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), params)
        step, parallel = jax.device_get(
            quick(lambda p, xs: [rj.unroll(cell, p, xs, method=m) for m in ("scan", "associative")])(params, xs)
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), step, parallel)
    return jax.device_get(params), step[1]


def close(ys: np.ndarray, wanted: Any) -> None:
    np.testing.assert_allclose(ys, np.stack(wanted), rtol=1e-8, atol=1e-9)


def size(params: Any) -> int:
    return sum(np.size(a) for a in jax.tree.leaves(params))


def blocks(a: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(a, count, axis=-1)


# -- gates that see the input only -------------------------------------------------------------------------------------


@pytest.mark.parametrize("positive", [False, True])
def test_mingru(positive: bool) -> None:
    p, ys = run(rj.MinGRU(H, positive=positive))
    (w_z, w_n), (b_z, b_n), h, wanted = blocks(p["input"], 2), blocks(p["bias"], 2), np.zeros(H), []
    for x in XS:
        z, n = sigmoid(x @ w_z + b_z), x @ w_n + b_n
        n = np.where(n >= 0, n + 0.5, sigmoid(n)) if positive else n
        h = (1 - z) * h + z * n
        wanted.append(h)
    close(ys, wanted)
    assert size(p) == 2 * H * (I + 1)


@pytest.mark.parametrize("normalize", [True, False])
def test_minlstm(normalize: bool) -> None:
    p, ys = run(rj.MinLSTM(H, normalize=normalize))
    (w_f, w_i, w_n), (b_f, b_i, b_n), h, wanted = blocks(p["input"], 3), blocks(p["bias"], 3), np.zeros(H), []
    for x in XS:
        f, i = sigmoid(x @ w_f + b_f), sigmoid(x @ w_i + b_i)
        f, i = (f / (f + i), i / (f + i)) if normalize else (f, i)
        h = f * h + i * (x @ w_n + b_n)
        wanted.append(h)
    close(ys, wanted)
    assert size(p) == 3 * H * (I + 1)


def test_mingru_with_fixed_gates_is_an_exponential_average() -> None:
    cell, z = rj.MinGRU(1), 0.3
    params = {"input": jnp.array([[0.0, 1.0]]), "bias": jnp.array([np.log(z / (1 - z)), 0.0])}
    xs = np.random.default_rng(1).normal(size=(20, 1))
    _, ys = rj.unroll(cell, params, jnp.asarray(xs, jnp.float32), method="associative")
    wanted = [sum(z * (1 - z) ** (t - s) * xs[s] for s in range(t + 1)) for t in range(20)]
    np.testing.assert_allclose(ys, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("features", [I, H])
def test_rglru(features: int) -> None:
    p, ys = run(rj.RGLRU(features))
    (w_r, w_i), (b_r, b_i), h, wanted = blocks(p["gates"], 2), blocks(p["bias"], 2), np.zeros(features), []
    base = sigmoid(-p["decay"])  # the paper's a = sigmoid(Lambda')
    for x in XS:
        r, i = sigmoid(x @ w_r + b_r), sigmoid(x @ w_i + b_i)
        a = base ** (8 * r)
        h = a * h + np.sqrt(1 - a**2) * i * (x if features == I else x @ p["input"])
        wanted.append(h)
    close(ys, wanted)
    start = rj.RGLRU(500).init(jax.random.key(0), jnp.ones(3))["decay"]
    a = sigmoid(-np.asarray(start, np.float64)) ** 8
    assert 0.9 <= a.min() < 0.91 and 0.99 < a.max() <= 0.9991


@pytest.mark.parametrize("features", [I, H])
def test_sru(features: int) -> None:
    p, ys = run(rj.SRU(features, activation="tanh"))
    w, b, c, wanted = blocks(p["input"], 3 + (features != I)), blocks(p["bias"], 2), np.zeros(features), []
    for x in XS:
        f, r = sigmoid(x @ w[1] + b[0]), sigmoid(x @ w[2] + b[1])
        c = f * c + (1 - f) * (x @ w[0])
        wanted.append(r * np.tanh(c) + (1 - r) * (x if features == I else x @ w[3]))
    close(ys, wanted)


def test_sru_with_peephole_sees_its_state_and_is_not_linear() -> None:
    cell = rj.SRU(I, peephole=True)
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
        ys = quick(lambda p, xs: rj.unroll(cell, p, xs)[1])(params, jnp.asarray(XS))
    p = jax.device_get(params)
    w, (b_f, b_r), (v_f, v_r), c, wanted = (
        blocks(p["input"], 3),
        blocks(p["bias"], 2),
        blocks(p["peephole"], 2),
        np.zeros(I),
        [],
    )
    for x in XS:
        f, r = sigmoid(x @ w[1] + v_f * c + b_f), sigmoid(x @ w[2] + v_r * c + b_r)
        c = f * c + (1 - f) * (x @ w[0])
        wanted.append(r * c + (1 - r) * x)
    close(ys, wanted)
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match="SRU.*peephole.*linear in time, SRU.*is not; rj.cells.catalogue"),
    ):
        rj.unroll(cell, params, jnp.asarray(XS), method="associative")


@pytest.mark.parametrize(("pooling", "window"), [("f", 1), ("fo", 3), ("ifo", 2)])
def test_qrnn(pooling: str, window: int) -> None:
    p, ys = run(rj.QRNN(H, window=window, pooling=pooling))
    padded = np.concatenate([np.zeros((window - 1, I)), XS])
    c, wanted = np.zeros(H), []
    for t in range(T):
        gates = sum(padded[t + window - 1 - j] @ p["input"][j] for j in range(window)) + p["bias"]
        z, f, *rest = blocks(gates, {"f": 2, "fo": 3, "ifo": 4}[pooling])
        z, f = np.tanh(z), sigmoid(f)
        c = f * c + (sigmoid(rest[1]) if pooling == "ifo" else 1 - f) * z
        wanted.append(c if pooling == "f" else sigmoid(rest[0]) * c)
    close(ys, wanted)


# -- state spaces ------------------------------------------------------------------------------------------------------


def part(p: Any, name: str) -> np.ndarray:
    return p[f"{name}_real"] + 1j * p[f"{name}_imag"]


def test_lru_and_its_closed_form_by_powers() -> None:
    p, ys = run(rj.LRU(H, state=5))
    lam = np.exp(-np.exp(p["log_decay"]) + 1j * np.exp(p["log_angle"]))
    b = np.exp(p["log_gamma"]) * part(p, "input")
    states = [sum(lam ** (t - s) * (XS[s] @ b) for s in range(t + 1)) for t in range(T)]
    close(ys, [(h @ part(p, "output")).real + x @ p["skip"] for h, x in zip(states, XS)])
    start = rj.LRU(400, r_min=0.5, r_max=0.8).init(jax.random.key(0), jnp.ones(3))
    radius = np.exp(-np.exp(start["log_decay"]))
    assert 0.5 <= radius.min() < 0.52 and 0.78 < radius.max() <= 0.8
    np.testing.assert_allclose(np.exp(start["log_gamma"]), np.sqrt(1 - radius**2), rtol=1e-4)


@pytest.mark.parametrize("start", ["lin", "inv"])
def test_s4d_against_scipy_zero_order_hold(start: str) -> None:
    p, ys = run(rj.S4D(I, state=4, start=start))
    a, c, dt = -np.exp(p["log_decay"]) + 1j * p["angle"], part(p, "output"), np.exp(p["log_dt"])
    for h in range(I):
        # the pair of conjugates as a real system of twice the size
        system = np.block([[np.diag(a[h].real), -np.diag(a[h].imag)], [np.diag(a[h].imag), np.diag(a[h].real)]])
        b = np.concatenate([np.ones(2), np.zeros(2)])[:, None]
        out = 2 * np.concatenate([c[h].real, -c[h].imag])[None]
        ad, bd, cd, dd, _ = scipy.signal.cont2discrete((system, b, out, np.array([[p["skip"][h]]])), dt[h], "zoh")
        state, wanted = np.zeros((4, 1)), []
        for x in XS[:, h]:
            state = ad @ state + bd * x
            wanted.append((cd @ state + dd * x)[0, 0])
        np.testing.assert_allclose(ys[:, h], wanted, rtol=1e-8, atol=1e-10)


def test_s4d_starts() -> None:
    angle = lambda start: rj.S4D(1, state=8, start=start).init(jax.random.key(0), jnp.ones(1))["angle"][0]
    np.testing.assert_allclose(angle("lin"), np.pi * np.arange(4), rtol=1e-6)
    np.testing.assert_allclose(angle("inv"), [8 / np.pi * (8 / (2 * n + 1) - 1) for n in range(4)], rtol=1e-6)


def test_s5_against_the_full_system_and_hippo() -> None:
    p, ys = run(rj.S5(H, state=6))
    a, dt = -np.exp(p["log_decay"]) + 1j * p["angle"], np.exp(p["log_dt"])
    bar = np.exp(dt * a)
    h, wanted = np.zeros(3, complex), []
    for x in XS:
        h = bar * h + (bar - 1) / a * (x @ part(p, "input"))
        wanted.append(2 * (h @ part(p, "output")).real + x @ p["skip"])
    close(ys, wanted)
    n = np.arange(6)
    root = np.sqrt(n + 0.5)
    normal = np.where(n[:, None] > n, -np.outer(root, root), np.outer(root, root))
    np.fill_diagonal(normal, -0.5)
    spectrum = np.linalg.eigvals(normal)
    angle = rj.S5(2, state=6).init(jax.random.key(0), jnp.ones(3))["angle"]
    np.testing.assert_allclose(np.sort(angle), np.sort(spectrum.imag[spectrum.imag > 0]), rtol=1e-5)
    np.testing.assert_allclose(spectrum.real, -0.5, rtol=1e-9)


def test_s5_keeps_the_output_of_hippos_basis() -> None:
    """Conjugate pairs halved: 2 Re(C h) is what the whole complex system of six states puts out."""
    from rnnjax.cells.state_space.s5 import hippo_basis

    angle, v = hippo_basis(6)
    np.testing.assert_allclose(v.conj().T @ v, np.eye(3), atol=1e-9)
    whole = v @ np.diag(1j * angle) @ v.conj().T
    skew = (whole + whole.conj()).real
    root = np.sqrt(np.arange(6) + 0.5)
    np.testing.assert_allclose(np.tril(skew, -1), -np.tril(np.outer(root, root), -1), atol=1e-9)


@pytest.mark.parametrize(("discretization", "features"), [("zoh", H), ("euler", I)])
def test_s6(discretization: str, features: int) -> None:
    p, ys = run(rj.S6(features, state=2, rank=2, discretization=discretization))
    a, h, wanted = -np.exp(p["log_decay"]), np.zeros((features, 2)), []
    for x in XS:
        u = x if features == I else x @ p["input"]
        dt = softplus(u @ p["rate_down"] @ p["rate_up"] + p["rate_bias"])[:, None]
        b, c = u @ p["write"], u @ p["read"]
        held = (np.exp(dt * a) - 1) / a * b if discretization == "zoh" else dt * b
        h = np.exp(dt * a) * h + held * u[:, None]
        wanted.append(h @ c + p["skip"] * u)
    close(ys, wanted)


# -- matrix memories ---------------------------------------------------------------------------------------------------


def elu(z: Any) -> Any:
    return np.where(z > 0, z, np.expm1(z))


def silu(z: Any) -> Any:
    return z * sigmoid(z)


def per_head(z: np.ndarray, heads: int) -> np.ndarray:
    return z.reshape(heads, -1)


def test_linear_attention_is_attention_with_a_kernel() -> None:
    """Not as a recurrence at all: sum_s phi(q_t).phi(k_s) v_s / sum_s phi(q_t).phi(k_s), s <= t."""
    p, ys = run(rj.LinearAttention(H, heads=2, key_features=3, chunk_size=4))
    q, k = (elu(XS @ p[n]).reshape(T, 2, 3) + 1 for n in ("query", "key"))
    v = (XS @ p["value"]).reshape(T, 2, 2)
    wanted = []
    for t in range(T):
        a = np.einsum("nk,snk->ns", q[t], k[: t + 1])
        wanted.append((np.einsum("ns,snv->nv", a, v[: t + 1]) / (a.sum(-1, keepdims=True) + 1e-6)).ravel())
    close(ys, wanted)


@pytest.mark.parametrize("gated", [False, True])
def test_delta_rule(gated: bool) -> None:
    """S_t = a (1 - b k k^T) S_{t-1} + b k v^T, with the matrix written out."""
    p, ys = run((rj.GatedDeltaNet if gated else rj.DeltaNet)(H, heads=2, chunk_size=4))
    s, wanted = np.zeros((2, 2, 2)), []
    for x in XS:
        q, k, v = (per_head(x @ p[n], 2) for n in ("query", "key", "value"))
        q, k = (silu(z) / np.sqrt((silu(z) ** 2).sum(-1, keepdims=True) + 1e-6) for z in (q, k))
        b = sigmoid(x @ p["rate"])
        a = np.exp(-np.exp(p["log_decay"]) * softplus(x @ p["decay"] + p["decay_bias"])) if gated else np.ones(2)
        y = []
        for n in range(2):
            s[n] = a[n] * (np.eye(2) - b[n] * np.outer(k[n], k[n])) @ s[n] + b[n] * np.outer(k[n], v[n])
            y.append(s[n].T @ q[n])
        wanted.append(np.concatenate(y))
    close(ys, wanted)


def test_delta_rule_at_full_rate_recalls_what_was_written_last_under_a_key() -> None:
    with jax.enable_x64(True):
        w = dict(query=2 * jnp.eye(3, 2), key=2 * jnp.eye(3, 2), value=jnp.zeros((3, 2)).at[2].set(1.0))
        params = w | {"rate": jnp.full((3, 1), 20.0)}
        xs = jnp.array([[1.0, 0, 5], [0, 1, 7], [1, 0, 9], [0, 1, 11]])
        _, ys = rj.unroll(rj.DeltaNet(2), params, xs, method="associative")
    np.testing.assert_allclose(ys, [[5, 5], [7, 7], [9, 9], [11, 11]], rtol=1e-2)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_mlstm_without_the_stabiliser(forget: str) -> None:
    p, ys = run(rj.MLSTM(H, heads=2, forget=forget, chunk_size=4))
    c, n, wanted = np.zeros((2, 2, 2)), np.zeros((2, 2)), []
    for x in XS:
        q, k, v = (per_head(x @ p[name], 2) for name in ("query", "key", "value"))
        k = k / np.sqrt(2)
        gates = x @ p["gates"] + p["gates_bias"]
        i, f = np.exp(gates[:2]), (sigmoid if forget == "sigmoid" else np.exp)(gates[2:])
        c = f[:, None, None] * c + i[:, None, None] * np.einsum("nv,nk->nvk", v, k)
        n = f[:, None] * n + i[:, None] * k
        o = sigmoid(x @ p["output_gate"] + p["output_gate_bias"])
        size = np.maximum(np.abs((n * q).sum(-1)), 1)
        wanted.append(o * (np.einsum("nvk,nk->nv", c, q) / size[:, None]).ravel())
    close(ys, wanted)


def test_mlstm_does_not_overflow_where_the_plain_exponential_does() -> None:
    cell, xs = rj.MLSTM(2, chunk_size=4), jnp.ones((8, 3))
    params = cell.init(jax.random.key(0), xs[0])
    params["gates_bias"] = jnp.array([200.0, 5.0])  # exp(200) is infinite in float32
    ys = [rj.unroll(cell, params, xs, method=m)[1] for m in ("scan", "associative")]
    assert np.isfinite(ys[0]).all()
    np.testing.assert_allclose(ys[0], ys[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_slstm_without_the_stabiliser(forget: str) -> None:
    cell = rj.SLSTM(H, heads=2, forget=forget)
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
        ys = quick(lambda p, xs: rj.unroll(cell, p, xs)[1])(params, jnp.asarray(XS))
    p = jax.device_get(params)
    h, c, n, wanted = np.zeros(H), np.zeros(H), np.zeros(H), []
    for x in XS:
        rec = [
            np.concatenate([per_head(h, 2)[k] @ blocks(p["recurrent"][k], 4)[g] for k in range(2)]) for g in range(4)
        ]
        z, i, f, o = (a + b for a, b in zip(blocks(x @ p["input"] + p["bias"], 4), rec))
        f = sigmoid(f) if forget == "sigmoid" else np.exp(f)
        c, n = f * c + np.exp(i) * np.tanh(z), f * n + np.exp(i)
        h = sigmoid(o) * c / n
        wanted.append(h)
    close(ys, wanted)
    assert size(p) == 4 * H * I + 4 * H * H // 2 + 4 * H


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rj.LinearAttention(4, heads=3), "features must divide into 3 heads"),
        (lambda: rj.MLSTM(4, heads=3), "features must divide into 3 heads"),
        (lambda: rj.SLSTM(4, heads=3), "features must divide into 3 heads"),
        (lambda: rj.S4D(4, state=3), "state must be even"),
        (lambda: rj.S5(4, state=6, blocks=2), "state must divide into 2 blocks"),
        (lambda: rj.S6(4, discretization="zho"), "did you mean 'zoh'"),
        (lambda: rj.S6(4, dt_min=0.2), "dt_min <= dt_max"),
        (lambda: rj.LRU(4, r_min=0.9, r_max=0.5), "r_min < r_max"),
        (lambda: rj.RGLRU(4, power=-1), "power > 0"),
        (lambda: rj.QRNN(4, window=0), "window must be at least 1"),
        (lambda: rj.QRNN(4, pooling="of"), "pooling must be one of"),
        (lambda: rj.SRU(4, activation="relu"), "activation must be"),
        (lambda: rj.MinGRU(0), "features must be at least 1"),
    ],
)
def test_impossible_options_are_refused_when_built(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_carries_and_inputs_are_refused() -> None:
    cell, x = rj.MLSTM(4), jnp.ones((2, 3))
    params = cell.init(jax.random.key(0), x)
    with pytest.raises(TypeError, match="carry must be MLSTMCarry, got tuple"):
        cell(params, tuple(cell.initial_carry(params, x)), x)
    with pytest.raises(ValueError, match="x has 5 features"):
        cell(params, cell.initial_carry(params, x), jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"S4D.*carry must have parts of shape \(2, 3, 2\)"):
        cell = rj.S4D(3, state=4)
        cell(cell.init(jax.random.key(0), x), jnp.zeros((2, 3)), x)

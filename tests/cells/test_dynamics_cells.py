"""Continuous time, oscillators, orthogonal, memory, rate and reservoir cells: the papers' equations as float64 loops, and closed forms."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnnjax as rj

T, I, H = 5, 3, 4
XS = np.random.default_rng(0).normal(size=(T, I))
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiling is what costs


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softplus(z: Any) -> Any:
    return np.log1p(np.exp(z))


def softmax(z: Any) -> Any:
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def blocks(a: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(a, count, axis=-1)


def run(cell: Any, xs: Any = XS, start: Any = None, params: Any = None) -> tuple[Any, np.ndarray]:
    """Random float64 params, and the outputs."""
    with jax.enable_x64(True):
        xs = jnp.asarray(xs)
        if params is None:
            rng = np.random.default_rng(1)
            params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), cell.init(jax.random.key(0), xs[0]))
        ys = quick(lambda p, xs: rj.unroll(cell, p, xs, carry=start)[1])(params, xs)
        assert ys.dtype == jnp.float64
        return jax.device_get(params), np.asarray(ys)


def close(ys: np.ndarray, wanted: Any, rtol: float = 1e-8) -> None:
    np.testing.assert_allclose(ys, np.stack(wanted), rtol=rtol, atol=1e-9)


# -- continuous time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "elapsed"), [("euler", False), ("exponential", True)])
def test_ctrnn(solver: str, elapsed: bool) -> None:
    times = np.random.default_rng(2).uniform(0.1, 0.5, T) if elapsed else np.full(T, 0.1)
    xs = np.concatenate([XS, times[:, None]], axis=1) if elapsed else XS
    p, ys = run(rj.CTRNN(H, tau=2.0, solver=solver, elapsed=elapsed), xs)
    tau, h, wanted = softplus(p["tau"]), np.zeros(H), []
    for x, dt in zip(XS, times):
        drive = x @ p["input"] + sigmoid(h + p["bias"]) @ p["recurrent"]
        if solver == "euler":
            h = h + dt / tau * (-h + drive)
        else:
            h = np.exp(-dt / tau) * h + (1 - np.exp(-dt / tau)) * drive
        wanted.append(sigmoid(h + p["bias"]))
    close(ys, wanted)
    start = rj.CTRNN(H, tau=2.0).init(jax.random.key(0), jnp.ones(I))
    np.testing.assert_allclose(softplus(np.asarray(start["tau"])), 2.0, rtol=1e-6)


def test_a_leaky_unit_decays_exponentially() -> None:
    """With nothing to drive it, h(t) = exp(-t / tau) h(0), for steps of any length."""
    cell = rj.CTRNN(1, tau=3.0, solver="exponential", elapsed=True, activation="identity")
    times = np.array([0.5, 2.0, 1.0])
    params = {k: jnp.zeros(s) for k, s in dict(input=(1, 1), recurrent=(1, 1), bias=(1,)).items()}
    params["tau"] = jnp.array([np.log(np.expm1(3.0))])
    xs = jnp.asarray(np.stack([np.zeros(3), times], axis=1), jnp.float32)
    _, ys = rj.unroll(cell, params, xs, carry=jnp.ones(1))
    np.testing.assert_allclose(ys[:, 0], np.exp(-np.cumsum(times) / 3.0), rtol=1e-5)
    rate = rj.RateRNN(1, tau=100.0, dt=20.0)
    _, ys = rj.unroll(
        rate, {k: params[k] for k in ("input", "recurrent", "bias")}, jnp.zeros((4, 1)), carry=jnp.ones(1)
    )
    np.testing.assert_allclose(ys[:, 0], 0.8 ** np.arange(1, 5), rtol=1e-5)


@pytest.mark.parametrize("elapsed", [False, True])
def test_ltc_fused_solver(elapsed: bool) -> None:
    times = np.random.default_rng(2).uniform(0.5, 2, T) if elapsed else np.ones(T)
    xs = np.concatenate([XS, times[:, None]], axis=1) if elapsed else XS
    p, ys = run(rj.LTC(H, unfolds=3, elapsed=elapsed, activation="tanh" if not elapsed else "sigmoid"), xs)
    tau, h, wanted = softplus(p["tau"]), np.zeros(H), []
    for x, dt in zip(XS, times):
        for _ in range(3):
            f = (sigmoid if elapsed else np.tanh)(x @ p["input"] + h @ p["recurrent"] + p["bias"])
            h = (h + dt / 3 * f * p["reversal"]) / (1 + dt / 3 * (1 / tau + f))
        wanted.append(h)
    close(ys, wanted)


def test_ltc_goes_to_the_steady_state_of_its_equation() -> None:
    """dh/dt = -(1/tau + f) h + f A with f held: h = f A / (1/tau + f)."""
    p, ys = run(rj.LTC(1), np.ones((60, 1)), params={
        "input": np.ones((1, 1)), "recurrent": np.zeros((1, 1)), "bias": np.zeros(1), "reversal": np.full(1, 2.0),
        "tau": np.full(1, np.log(np.expm1(1.5))),
    })  # fmt: skip
    f = sigmoid(1.0)
    np.testing.assert_allclose(ys[-1, 0], 2 * f / (1 / 1.5 + f), rtol=1e-9)


def test_cfc() -> None:
    times = np.random.default_rng(2).uniform(0.5, 2, T)
    p, ys = run(rj.CfC(H, backbone=6, elapsed=True), np.concatenate([XS, times[:, None]], axis=1))
    h, wanted = np.zeros(H), []
    for x, dt in zip(XS, times):
        b = 1.7159 * np.tanh(2 / 3 * (np.concatenate([x, h]) @ p["backbone"] + p["backbone_bias"]))
        f, g, k = blocks(b @ p["heads"] + p["heads_bias"], 3)
        h = sigmoid(-f * dt) * np.tanh(g) + (1 - sigmoid(-f * dt)) * np.tanh(k)
        wanted.append(h)
    close(ys, wanted)


# -- oscillators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implicit", [False, True])
def test_cornn(implicit: bool) -> None:
    p, ys = run(rj.CoRNN(H, dt=0.1, gamma=1.5, epsilon=0.7, implicit=implicit))
    w_y, w_z = p["recurrent"][:H], p["recurrent"][H:]
    y, z, wanted = np.zeros(H), np.zeros(H), []
    for x in XS:
        a = np.tanh(y @ w_y + z @ w_z + x @ p["input"] + p["bias"]) - 1.5 * y
        z = (z + 0.1 * a) / (1 + 0.1 * 0.7) if implicit else z + 0.1 * (a - 0.7 * z)
        y = y + 0.1 * z
        wanted.append(y)
    close(ys, wanted)


def test_cornn_without_coupling_is_a_damped_oscillator() -> None:
    gamma, epsilon, dt, steps = 4.0, 0.4, 1e-3, 3000
    params = {"input": np.zeros((1, 1)), "recurrent": np.zeros((2, 1)), "bias": np.zeros(1)}
    start = rj.cells.OscillatorCarry(np.ones(1), np.zeros(1))
    _, ys = run(rj.CoRNN(1, dt=dt, gamma=gamma, epsilon=epsilon), np.zeros((steps, 1)), start, params)
    t, omega = dt * np.arange(1, steps + 1), np.sqrt(gamma - epsilon**2 / 4)
    exact = np.exp(-epsilon * t / 2) * (np.cos(omega * t) + epsilon / (2 * omega) * np.sin(omega * t))
    np.testing.assert_allclose(ys[:, 0], exact, atol=3e-3)


def test_unicornn_and_that_it_can_be_run_back() -> None:
    cell = rj.UnICORNN(H, dt=0.3, alpha=0.9)
    p, ys = run(cell)
    rate = 0.3 * (0.5 + 0.5 * np.tanh(p["rate"] / 2))
    y, z, wanted, zs = np.zeros(H), np.zeros(H), [], []
    for x in XS:
        z = z - rate * (np.tanh(p["recurrent"] * y + x @ p["input"] + p["bias"]) + 0.9 * y)
        y = y + rate * z
        wanted.append(y)
        zs.append(z)
    close(ys, wanted)
    for t in reversed(range(T)):
        y = y - rate * z
        z = z + rate * (np.tanh(p["recurrent"] * y + XS[t] @ p["input"] + p["bias"]) + 0.9 * y)
    np.testing.assert_allclose([y, z], 0, atol=1e-12)


def test_lem() -> None:
    p, ys = run(rj.LEM(H, dt=0.8))
    (v1, v2, vz, vy), (b1, b2, bz, by), (w1, w2, wz) = (
        blocks(p["input"], 4),
        blocks(p["bias"], 4),
        blocks(p["recurrent"], 3),
    )
    y, z, wanted = np.zeros(H), np.zeros(H), []
    for x in XS:
        s, r = 0.8 * sigmoid(y @ w1 + x @ v1 + b1), 0.8 * sigmoid(y @ w2 + x @ v2 + b2)
        z = (1 - s) * z + s * np.tanh(y @ wz + x @ vz + bz)
        y = (1 - r) * y + r * np.tanh(z @ p["recurrent_y"] + x @ vy + by)
        wanted.append(y)
    close(ys, wanted)


# -- orthogonal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_antisymmetric(gated: bool) -> None:
    p, ys = run(rj.AntisymmetricRNN(H, epsilon=0.2, gamma=0.1, gated=gated))
    a = p["recurrent"] - p["recurrent"].T - 0.1 * np.eye(H)
    h, wanted = np.zeros(H), []
    for x in XS:
        drives = [h @ a + x @ v + b for v, b in zip(blocks(p["input"], 1 + gated), blocks(p["bias"], 1 + gated))]
        h = h + 0.2 * np.tanh(drives[0]) * (sigmoid(drives[1]) if gated else 1)
        wanted.append(h)
    close(ys, wanted)


@pytest.mark.parametrize(("parametrization", "negative"), [("exp", 0), ("cayley", 2)])
def test_orthogonal_with_modrelu(parametrization: str, negative: int) -> None:
    cell = rj.OrthogonalRNN(H, parametrization=parametrization, negative=negative)
    p, ys = run(cell)
    k = np.triu(p["recurrent"], 1)
    a = k - k.T
    signs = np.diag([-1.0] * negative + [1.0] * (H - negative))
    q = scipy.linalg.expm(a) if parametrization == "exp" else np.linalg.inv(np.eye(H) + a) @ (np.eye(H) - a) @ signs
    h, wanted = np.zeros(H), []
    for x in XS:
        z = x @ p["input"] + h @ q
        h = np.sign(z) * np.maximum(np.abs(z) + p["bias"], 0)
        wanted.append(h)
    close(ys, wanted, rtol=1e-3)  # modReLU divides by sqrt(z^2 + 1e-10), not by |z|


@pytest.mark.peer
@pytest.mark.parametrize(("parametrization", "peer", "factor"), [("exp", "matrix_exp", 1), ("cayley", "cayley", -2)])
def test_orthogonal_parametrizations_are_torchs(parametrization: str, peer: str, factor: int) -> None:
    """torch's A comes from a lower triangle, and its Cayley map is (1 - A/2)^-1 (1 + A/2)."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(H, H, bias=False).double()
    torch.nn.utils.parametrizations.orthogonal(layer, orthogonal_map=peer, use_trivialization=False)
    with jax.enable_x64(True):
        k = np.random.default_rng(0).normal(size=(H, H))
        q = rj.OrthogonalRNN(H, parametrization=parametrization).recurrence({"recurrent": jnp.asarray(k)})
    a = np.triu(k, 1) - np.triu(k, 1).T
    theirs = layer.parametrizations.weight[0](torch.tensor(np.tril(factor * a, -1))).detach().numpy()
    np.testing.assert_allclose(q, theirs, rtol=1e-9, atol=1e-12)


def test_orthogonal_and_unitary_recurrences_keep_norms() -> None:
    with jax.enable_x64(True):
        h = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8)))
        for cell in (rj.OrthogonalRNN(8), rj.OrthogonalRNN(8, parametrization="cayley", negative=3)):
            params = jax.tree.map(lambda a: a + 0.3, cell.init(jax.random.key(0), h))
            q = cell.recurrence(params)
            np.testing.assert_allclose(jnp.linalg.norm(h @ q, axis=-1), jnp.linalg.norm(h, axis=-1), rtol=1e-10)
        cell = rj.UnitaryRNN(8)
        params = cell.init(jax.random.key(0), h)
        turned = cell.rotate(params, h.astype(jnp.complex128))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(h, axis=-1), rtol=1e-10)


def test_unitary_with_its_matrices_written_out() -> None:
    cell = rj.UnitaryRNN(H)
    p, ys = run(cell)
    d = [np.diag(np.exp(1j * angle)) for angle in p["phases"]]
    v = p["reflection_real"] + 1j * p["reflection_imag"]
    r = [np.eye(H) - 2 * np.outer(u, u.conj()) / (np.abs(u) ** 2).sum() for u in v]
    n = np.arange(H)
    f = np.exp(-2j * np.pi * np.outer(n, n) / H) / np.sqrt(H)
    order = np.random.default_rng(0).permutation(H)
    m = d[2] @ r[1] @ f.conj() @ d[1] @ np.eye(H)[order] @ r[0] @ f @ d[0]
    h, wanted = np.zeros(H, complex), []
    for x in XS:
        z = m @ h + x @ (p["input_real"] + 1j * p["input_imag"])
        h = np.maximum(np.abs(z) + p["bias"], 0) * z / np.abs(z)
        wanted.append((h @ (p["output_real"] + 1j * p["output_imag"])).real + p["output_bias"])
    close(ys, wanted, rtol=1e-6)


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noop", [True, False])
def test_stack_rnn(noop: bool) -> None:
    p, ys = run(rj.StackRNN(H, stacks=2, depth=3, read=2, noop=noop))
    h, s, wanted = np.zeros(H), -np.ones((2, 3)), []
    for x in XS:
        h = sigmoid(x @ p["input"] + h @ p["recurrent"] + s[:, :2].ravel() @ p["stack"] + p["bias"])
        a, d = softmax((h @ p["action"]).reshape(2, -1)), sigmoid(h @ p["push"])
        new = np.zeros((2, 3))
        for k in range(2):
            for i in range(3):
                above = d[k] if i == 0 else s[k, i - 1]
                below = s[k, i + 1] if i < 2 else -1
                new[k, i] = a[k, 0] * above + a[k, 1] * below + (a[k, 2] * s[k, i] if noop else 0)
        s = new
        wanted.append(h)
    close(ys, wanted)


def test_tape_rnn() -> None:
    slots, m = 4, 2
    p, ys = run(rj.TapeRNN(H, slots=slots, width=m))

    def head(name: str, h: Any, tape: Any, w: Any) -> Any:
        c = h @ p[name] + p[f"{name}_bias"]
        key, beta, g, s, gamma = (
            np.tanh(c[:m]),
            softplus(c[m]),
            sigmoid(c[m + 1]),
            softmax(c[m + 2 : m + 5]),
            1 + softplus(c[m + 5]),
        )
        cos = tape @ key / np.sqrt((key @ key) * (tape**2).sum(-1) + 1e-12)
        w = g * softmax(beta * cos) + (1 - g) * w
        w = np.array([sum(s[j + 1] * w[(i - j) % slots] for j in (-1, 0, 1)) for i in range(slots)])
        return w**gamma / (w**gamma).sum()

    h, tape, seen = np.zeros(H), np.full((slots, m), 1e-6), np.zeros(m)
    read = write = np.eye(slots)[0]
    wanted = []
    for x in XS:
        h = np.tanh(x @ p["input"] + h @ p["recurrent"] + seen @ p["seen"] + p["bias"])
        write = head("write", h, tape, write)
        erase, add = blocks(h @ p["change"] + p["change_bias"], 2)
        tape = tape * (1 - np.outer(write, sigmoid(erase))) + np.outer(write, np.tanh(add))
        read = head("read", h, tape, read)
        seen = read @ tape
        wanted.append(np.concatenate([h, seen]) @ p["output"] + p["output_bias"])
    close(ys, wanted)


# -- rate networks and reservoirs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(rank=2),
        dict(dale=0.5),
        dict(learn_tau=True),
        dict(leaky="current", dale=0.5),
        dict(leaky="current", rank=2),
    ],
    ids=str,
)
def test_rate_networks(options: dict[str, Any]) -> None:
    p, ys = run(rj.RateRNN(H, tau=50.0, dt=10.0, activation="tanh", **options))
    if "rank" in options:
        j = p["left"] @ p["right"].T / H
        assert np.linalg.matrix_rank(j) == 2
    else:
        j = p["recurrent"]
    if "dale" in options:
        j = np.abs(j) * np.array([1, 1, -1, -1])[:, None]
        np.fill_diagonal(j, 0)
    alpha = 10 / (10 + softplus(p["tau"])) if "learn_tau" in options else 0.2
    r, s, wanted = np.zeros(H), np.zeros(H), []
    for x in XS:
        if "leaky" in options:  # Song et al. 2016: what leaks is the current s, and r = act(s)
            s = s + alpha * (-s + x @ p["input"] + r @ j + p["bias"])
            r = np.tanh(s)
        else:
            r = r + alpha * (-r + np.tanh(x @ p["input"] + r @ j + p["bias"]))
        wanted.append(r)
    close(ys, wanted)


def test_dales_law_starts_balanced_and_noise_has_its_size() -> None:
    j = rj.RateRNN(200, dale=0.8)
    j = np.asarray(j.recurrence(j.init(jax.random.key(0), jnp.ones(2))))
    assert abs(j.sum(0).mean()) < 0.05 * np.abs(j).sum(0).mean()
    cell = rj.RateRNN(4000, rank=1, noise=0.1, tau=100.0, dt=20.0, activation="identity")
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), jnp.ones(2)))
    r, _ = cell(params, jnp.zeros(4000), jnp.ones(2), key=jax.random.key(1))
    np.testing.assert_allclose(np.std(r), 0.2 * np.sqrt(2 / 0.2) * 0.1, rtol=0.05)  # sqrt(2 alpha) sigma
    quiet, _ = cell(params, jnp.zeros(4000), jnp.ones(2))
    assert not quiet.any()


def test_echo_state_and_its_radius() -> None:
    cell = rj.EchoState(30, radius=0.7, density=0.2, leak=0.6, bias_scale=0.3)
    x = jnp.ones(I)
    start = cell.init(jax.random.key(0), x)
    u = np.asarray(start["recurrent"], np.float64)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(u)).max(), 0.7, rtol=1e-4)
    assert ((u != 0).sum(1) == 6).all() and np.abs(start["bias"]).max() <= 0.3 < 1.0 >= np.abs(start["input"]).max()
    p, ys = run(cell)
    h, wanted = np.zeros(30), []
    for x in XS:
        h = 0.4 * h + 0.6 * np.tanh(x @ p["input"] + h @ p["recurrent"] + p["bias"])
        wanted.append(h)
    close(ys, wanted)


def test_echo_state_forgets_its_start_and_is_not_trained() -> None:
    cell, xs = (
        rj.EchoState(20, radius=0.5, density=0.5),
        jnp.asarray(np.random.default_rng(0).normal(size=(60, I)), jnp.float32),
    )
    params = cell.init(jax.random.key(0), xs[0])
    end = quick(lambda cell, p, xs, c: rj.unroll(cell, p, xs, carry=c)[0], static_argnums=0)
    ends = [end(cell, params, xs, c) for c in (jnp.ones(20), -jnp.ones(20))]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    wild, echo = params | {"recurrent": 6 * params["recurrent"]}, rj.EchoState(20, activation="identity")
    far, near = (end(echo, wild, xs[:20], c) for c in (jnp.ones(20), -jnp.ones(20)))
    assert np.abs(far - near).max() > 1
    grads, into_x = jax.grad(lambda p, xs: jnp.sum(rj.unroll(cell, p, xs)[1] ** 2), argnums=(0, 1))(params, xs)
    assert all(not np.any(g) for g in jax.tree.leaves(grads)) and np.any(into_x)


def test_ridge_is_the_least_squares_of_numpy() -> None:
    rng = np.random.default_rng(0)
    h, y = rng.normal(size=(10, 4, 3)), rng.normal(size=(10, 4, 2))
    with jax.enable_x64(True):
        fit = rj.cells.ridge(jnp.asarray(h), jnp.asarray(y), penalty=0.7)
    design = np.concatenate([h.reshape(-1, 3), np.ones((40, 1))], axis=1)
    rows = np.concatenate([design, np.sqrt(0.7) * np.eye(3, 4)])  # penalty as extra observations; none for the bias
    wanted = np.linalg.lstsq(rows, np.concatenate([y.reshape(-1, 2), np.zeros((3, 2))]), rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([fit["output"], fit["output_bias"][None]]), wanted, rtol=1e-8)
    with pytest.raises(ValueError, match="ridge: penalty"):
        rj.cells.ridge(jnp.ones((3, 2)), jnp.ones((3, 1)), penalty=-1)
    with pytest.raises(ValueError, match="ridge: states .* must agree"):
        rj.cells.ridge(jnp.ones((3, 2)), jnp.ones((4, 1)))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rj.CTRNN(4, tau=-1.0), "CTRNN: tau must be above 0, got -1.0"),
        (lambda: rj.CTRNN(4, solver="rk4"), "solver must be one of"),
        (lambda: rj.LTC(4, tau=0.0), "LTC: tau must be above 0"),
        (lambda: rj.LTC(4, unfolds=0), "unfolds must be at least 1"),
        (lambda: rj.CfC(4, dt=-0.1), "CfC: dt must be above 0"),
        (lambda: rj.CoRNN(4, epsilon=0.0), "epsilon must be above 0"),
        (lambda: rj.UnICORNN(4, alpha=-1.0), "alpha must be above 0"),
        (lambda: rj.LEM(4, dt=0.0), "dt must be above 0"),
        (lambda: rj.AntisymmetricRNN(4, gamma=-0.1), "gamma must be at least 0"),
        (lambda: rj.OrthogonalRNN(4, parametrization="householder"), "parametrization must be one of"),
        (lambda: rj.OrthogonalRNN(4, negative=1), "negative must be an int in 0..features, and 0 without 'cayley'"),
        (lambda: rj.StackRNN(4, depth=2, read=3), "read must be at most depth=2"),
        (lambda: rj.TapeRNN(4, slots=0), "slots must be at least 1"),
        (lambda: rj.RateRNN(4, dt=30.0, tau=20.0), "dt must be at most tau"),
        (lambda: rj.RateRNN(4, dale=0.99), "dale must leave units of both kinds"),
        (lambda: rj.RateRNN(4, rank=5), "rank must be at most features=4"),
        (lambda: rj.RateRNN(4, rank=2, dale=0.5), "rank and dale exclude each other"),
        (lambda: rj.EchoState(4, leak=1.5), "leak and density must be at most 1"),
        (lambda: rj.EchoState(4, radius=0.0), "radius must be above 0"),
        (lambda: rj.LTC(4, elapsed=True).init(jax.random.key(0), jnp.ones(1)), "time as its last feature"),
    ],
)
def test_impossible_options_are_refused_when_built(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

"""Lyapunov exponents against theory (linear maps, Henon, Lorenz, random matrices and networks) and a QR loop in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

import rnnjax as rj
from rnnjax.diagnostics import kaplan_yorke, lyapunov


def test_linear_network_has_the_logarithms_of_its_eigenvalues(key):
    """U with eigenvalues 1.1, 0.5 +- 0.5i and -0.2: moduli 1.1, 0.707 twice, 0.2."""
    cell, xs = rj.Elman(4, activation="identity"), jnp.zeros((3000, 1))
    params = cell.init(key, xs[0])
    blocks = np.zeros((4, 4))
    blocks[0, 0], blocks[1:3, 1:3], blocks[3, 3] = 1.1, [[0.5, 0.5], [-0.5, 0.5]], -0.2
    turn = np.asarray(params["recurrent"], np.float64) + 0.3 * np.eye(4)
    params["recurrent"] = jnp.asarray(turn @ blocks @ np.linalg.inv(turn), jnp.float32)
    want = np.log([1.1, np.sqrt(0.5), np.sqrt(0.5), 0.2])
    np.testing.assert_allclose(lyapunov(cell, params, xs, warm_up=100), want, atol=2e-3)
    np.testing.assert_allclose(lyapunov(cell, params, xs, warm_up=100, k=2), want[:2], atol=2e-3)


def test_henon_map():
    """0.419 and -1.623, whose sum is log 0.3 at every step."""

    def henon(params, carry, x):
        a, b = carry
        return (1 - 1.4 * a**2 + b, 0.3 * a), a

    got = lyapunov(henon, {}, jnp.zeros((20000, 1)), carry=(jnp.array(0.1), jnp.array(0.1)), warm_up=200)
    np.testing.assert_allclose(got.sum(), np.log(0.3), atol=1e-4)
    np.testing.assert_allclose(got, [0.419, -1.623], atol=0.01)


def test_lorenz_system(float64):
    """Runge-Kutta steps of 0.01: 0.906, 0 and -14.57 per unit of time, summing to -(10 + 1 + 8/3)."""

    def flow(s):
        return jnp.stack([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])

    def step(params, s, x):
        a = flow(s)
        b = flow(s + 0.005 * a)
        c = flow(s + 0.005 * b)
        return s + 0.01 / 6 * (a + 2 * b + 2 * c + flow(s + 0.01 * c)), s

    got = lyapunov(step, {}, jnp.zeros((40000, 1)), carry=jnp.ones(3), warm_up=2000) / 0.01
    np.testing.assert_allclose(got.sum(), -(11 + 8 / 3), atol=0.01)
    np.testing.assert_allclose(got, [0.906, 0.0, -14.57], atol=0.04)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_step(p, h, c, x):
    i, f, g, o = np.split(x @ p["input"] + h @ p["recurrent"] + p["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(p, h, x):
    size = len(h)
    a, b = x @ p["input"] + p["bias"], h @ p["recurrent"]
    r, z = sigmoid(a[:size] + b[:size]), sigmoid(a[size : 2 * size] + b[size : 2 * size])
    n = np.tanh(a[2 * size :] + r * (b[2 * size :] + p["recurrent_bias"]))
    return (1 - z) * n + z * h


def qr_loop(step, h, xs, warm_up):
    """The textbook's loop: central differences for the Jacobian, numpy's QR at every step."""
    q, logs = np.linalg.qr(np.random.default_rng(5).normal(size=(len(h), len(h))))[0], []
    for x in xs:
        nudges = 1e-6 * np.eye(len(h))
        jacobian = np.stack([(step(h + e, x) - step(h - e, x)) / 2e-6 for e in nudges], axis=1)
        h, (q, r) = step(h, x), np.linalg.qr(jacobian @ q)
        logs.append(np.log(np.abs(np.diag(r))))
    return np.mean(logs[warm_up:], axis=0)


def test_lstm_and_gru_stack_equal_a_qr_loop_in_numpy(float64):
    """Every exponent of a driven stack under a wrapper, whose carry is (h, c) of one layer and h of the other."""
    cell = rj.Readout(rj.Stack(rj.LSTM(2), rj.Residual(rj.GRU(2))), 1)
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(600, 3))
    shapes = jax.eval_shape(cell.init, jax.random.key(0), jnp.zeros(3))
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), shapes)
    lower, upper = params["cell"]["layer_0"], params["cell"]["layer_1"]
    upper = upper.get("cell", upper)

    def step(s, x):
        h, c = lstm_step(lower, s[:2], s[2:4], x)
        return np.concatenate([h, c, gru_step(upper, s[4:], h)])

    want = np.sort(qr_loop(step, np.zeros(6), xs, 100))[::-1]
    found = lyapunov(cell, params, jnp.asarray(xs), warm_up=100)
    np.testing.assert_allclose(found.sum(), want.sum(), rtol=1e-7)
    np.testing.assert_allclose(found, want, rtol=2e-4)


def gaussian(n):
    """A product of independent matrices of independent normal numbers: its exponents are ``(ln 2 + psi((n - i + 1) / 2)) / 2``
    (Newman 1986), and the logarithms of each step independent, of variance ``psi'((n - i + 1) / 2) / 4``."""
    half = (n - np.arange(n)) / 2
    step = lambda params, h, x: (x.reshape(*x.shape[:-1], n, n) @ h[..., None], None)
    return (lambda p, h, x: (step(p, h, x)[0][..., 0], h)), 0.5 * (np.log(2) + digamma(half)), polygamma(1, half) / 4


def test_products_of_random_matrices(key):
    step, want, variance = gaussian(3)
    xs = jax.random.normal(key, (4000, 9))
    found = lyapunov(step, {}, xs, carry=jnp.zeros(3), report=True)
    error = np.sqrt(variance / 4000)
    assert (np.abs(found.exponents - want) < 3.5 * error).all()
    np.testing.assert_allclose(
        found.standard_error, error, rtol=0.45
    )  # of 32 blocks: known to 1 / sqrt(62), within 3.5 of them
    np.testing.assert_allclose(found.history[-1], found.exponents, rtol=1e-5)
    np.testing.assert_allclose(found.history[0].sum(), np.log(np.abs(np.linalg.det(xs[0].reshape(3, 3)))), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["independent", "autoregressive"])
def test_the_standard_error_covers_the_truth(float64, key, driver):
    """1000 runs of a known law, 950 of which should lie within 1.96 errors. Accepted: 920 to 970. A true coverage of 0.90 is
    rejected with probability 0.98, one of 0.98 with 0.98; one of 0.95 passes with 0.9995 (binomial).

    ``h' = e^x h``, whose exponent is the mean of x: independent, or remembering itself for some 10 steps."""
    noise = jax.random.normal(key, (3000, 1000))
    if driver == "autoregressive":
        _, noise = jax.lax.scan(lambda x, e: (0.8 * x + e,) * 2, jnp.zeros(1000), noise)
    step = lambda params, h, x: (jnp.exp(x) * h, None)
    found = lyapunov(step, {}, 0.3 + noise[..., None], carry=jnp.zeros((1000, 1)), report=True, warm_up=200)
    covered = np.abs(found.exponents - 0.3) < 1.96 * found.standard_error
    assert covered.shape == (1000, 1) and 920 <= covered.sum() <= 970, covered.sum()


@pytest.mark.slow
def test_a_random_network_below_chaos_has_the_law_of_large_networks(key):
    """h' = J tanh(h), J ~ N(0, g^2/N), g = 0.8: h dies out, so the spectrum is that of J, whose law is the circle's: ln g +
    ln(1 - (i - 1/2)/N)/2 (Engelken et al. 2023). All 200 exponents: against numpy's eigenvalues of this J, and the law."""
    n, g = 200, 0.8
    weights = {"J": g / np.sqrt(n) * jax.random.normal(key, (n, n))}
    network = lambda params, h, x: (jnp.tanh(h) @ params["J"].T, h)
    got = lyapunov(network, weights, jnp.zeros((240, 1)), carry=1e-3 * jnp.ones(n), warm_up=100, every=2)
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(np.asarray(weights["J"], np.float64)))))[::-1]
    np.testing.assert_allclose(got, exact, atol=0.02)
    law = np.log(g) + 0.5 * np.log(1 - (np.arange(1, n + 1) - 0.5) / n)
    np.testing.assert_allclose(got[:180], law[:180], atol=0.08)  # the last few are those of single eigenvalues near 0
    np.testing.assert_allclose(got[:180].mean(), law[:180].mean(), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("g", [1.5, 2.0, 3.0])
def test_a_chaotic_network_has_the_largest_exponent_of_a_float64_loop(key, g):
    """h' = J tanh(h) above 1: float32 takes another trajectory of the same attractor, so agreement is within four errors."""
    n = 100
    weights = g / np.sqrt(n) * jax.random.normal(key, (n, n))
    network = lambda params, h, x: (jnp.tanh(h) @ params.T, h)
    found = lyapunov(network, weights, jnp.zeros((6000, 1)), carry=jnp.ones(n), k=1, warm_up=500, report=True)
    j, rng, logs = np.asarray(weights, np.float64), np.random.default_rng(1), []
    h, v = rng.normal(size=(2, n))
    for _ in range(25000):
        v = j @ ((1 - np.tanh(h) ** 2) * v)
        h = j @ np.tanh(h)
        logs.append(np.log(np.linalg.norm(v)))
        v /= np.linalg.norm(v)
    error = float(found.standard_error[0])
    assert float(found.exponents[0]) > 4 * error and error < 0.01
    np.testing.assert_allclose(found.exponents[0], np.mean(logs[500:]), atol=4 * error)


def mean_field(g):
    """The largest exponent of ``h' = J tanh(h)`` for infinite N: units are independent normal numbers of variance ``D = g^2 E
    tanh^2``, and what lengthens a difference a step is ``g^2 E (1 - tanh^2)^2`` (Molgedey, Schuchhardt, Schuster 1992)."""
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    weights, d = weights / weights.sum(), 1.0
    for _ in range(2000):
        d = g**2 * weights @ np.tanh(np.sqrt(d) * x) ** 2
    return 0.5 * np.log(g**2 * weights @ (1 - np.tanh(np.sqrt(d) * x) ** 2) ** 2)


@pytest.mark.slow
def test_a_large_chaotic_network_has_the_largest_exponent_of_the_infinite_one():
    """0.065, 0.155 and 0.308 at g = 1.5, 2 and 3. One network of 1000 is off by some 0.003, downward; two of them by 0.006 at most."""
    n, gains = 1000, (1.5, 2.0, 3.0)
    network = lambda params, h, x: (jnp.tanh(h) @ params.T, h)
    best = {
        "xla_backend_optimization_level": 2,
        "xla_llvm_disable_expensive_passes": False,
    }  # as users compile: 3 s for 100
    run = lambda w: lyapunov(network, w, jnp.zeros((2000, 1)), carry=jnp.ones(n), k=1, warm_up=300)[0]
    look = jax.jit(run, compiler_options=best)
    weights = [jax.random.normal(jax.random.key(seed), (n, n)) / np.sqrt(n) for seed in (0, 1)]
    found = np.mean([[look(g * w) for g in gains] for w in weights], axis=0)
    np.testing.assert_allclose(found, [mean_field(g) for g in gains], atol=0.006)


def test_re_orthonormalising_less_often_changes_nothing(float64, key):
    """R of several steps is the product of theirs. 63 steps do not divide by 5, nor does the warm-up of 13."""
    cell, xs = rj.Elman(3), jax.random.normal(key, (76, 2))
    params = cell.init(key, xs[0])
    rare = lyapunov(cell, params, xs, warm_up=13, every=5)
    np.testing.assert_allclose(rare, lyapunov(cell, params, xs, warm_up=13), rtol=1e-9)


def test_a_batch_is_its_sequences_one_by_one_and_jit_changes_nothing(key):
    cell, xs = rj.Elman(3), jax.random.normal(key, (40, 3, 2))
    params = cell.init(key, xs[0])
    look = jax.jit(lambda xs: lyapunov(cell, params, xs, k=2, report=True))
    both = look(xs)
    assert both.exponents.shape == both.standard_error.shape == (3, 2) and both.history.shape == (40, 3, 2)
    one = look(xs[:, 1])
    for name in ("exponents", "standard_error", "dimension"):
        np.testing.assert_allclose(getattr(both, name)[1], getattr(one, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lyapunov(cell, params, xs, k=2), both.exponents, rtol=1e-5)


def test_complex_carries_count_as_two_real_parts(float64, key):
    """An LRU is diagonal: log |lambda| of every channel, twice."""
    cell, xs = rj.LRU(3, state=4), jnp.zeros((30, 3))
    params = cell.init(key, xs[0])
    decays = cell.linear_maps(params, xs[0]).decay
    want = np.sort(np.repeat(np.log(np.abs(np.concatenate(jax.tree.leaves(decays)))), 2))[::-1]
    found = lyapunov(cell, params, jnp.zeros((4000, 3)), warm_up=2000)
    np.testing.assert_allclose(found, want, atol=1e-3)
    np.testing.assert_allclose(found.sum(), want.sum(), rtol=1e-9)


def test_it_has_a_gradient(float64):
    """d lambda_i / ds = 1/s for h' = s U h."""
    u = jnp.array([[0.3, -0.8], [0.9, 0.1]])
    of_scale = lambda s: lyapunov(lambda p, h, x: (s * h @ u, h), {}, jnp.zeros((6, 1)), carry=jnp.ones(2))
    np.testing.assert_allclose(jax.jit(jax.jacfwd(of_scale))(2.0), 0.5, rtol=1e-9)


@pytest.mark.slow
def test_its_gradient_is_that_of_finite_differences(float64, key):
    cell, xs = rj.Elman(3), jax.random.normal(key, (40, 2))
    params = cell.init(key, xs[0])
    first = jax.jit(lambda a: lyapunov(cell, params | {"recurrent": a * params["recurrent"]}, xs, k=2)[0])
    slope = (first(1.5 + 1e-5) - first(1.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(first)(1.5), slope, rtol=1e-6)


def test_kaplan_yorke():
    """By hand: an attractor, a map like Henon's, a sink, one that grows; and one of which too few exponents are known."""
    spectra = jnp.array([[0.3, 0.2, -0.1, -0.8], [0.4, -1.6, -2, -3], [-0.1, -0.2, -0.2, -0.3], [0.1, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(jax.jit(kaplan_yorke)(spectra), [3.5, 1.25, 0.0, 4.0], rtol=1e-6)
    few = jax.jit(lambda s: kaplan_yorke(s, size=5))(spectra)
    np.testing.assert_allclose(few, [3.5, 1.25, 0.0, np.nan], rtol=1e-6)


def test_what_float32_does_not_resolve_is_said():
    """Eigenvalues 1 and 1e-10, turned: in float32 the second is rounding. Each alone, or not turned far, it says nothing."""
    turn = jnp.array([[0.8, -0.6], [0.6, 0.8]])
    wide = lambda params, h, x: (turn @ (jnp.array([1.0, params]) * (turn.T @ h)), h)
    look = lambda small, **more: lyapunov(wide, small, jnp.zeros((20, 1)), carry=jnp.ones(2), warm_up=4, **more)
    with pytest.warns(RuntimeWarning, match="wider than float32 resolves: the smallest 1 of 2 exponents are rounding"):
        look(1e-10)
    np.testing.assert_allclose(look(1e-10, k=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(look(1e-3), [0.0, np.log(1e-3)], atol=1e-3)
    with pytest.warns(RuntimeWarning, match="smallest 1 of 2"):
        look(1e-3, every=4)


def test_float64_resolves_it(float64):
    turn = jnp.array([[0.8, -0.6], [0.6, 0.8]])
    wide = lambda params, h, x: (turn @ (jnp.array([1.0, 1e-10]) * (turn.T @ h)), h)
    got = lyapunov(wide, {}, jnp.zeros((20, 1)), carry=jnp.ones(2), warm_up=4)
    np.testing.assert_allclose(got, [0.0, np.log(1e-10)], atol=1e-4)


def test_lyapunov_errors():
    stay = lambda p, c, x: (c, c)
    with pytest.raises(ValueError, match="is a bare function; pass carry="):
        lyapunov(stay, {}, jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="k must be at most 2, the size of the carry, and warm_up below 3"):
        lyapunov(stay, {}, jnp.zeros((3, 1)), carry=jnp.ones(2), k=3)
    with pytest.raises(ValueError, match="warm_up below 9, the number of steps; got k=2, warm_up=9"):
        lyapunov(stay, {}, jnp.zeros((9, 1)), carry=jnp.ones(2), warm_up=9)
    with pytest.raises(ValueError, match="at least 4 steps after warm_up, got 3; give a longer xs"):
        lyapunov(stay, {}, jnp.zeros((9, 1)), carry=jnp.ones(2), warm_up=6)
    with pytest.raises(ValueError, match=r"at least 16 re-orthonormalisations .* got 10 \(40 steps, every=4\)"):
        lyapunov(stay, {}, jnp.zeros((40, 1)), carry=jnp.ones(2), every=4, report=True)
    with pytest.raises(TypeError, match=r"must be floating point, its part \['n'\] is int32"):
        lyapunov(stay, {}, jnp.zeros((9, 1)), carry={"h": jnp.ones(2), "n": jnp.zeros(2, int)})
    with pytest.raises(TypeError, match="Clockwork.* must be floating point"):
        cell = rj.Clockwork(4, periods=(1, 2))
        lyapunov(cell, cell.init(jax.random.key(0), jnp.zeros(3)), jnp.zeros((9, 3)))

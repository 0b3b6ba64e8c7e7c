"""`rj.unroll` itself: bare functions, pytrees, gradients through the options, and its messages.

That every cell obeys the table of sequence semantics is shown in test_zoo.py; here stands what no cell list shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax
from rnnjax.engine import Tuned
from rnnjax.engine.schedule import Schedule, Ways

T, B, I, H = 6, 3, 2, 4
CELL = rj.GRU(H)
XS = jax.random.normal(jax.random.key(0), (T, B, I))
PARAMS = CELL.init(jax.random.key(1), XS[0])


def leaky(params, carry, x):
    carry = params["keep"] * carry + x @ params["w"]
    return carry, {"h": carry, "twice": 2.0 * carry}


LEAKY = {"keep": jnp.asarray(0.5), "w": jax.random.normal(jax.random.key(2), (I, H))}


def test_bare_function_equals_the_closed_form():
    carry, ys = rj.unroll(leaky, LEAKY, XS, carry=jnp.ones((B, H)))
    h, want = np.ones((B, H)), []
    for x in np.asarray(XS):
        h = 0.5 * h + x @ np.asarray(LEAKY["w"])
        want.append(h)
    np.testing.assert_allclose(carry, h, rtol=1e-5)
    np.testing.assert_allclose(ys["h"], want, rtol=1e-5)
    np.testing.assert_allclose(ys["twice"], 2 * np.array(want), rtol=1e-5)


def test_bare_function_resets_to_the_given_carry():
    start = jnp.full((B, H), 3.0)
    reset = jnp.zeros((T, B), bool).at[4, 1].set(True)
    _, ys = rj.unroll(leaky, LEAKY, XS, carry=start, reset=reset)
    _, again = rj.unroll(leaky, LEAKY, XS[4:], carry=start)
    np.testing.assert_allclose(ys["h"][4:, 1], again["h"][:, 1], rtol=1e-5)


def test_cell_resets_to_its_own_start_not_to_the_given_carry():
    given = jnp.full((B, H), jnp.nan)
    reset = jnp.zeros((T, B), bool).at[0].set(True)
    carry, ys = rj.unroll(CELL, PARAMS, XS, carry=given, reset=reset)
    want = rj.unroll(CELL, PARAMS, XS)
    np.testing.assert_array_equal(carry, want[0])
    np.testing.assert_array_equal(ys, want[1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("every", [1, 2, 4, 10])
def test_truncate_cuts_gradients_where_it_says(every, reverse):
    """Gradient for the inputs of a linear memory: keep^(steps to the end of its own piece), by hand."""
    xs, last = jnp.ones((T, 1)), {"keep": jnp.asarray(0.5), "w": jnp.eye(1)}

    def final(xs):
        return rj.unroll(leaky, last, xs, carry=jnp.zeros(1), truncate=every, reverse=reverse)[0].sum()

    np.testing.assert_allclose(final(xs), sum(0.5**k for k in range(T)), rtol=1e-6)
    start_of_last_piece = (T - 1) // every * every
    want = np.array([0.5 ** (T - 1 - s) if s >= start_of_last_piece else 0.0 for s in range(T)])
    np.testing.assert_allclose(jax.grad(final)(xs)[:, 0], want[::-1] if reverse else want, rtol=1e-6)


def test_truncate_in_reverse_counts_from_the_end_of_each_sequence():
    lengths = jnp.array([6, 5, 2])

    def outputs(params, xs, lengths, reverse):
        return jnp.sum(rj.unroll(CELL, params, xs, lengths=lengths, truncate=2, reverse=reverse)[1] ** 2)

    got = jax.grad(outputs)(PARAMS, XS, lengths, True)
    total = [jax.grad(outputs)(PARAMS, XS[:n, b][::-1], None, False) for b, n in enumerate([6, 5, 2])]
    jax.tree.map(lambda g, *parts: np.testing.assert_allclose(g, sum(parts), atol=1e-5), got, *total)


@pytest.mark.parametrize("checkpoint", [4, "sqrt"])
def test_checkpoint_changes_nothing(checkpoint):
    def loss(params, xs, checkpoint):
        return jnp.sum(jnp.sin(rj.unroll(CELL, params, xs, checkpoint=checkpoint)[1]))

    got = jax.value_and_grad(loss, (0, 1))(PARAMS, XS, checkpoint)
    want = jax.value_and_grad(loss, (0, 1))(PARAMS, XS, None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize("method", ["scan", "loop"])
def test_no_steps_at_all(method):
    carry, ys = rj.unroll(rj.LSTM(H), rj.LSTM(H).init(jax.random.key(0), XS[0]), XS[:0], method=method)
    assert ys.shape == (0, B, H) and carry.c.shape == (B, H) and not carry.c.any()


def test_mask_and_lengths_must_both_hold():
    mask = jnp.arange(T)[:, None] != jnp.array([1, 2, 3])
    both = rj.unroll(CELL, PARAMS, XS, mask=mask, lengths=jnp.array([4, 0, 6]))
    one = rj.unroll(CELL, PARAMS, XS, mask=mask & (jnp.arange(T)[:, None] < jnp.array([4, 0, 6])))
    jax.tree.map(np.testing.assert_array_equal, both, one)


def test_a_reset_holds_at_a_masked_step_and_means_nothing_beyond_a_length():
    mask = jnp.ones((T, B), bool).at[2:].set(False)
    reset = jnp.zeros((T, B), bool).at[3].set(True)
    carry, ys = rj.unroll(CELL, PARAMS, XS, mask=mask, reset=reset)
    assert not carry.any() and ys[:2].all()
    padded = rj.unroll(CELL, PARAMS, XS, lengths=jnp.full(B, 2), reset=reset)
    jax.tree.map(np.testing.assert_array_equal, padded, rj.unroll(CELL, PARAMS, XS, lengths=jnp.full(B, 2)))


def test_lengths_of_the_outer_batch_axis_serve_all_inner_ones():
    xs = jnp.stack([XS, -XS], axis=2)
    carry, ys = rj.unroll(CELL, PARAMS, xs, lengths=jnp.array([2, 0, 6]))
    want = rj.unroll(CELL, PARAMS, xs, lengths=jnp.array([[2, 2], [0, 0], [6, 6]]))
    jax.tree.map(np.testing.assert_array_equal, (carry, ys), want)


def test_carry_keeps_one_dtype_and_promotes():
    """A low-precision carry handed to float32 parameters is promoted once, not at every step, and not refused."""
    with jax.numpy_dtype_promotion("standard"):
        carry, ys = rj.unroll(CELL, PARAMS, XS, carry=jnp.zeros((B, H), jnp.bfloat16))
    assert carry.dtype == ys.dtype == jnp.float32
    np.testing.assert_array_equal(ys, rj.unroll(CELL, PARAMS, XS)[1])


@pytest.mark.parametrize("method", ["scan", "loop"])
def test_a_carry_of_pythons_numbers_settles_before_the_loop(method):
    """The last part is float after one step, the first after four: all are so from the start."""

    def shift(params, carry, x):
        return (*carry[1:], carry[-1] + 0.5 * x), carry[0]

    carry, ys = rj.unroll(shift, {}, jnp.arange(6.0), carry=(0, 0, 0, 0), method=method)
    assert {part.dtype for part in (*carry, ys)} == {jnp.dtype(jnp.float32)}
    assert [float(part) for part in carry] == [1.5, 3.0, 5.0, 7.5] and ys.tolist() == [0, 0, 0, 0, 0, 0.5]


def test_keys_in_the_carry_and_integer_parts():
    def walk(params, carry, x):
        key, n = carry
        key, now = jax.random.split(key)
        return (key, n + 1), jax.random.normal(now) + x[0]

    (key, n), ys = rj.unroll(walk, {}, XS[:, 0], carry=(jax.random.key(7), 0))
    want_key, want = jax.random.key(7), []
    for x in XS[:, 0]:
        want_key, now = jax.random.split(want_key)
        want.append(jax.random.normal(now) + x[0])
    np.testing.assert_allclose(ys, jnp.stack(want), rtol=1e-5, atol=1e-6)
    assert int(n) == T and (jax.random.key_data(key) == jax.random.key_data(want_key)).all()


def test_per_step_keys_do_not_depend_on_the_stack_being_unrolled_layer_by_layer():
    cell = rj.Stack(rj.Dropout(rj.GRU(H), 0.5), rj.Dropout(rj.GRU(H), 0.5))
    params = cell.init(jax.random.key(0), XS[0])
    how = dict(key=jax.random.key(5), lengths=jnp.array([6, 0, 3]))
    scan, loop = (rj.unroll(cell, params, XS, method=m, **how) for m in ("scan", "loop"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), scan, loop)
    assert not np.allclose(scan[1], rj.unroll(cell, params, XS, lengths=how["lengths"])[1])


def test_ensembles_by_vmap_over_parameters():
    many = jax.vmap(lambda k: CELL.init(k, XS[0]))(jax.random.split(jax.random.key(3), 2))
    ys = jax.vmap(lambda p: rj.unroll(CELL, p, XS)[1])(many)
    for n in range(2):
        one = rj.unroll(CELL, jax.tree.map(lambda a, n=n: a[n], many), XS)[1]
        np.testing.assert_allclose(ys[n], one, atol=1e-6)


# -- fuse --------------------------------------------------------------------------------------------------------------

BLOCKS = Tuned(True, Ways(Schedule(3), Schedule(3)), True, T, ("float32[3,4]",), ("float32[3,2]",))  # of two steps


def loops(f, *args):
    """The lengths of all loops, and how many products stand in them."""
    scans = [e for e in _jax.equations(jax.make_jaxpr(f)(*args).jaxpr) if e.primitive.name == "scan"]
    inside = [e for s in scans for e in _jax.equations(_jax.open_jaxpr(_jax.loop_of_scan(s).body)[0])]
    return [_jax.loop_of_scan(s).length for s in scans], sum(e.primitive.name == "dot_general" for e in inside)


def test_fuse_reaches_the_loop():
    run = lambda fuse: loops(lambda xs: rj.unroll(CELL, PARAMS, xs, fuse=fuse), XS)
    assert run(True) == ([T], 1) and run(False) == ([T], 2)  # h @ U in the loop; x @ W too
    assert run(BLOCKS)[0] == [3, 2]


@pytest.mark.parametrize(
    "how", [{}, dict(lengths=jnp.array([6, 0, 3])), dict(reset=jnp.ones((T, B), bool)), dict(reverse=True)]
)
def test_a_plan_for_the_bare_step_holds_under_every_option(how, recwarn):
    got = jax.jit(lambda p, xs: rj.unroll(CELL, p, xs, fuse=BLOCKS, **how))(PARAMS, XS)
    want = rj.unroll(CELL, PARAMS, XS, method="loop", **how)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)
    assert loops(lambda xs: rj.unroll(CELL, PARAMS, xs, fuse=BLOCKS, **how), XS)[0] == [3, 2]
    assert not recwarn.list


def test_tuned_on_the_bare_step_as_documented(recwarn):
    plan = rj.tune(lambda h, x: CELL(PARAMS, h, x), jnp.zeros((B, H)), XS, gradient=False, verbose=False)
    got = rj.unroll(CELL, PARAMS, XS, fuse=plan)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, rj.unroll(CELL, PARAMS, XS, method="loop")
    )
    assert not recwarn.list


@pytest.mark.parametrize("fuse", [False, "hoist", BLOCKS])
@pytest.mark.parametrize("method", ["loop", "associative", "deer", "quasi_deer", "elk"])
def test_fuse_belongs_to_scan(method, fuse):
    with pytest.raises(ValueError, match=rf"GRU\(4\): fuse= belongs to method='scan', got .* with method='{method}'"):
        rj.unroll(CELL, PARAMS, XS, method=method, fuse=fuse)


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        (
            dict(lengths=jnp.array([1.0, 2.0, 3.0])),
            TypeError,
            r"GRU\(4\): lengths must be integers \[\*B\], got dtype float",
        ),
        (dict(lengths=[1, 2]), ValueError, r"lengths has batch axes \(2,\), which xs of shape \(6, 3, 2\)"),
        (dict(lengths=[1, 2, 7]), ValueError, r"lengths must lie in 0..T=6, got 1..7"),
        (dict(mask=jnp.ones((T, B))), TypeError, "mask must be bool"),
        (
            dict(mask=jnp.ones((B, T), bool)),
            ValueError,
            r"mask must be \[T, \*B\] with T=6 at axis 0, got shape \(3, 6\)",
        ),
        (dict(reset=jnp.ones((T, 5), bool)), ValueError, r"reset has batch axes \(5,\)"),
        (dict(carry=jnp.zeros((B, 9))), ValueError, r"GRU\(4\): carry must have shape \(3, 4\)"),
        (dict(carry=(jnp.zeros((B, H)),)), TypeError, r"GRU\(4\): carry must be one array \[\*B, 4\], got tuple"),
        (dict(truncate=0), ValueError, "truncate must be None or an int of at least 1"),
        (dict(checkpoint=0), ValueError, "checkpoint must be None, an int >= 1 or"),
        (dict(method="scna"), ValueError, "method must be one of .*did you mean 'scan'"),
        (dict(time_axis=-1), ValueError, "time_axis must be an int counted from the front"),
        (dict(time_axis=3), ValueError, "has no time axis 3"),
    ],
)
def test_messages(how, error, match):
    with pytest.raises(error, match=match):
        rj.unroll(CELL, PARAMS, XS, **how)


def test_messages_for_functions():
    with pytest.raises(TypeError, match=r"LSTM\(4\): carry must be LSTMCarry\(h, c\), got tuple"):
        rj.unroll(
            rj.LSTM(H), rj.LSTM(H).init(jax.random.key(0), XS[0]), XS, carry=(jnp.zeros((B, H)), jnp.zeros((B, H)))
        )
    with pytest.raises(ValueError, match="leaky: a bare function has no initial carry; pass carry="):
        rj.unroll(leaky, LEAKY, XS)
    with pytest.raises(TypeError, match="leaky: got a key but takes none"):
        rj.unroll(leaky, LEAKY, XS, carry=jnp.zeros((B, H)), key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"must return \(carry, y\)"):
        rj.unroll(lambda p, c, x: c, {}, XS, carry=jnp.zeros((B, H)))
    with pytest.raises(ValueError, match="the carry must keep its shape"):
        rj.unroll(lambda p, c, x: (c + x, c), {}, XS, carry=jnp.zeros(I))
    with pytest.raises(ValueError, match="carry of the structure it got"):
        rj.unroll(lambda p, c, x: ((c, c), c), {}, XS, carry=jnp.zeros((B, I)))
    with pytest.raises(ValueError, match="disagree on the number of steps"):
        rj.unroll(CELL, PARAMS, {"a": XS, "b": XS[1:]})
    with pytest.raises(ValueError, match="xs has no arrays"):
        rj.unroll(CELL, PARAMS, None)
    with pytest.raises(TypeError, match="xs must hold arrays"):
        rj.unroll(CELL, PARAMS, [[1.0, 2.0]])


def last_by_hand(ys, valid, reverse):
    out = np.zeros(ys.shape[1:], ys.dtype)
    for b in np.ndindex(valid.shape[1:]):
        at = np.flatnonzero(valid[(slice(None), *b)])
        if len(at):
            out[b] = ys[(at[0 if reverse else -1], *b)]
    return out


@pytest.mark.parametrize("reverse", [False, True])
def test_last_output_is_that_of_the_valid_step_read_last(reverse):
    rng = np.random.default_rng(0)
    ys = rng.normal(size=(5, 2, 3, 4)).astype(np.float32)
    lengths, mask = np.array([[5, 0, 2], [1, 4, 3]]), rng.random((5, 2, 3)) < 0.5
    inside = np.arange(5)[:, None, None] < lengths
    for options, valid in (
        (dict(lengths=lengths), inside),
        (dict(mask=mask), mask),
        (dict(lengths=lengths, mask=mask), inside & mask),
        ({}, np.ones((5, 2, 3), bool)),
    ):
        junk = np.where(valid[..., None], ys, np.nan)
        want = last_by_hand(ys, valid, reverse)
        got, slope = jax.value_and_grad(lambda y: jnp.sum(rj.last_output(y, reverse=reverse, **options) ** 2))(junk)
        np.testing.assert_array_equal(rj.last_output(junk, reverse=reverse, **options), want)
        assert np.isfinite(slope).all() and np.isclose(got, np.sum(want**2))
    first = np.moveaxis(ys[:, 0], 0, 1)  # [B, T, O]
    want = last_by_hand(ys[:, 0], inside[:, 0], reverse)
    np.testing.assert_array_equal(rj.last_output(first, lengths=lengths[0], time_axis=1, reverse=reverse), want)


def test_last_output_of_whole_ints_bools_and_of_nothing():
    ys = {"n": jnp.arange(6).reshape(3, 2), "b": jnp.array([[True, False]] * 3)}
    got = rj.last_output(ys, lengths=jnp.array([2, 0]))
    assert got["n"].tolist() == [2, 0] and got["b"].tolist() == [True, False]
    assert rj.last_output(jnp.zeros((0, 2, 3))).shape == (2, 3)
    with pytest.raises(ValueError, match="last_output: lengths has batch axes"):
        rj.last_output(jnp.zeros((3, 2)), lengths=jnp.zeros(4, int))

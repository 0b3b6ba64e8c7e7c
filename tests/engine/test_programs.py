"""Random programs against `lax.scan` and a Python loop, and one small test for each kind of mistake they have found."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine import programs
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from several import on_devices

import rnnjax as rj

FUSE = [True, "all", "hoist", "defer"]


def rand(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32") * 0.5


W, U, H0, XS = rand(0, 3, 4), rand(1, 4, 4), rand(2, 2, 4), rand(3, 5, 2, 3)


def assert_same(of, rtol=2e-4):
    """`of(scan)`, a pytree, by `lax.scan` and by ours in every mode; one compiled program."""
    scans = [lax.scan, *(functools.partial(rj.scan, fuse=fuse) for fuse in FUSE)]
    want, *found = jax.jit(lambda: [of(scan) for scan in scans])()
    for fuse, got in zip(FUSE, found, strict=True):
        for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=str(fuse))


def run_programs(start: int, count: int) -> None:
    ran = on_devices(2, "tests/engine/programs.py", "--start", str(start), "--count", str(count))
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert f"{count} programs" in ran.stdout


def test_random_programs():
    run_programs(0, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "count"), [(3, 13), *(pytest.param(n, 100, marks=pytest.mark.long) for n in (100, 200))]
)
def test_many_random_programs(start, count):
    run_programs(start, count)


def test_a_difference_is_seen():
    """The comparison can fail: a program whose results are changed a little does not hold."""
    program = programs.draw(0)
    values = [jnp.arange(3.0), jnp.ones(2)]
    programs.compare(program, values, values, "itself")
    with pytest.raises(programs.Failure, match="result 1 of 2"):
        programs.compare(program, values, [values[0], values[1] + 0.01], "another")


def lanes(f):
    """The sum over two lanes of a loss of `(u, h, xs)`, and its gradient for all three, which batches before it transposes."""

    def loss(u, h, xs):
        return jnp.sum(jax.vmap(f, (None, 0, 1, 0))(u, h, xs, jnp.arange(H0.shape[0])) ** 2)

    return jax.value_and_grad(loss, (0, 1, 2))(U, H0, XS)


@pytest.mark.parametrize("where", ["carry", "x", "weight", "inner loop"])
def test_custom_vjp_in_a_batch(where):
    """A spiking cell in a user's vmapped batch: the linear part of a custom_vjp function is batched, then transposed."""

    def of(scan):
        def f(u, h, xs, _):
            def body(h, x):
                a = {"carry": h, "x": x @ W, "weight": u, "inner loop": h}[where]
                s = programs.spike(a) if where != "inner loop" else lax.map(programs.spike, a)
                h = jnp.tanh(h @ u + x @ W + (s if where != "weight" else h @ s))
                return h, h * s if where != "weight" else h

            return scan(body, h, xs)[1]

        return lanes(f), jax.vmap(jax.grad(lambda u, h, xs: jnp.sum(f(u, h, xs, 0) ** 2)), (None, 0, 1))(U, H0, XS)

    assert_same(of)


@pytest.mark.parametrize("form", ["switch", "cond", "nested"])
def test_branch_of_each_lane(form):
    """An index that becomes batched turns a cond into a select of its operands and their stop_gradient."""

    def of(scan):
        def f(u, h, xs, n):
            def body(c, x):
                n, h = c
                if form == "switch":
                    new = lax.switch(
                        n % 3, [lambda h: jnp.tanh(x @ W + h @ u), lambda h: jnp.sin(h @ u), lambda h: h * 0.5], h
                    )
                else:
                    new = lax.cond(n % 2 == 0, lambda h: jnp.tanh(x @ W + h @ u), lambda h: programs.spike(h @ u), h)
                if form == "nested":
                    new = scan(lambda h, y: (lax.cond(n > 1, jnp.sin, jnp.cos, h + y),) * 2, new, jnp.stack([new, h]))[
                        0
                    ]
                return (n + 1, new), new

            return scan(body, (n, h), xs)[1]

        return lanes(f), jax.vjp(jax.vmap(f, (None, 0, 1, 0)), U, H0, XS, jnp.arange(2))[0]

    assert_same(of)


def test_branches_not_taken_do_not_poison_a_lane():
    """The slope of a branch that a lane does not take may be infinite there."""

    def of(scan):
        def f(u, h, xs, n):
            body = lambda h, x: (lax.cond(n == 0, lambda h: jnp.sqrt(h - h), lambda h: jnp.tanh(h @ u + x @ W), h),) * 2
            return scan(body, h, xs)[1] * n.astype(h.dtype)

        return lanes(f)

    assert_same(of)


def test_jvp_of_custom_vjp_in_a_batch_raises():
    """As with `lax.scan`: forward mode has nothing to run."""
    body = lambda h, x: (jnp.tanh(programs.spike(h @ U) + x @ W),) * 2
    f = lambda h: jax.vmap(lambda h, xs: rj.scan(body, h, xs)[1], (0, 1))(h, XS)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(f, (H0,), (H0,))


def test_integers_that_vary_over_devices():
    """The tangent of an integer carry varies as the carry does."""
    if jax.device_count() < 2:
        ran = on_devices(2, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "integers_that_vary")
        assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout + ran.stderr
        return
    mesh = programs.two_devices()

    def of(scan):
        def f(u, h, xs):
            def body(c, x):
                n, h = c
                h = jnp.tanh(x @ W + h @ u)
                return (n + jnp.argmax(h).astype(jnp.int32), h), h * n.astype(h.dtype)

            (_, h), ys = scan(body, (lax.axis_index("devices").astype(jnp.int32), h), xs)
            return lax.psum(jnp.sum(ys**2) + jnp.sum(h), "devices")

        specs = (PartitionSpec(), PartitionSpec("devices"), PartitionSpec(None, "devices"))
        return jax.grad(jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=PartitionSpec()), (0, 1, 2))(U, H0, XS)

    assert_same(of)


def test_a_switch_on_an_index_of_each_device():
    """Its branches read a weight that is the same on all devices: for all steps at once they are not all taken."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Auto,))

    def of(scan):
        def f(u, h, xs):
            def body(c, x):
                n, h = c
                other = lambda h: jnp.sin(h) * u[0, 0]
                new = lax.switch(n % 2, [lambda h: jnp.tanh(h @ u), other], jnp.tanh(h[:, ::-1]))
                return (n + 1, h * 0.5 + new + x @ W), h

            (_, h), ys = scan(body, (lax.axis_index("devices").astype(jnp.int32), h), xs)
            return h, ys

        specs = (PartitionSpec(), PartitionSpec("devices"), PartitionSpec(None, "devices"))
        out = (PartitionSpec("devices"), PartitionSpec(None, "devices"))
        mapped = jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=out)
        at = tuple(map(jnp.asarray, (U, H0, XS)))
        return jax.jvp(mapped, at, jax.tree.map(jnp.cos, at))

    assert_same(of)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("length", [0, 1])
def test_no_steps(length, dtype):
    """A scan over nothing has a gradient too, of the carry it hands on."""

    def of(scan):
        options = dict(matmul_dtype=dtype) if dtype is not None and scan is not lax.scan else {}
        f = lambda u, h, xs: scan(lambda h, x: (jnp.tanh(x @ W + h @ u),) * 2, h, xs, **options)
        out, pull = jax.vjp(f, U, H0, XS[:length])
        return out, pull(out), jax.jvp(f, (U, H0, XS[:length]), (U, H0, XS[:length]))

    assert_same(of, 2e-4 if dtype is None else 3e-2)


@pytest.mark.parametrize("hoisted", [False, True])
def test_products_of_another_dtype_beside_a_named_axis(hoisted):
    """To be inside a named axis is no effect; each lane's weight gradient is a product of a form XLA may not have."""

    def of(scan):
        options = dict(matmul_dtype=jnp.bfloat16) if scan is not lax.scan else {}

        def f(u, h, xs):
            def body(h, x):
                z = x @ W + h @ u
                h = jnp.tanh(z if hoisted else lax.pmean(z, "lanes"))
                return h, h + lax.pmean(jnp.sum(x @ W), "lanes")

            return scan(body, h, xs, **options)[1]

        loss = lambda u, h, xs: jnp.sum(jax.vmap(f, (None, 0, 1), axis_name="lanes")(u, h, xs) ** 2)
        each = jax.vmap(jax.grad(lambda u, h, xs: jnp.sum(f(u, h, xs) ** 2)), (None, 0, 1), axis_name="lanes")
        return jax.value_and_grad(loss, (0, 1, 2))(U, H0, XS), each(U, H0, XS)

    assert_same(of, 0.2)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint], ids=["jit", "checkpoint"])
def test_a_named_axis_outlives_the_vmap_that_names_it(wrap):
    """The rule runs when the batched loop is differentiated, outside the `vmap`."""

    w, u, h0, xs0 = map(jnp.asarray, (W, U, H0, XS))

    def of(scan):
        body = lambda h, x: (jnp.tanh(x @ w + lax.pmean(h @ u, "lanes")),) * 2
        f = wrap(lambda h: jax.vmap(lambda h, xs: scan(body, h, xs)[1], (0, 1), axis_name="lanes")(h, xs0))
        return jax.vjp(f, h0)[1](f(h0)), jax.jvp(f, (h0,), (h0,))

    assert_same(of)


@pytest.mark.parametrize("scan", [lax.scan, rj.scan], ids=["lax.scan", "rj.scan"])
def test_a_gather_placed_by_hand_of_what_the_carry_says(scan):
    """Its inside is traced for a mesh with automatic axes: it cannot be taken apart, and runs as `lax.scan` runs it."""
    mesh = jax.sharding.AbstractMesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
    placed = lambda dtype, *shape, spec=PartitionSpec(): jax.ShapeDtypeStruct(
        shape, dtype, sharding=jax.sharding.NamedSharding(mesh, spec)
    )
    rows = PartitionSpec("batch", None)

    def loss(table, w, tokens, h):
        def step(carry, _):
            tokens, h = carry
            x = table.at[tokens].get(out_sharding=jax.sharding.NamedSharding(mesh, rows))
            h = jnp.tanh((x + h) @ w)
            return (h.argmax(-1).astype(tokens.dtype), h), h

        return jnp.sum(scan(step, (tokens, h), None, length=6)[1] ** 2)

    given = (placed("float32", 10, 4), placed("float32", 4, 4), placed("int32", 8, spec=PartitionSpec("batch")))
    with jax.sharding.use_abstract_mesh(mesh):
        grads = jax.eval_shape(jax.grad(loss, (0, 1)), *given, placed("float32", 8, 4, spec=rows))
    assert [g.shape for g in grads] == [(10, 4), (4, 4)]


@pytest.mark.parametrize(
    "way", ["emitted", *(pytest.param(w, marks=pytest.mark.slow) for w in ("carry", "inner loop", "after"))]
)
def test_forward_mode_beside_a_rule_that_has_none(way):
    """What no tangent reaches, step after step, has none: a custom_vjp function may stand there, as in `lax.scan`."""

    def of(scan):
        def f(u):
            def body(carry, x):
                h, still = carry
                s = lax.scan(lambda a, _: (programs.spike(a) + 0.3, a), still, None, 2)[0]
                s = s if way == "inner loop" else programs.spike(still)
                h = jnp.tanh(h @ u + x @ W + (still if way == "after" else s))
                y = {"emitted": programs.spike(still) * 2, "after": still}.get(way, h)
                return (h, jnp.sin(still + (0 if way == "after" else s))), (y, h)

            (h, still), (ys, hs) = scan(body, (H0, H0 * 2), XS)
            return h, still, ys, hs, programs.spike(ys) if way == "after" else h

        turned = jax.vmap(lambda k: jax.jvp(f, (U * k,), (U,)))(jnp.array([1.0, 0.5]))
        return jax.jvp(f, (U,), (U.T,)), turned, jax.vjp(f, U)[1](f(U))

    assert_same(of)


def test_a_carry_without_tangent_is_not_carried_in_the_tangents_loop():
    """Of two carries that never meet, only the one whose tangent is there is differentiated."""
    loop = lambda u: rj.scan(lambda c, x: ((jnp.tanh(c[0] @ u + x @ W), jnp.sin(c[1])), c[1]), (H0, H0), XS)
    grown = jax.make_jaxpr(lambda u: jax.jvp(loop, (u,), (u,)))(U)
    sines = sum(str(grown).count(f" {name} ") for name in ("cos", "sin"))
    assert sines == 1, grown  # its value in the loop, and no slope

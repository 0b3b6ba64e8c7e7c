"""Convolutions with derivatives of our own: the same numbers as JAX's, in any order of axes; and what a loop is left with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rnnjax as rj
from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.execute.convolution import of_kernel, of_operand, rewritten, run_smooth

FAST = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO, NHWC: what XLA's fast kernels take, in a loop too


def drawn(seed):
    """(convolution, operand, kernel): axes in any order, one to three of them in space, strides, dilations, padding."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4))
    order = lax.ConvDimensionNumbers(*(tuple(map(int, rng.permutation(d + 2))) for _ in range(3)))
    images, inner, outer = rng.integers(1, 4, 3)

    def array(spec, sizes):
        return rng.normal(size=[int(sizes[spec.index(axis)]) for axis in range(d + 2)])

    x = array(order.lhs_spec, [images, inner, *rng.integers(3, 7, d)])
    w = array(order.rhs_spec, [outer, inner, *rng.integers(1, 4, d)])
    steps = lambda: tuple(map(int, rng.integers(1, 3, d)))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(-1, 3, (d, 2)))
    form = dict(window_strides=steps(), padding=padding, lhs_dilation=steps(), rhs_dilation=steps())
    return lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=order, **form), x, w


def equation(f, *args):
    eqns = to_graph(jax.make_jaxpr(f)(*args)).eqns
    return next(e for e in eqns if e.name == "conv_general_dilated")


@pytest.mark.parametrize("seeds", [range(8)], ids=["8 drawn"])
def test_both_forms_are_the_convolution(float64, seeds):
    met = 0
    for seed in seeds:
        f, x, w = drawn(seed)
        eqn = equation(f, x, w)
        if not rewritten(eqn):
            assert 0 in eqn.outs[0].shape
            continue
        met += 1
        for form in (of_operand, of_kernel):
            np.testing.assert_allclose(form(eqn, x, w), f(x, w), atol=1e-12, err_msg=str(seed))
    assert met >= 6


@pytest.mark.parametrize("seed", [0, 3])
def test_derivatives_to_the_second_order_are_those_of_jax(float64, seed):
    f, x, w = drawn(seed)
    eqn = equation(f, x, w)
    assert rewritten(eqn)

    def second(f):
        return jax.jvp(jax.grad(lambda x, w: jnp.sum(f(x, w) ** 3), (0, 1)), (x, w), (x, w))

    ours = second(lambda x, w: run_smooth(eqn, [x, w])[0])
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(second(f)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_what_is_left_alone():
    """Groups, half types, whole numbers, nothing to compute, a kernel of more than 49 places."""
    conv = lambda x, w, **how: lax.conv_general_dilated(x, w, (1,), how.pop("padding", "SAME"), **how)
    x, w = jnp.ones((2, 4, 5)), jnp.ones((4, 4, 3))
    assert rewritten(equation(conv, x, w))
    assert not rewritten(equation(lambda x, w: conv(x, w, feature_group_count=2), x, w[:, :2]))
    assert not rewritten(equation(lambda x, w: conv(x, w, batch_group_count=2), x, w))
    assert not rewritten(equation(conv, x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)))
    assert not rewritten(equation(conv, x.astype(int), w.astype(int)))
    assert not rewritten(equation(lambda x, w: conv(x, w, padding="VALID"), x[..., :2], w))
    assert not rewritten(equation(conv, x, jnp.ones((4, 4, 50))))


@pytest.mark.parametrize("cell", [rj.ConvLSTM(3), rj.ConvGRU(3)], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("steps", [6, 64], ids=["whole", "in blocks"])
def test_no_loop_is_left_with_a_slow_order_of_axes(cell, steps):
    """A gradient in reverse mode: every convolution that stands in a loop has the order that is fast there."""
    xs = jnp.ones((steps, 2, 12, 12, 2)) if steps == 6 else jnp.ones((steps, 16, 24, 24, 2))
    params = jax.eval_shape(cell.init, jax.random.key(0), xs[0])
    loss = lambda params, xs: jnp.sum(rj.unroll(cell, params, xs)[1])
    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, xs).jaxpr
    loops = [e for e in _jax.equations(jaxpr) if e.primitive.name == "scan"]
    inside = [e for loop in loops for sub in _jax.sub_jaxprs(loop.params) for e in _jax.equations(sub)]
    convolutions = [e for e in inside if e.primitive.name == "conv_general_dilated"]
    assert convolutions
    for eqn in convolutions:
        form = _jax.convolution(eqn.params)
        assert (form.operand, form.kernel, form.out) == FAST, eqn

"""Convolutions whose derivatives are fast in a loop too.

    y[p] = sum_k x[s p + k] @ w[k]        so        dy[p] = sum_k dx[s p + k] @ w[k] + x[s p + k] @ dw[k]

XLA brings a convolution into the order of axes that its fast kernels on a CPU take, (images, space, features), in the main
part of a program alone and not in a loop. A forward pass mostly has that order. The transposes that JAX makes of it have
another, and in a loop last 10 to 100 times as long. So the first sum is one product with patches of dx, which is fast
whichever way it is transposed, and the second a convolution in such an order that its transpose has the fast one.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnnjax import _jax
from rnnjax.engine.graph import Eqn, run_eqn

PLACES = 49  # of a kernel, at most: a patch is as many times as large as what it is taken from
WIDE = ("float32", "float64", "complex64", "complex128")


def run_smooth(eqn: Eqn, values: list) -> list:
    """An equation on values; a convolution with derivatives of this file."""
    if not rewritten(eqn):
        return run_eqn(eqn, values)

    @jax.custom_jvp
    def convolve(x, w):
        return run_eqn(eqn, [x, w])[0]

    def rule(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        parts = [] if isinstance(dx, SymbolicZero) else run_linear(eqn, [dx, w], 0)
        parts += [] if isinstance(dw, SymbolicZero) else run_linear(eqn, [x, dw], 1)
        out = convolve(x, w)
        return out, sum(parts[1:], parts[0]) if parts else _jax.no_tangent(out)

    convolve.defjvp(rule, symbolic_zeros=True)
    return [convolve(*values)]


def run_linear(eqn: Eqn, values: list, place: int) -> list:
    """An equation on values, linear in that at `place`: a tangent, to be transposed."""
    if not rewritten(eqn):
        return run_eqn(eqn, values)
    return [(of_operand if place == 0 else of_kernel)(eqn, *values)]


def rewritten(eqn: Eqn) -> bool:
    """Whether an equation is a convolution that this file serves: on a CPU, without groups, placed by no explicit mesh, and
    not in a half type."""
    if eqn.name != "conv_general_dilated" or eqn.low is not None or jax.default_backend() != "cpu":
        return False
    form, out = _jax.convolution(eqn.params), eqn.outs[0]
    x, w = (a.aval for a in eqn.ins)
    if form.groups != (1, 1) or not (x.dtype == w.dtype == out.dtype and str(x.dtype) in WIDE) or 0 in out.shape:
        return False
    places = math.prod(w.shape[d] for d in form.kernel[2:])
    return 0 < places <= PLACES and all(_jax.placement(a) is None for a in (x, w))


def of_operand(eqn: Eqn, dx: jax.Array, w: jax.Array) -> jax.Array:
    """The convolution as one product: patches of the operand, all places of the kernel side by side."""
    form = _jax.convolution(eqn.params)
    dx = lax.transpose(dx, (form.operand[0], *form.operand[2:], form.operand[1]))
    w = lax.transpose(w, (*form.kernel[2:], form.kernel[1], form.kernel[0]))
    widths = [(low, high, step - 1) for (low, high), step in zip(form.padding, form.spread, strict=True)]
    dx = lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *widths, (0, 0, 0)])
    sizes = [eqn.outs[0].shape[d] for d in form.out[2:]]
    pieces = []
    for place in np.ndindex(*w.shape[:-2]):
        start = [k * step for k, step in zip(place, form.dilation, strict=True)]
        stop = [a + (n - 1) * step + 1 for a, n, step in zip(start, sizes, form.strides, strict=True)]
        pieces.append(lax.slice(dx, (0, *start, 0), (dx.shape[0], *stop, dx.shape[-1]), (1, *form.strides, 1)))
    patches = lax.concatenate(pieces, dx.ndim - 1)
    kernel = lax.reshape(w, (patches.shape[-1], w.shape[-1]))
    out = lax.dot_general(patches, kernel, (((dx.ndim - 1,), (0,)), ((), ())), precision=form.precision)
    return lax.transpose(out, np.argsort([form.out[0], *form.out[2:], form.out[1]]))


def of_kernel(eqn: Eqn, x: jax.Array, dw: jax.Array) -> jax.Array:
    """The convolution in an order whose transpose, the kernel's gradient, reads (features, space, images) of the operand and
    (space, images, features) of the cotangent: what XLA takes for images, space, features."""
    form = _jax.convolution(eqn.params)
    x = lax.transpose(x, (form.operand[1], *form.operand[2:], form.operand[0]))
    dw = lax.transpose(dw, (form.kernel[1], *form.kernel[2:], form.kernel[0]))
    last = x.ndim - 1
    space = tuple(range(1, last))
    order = lax.ConvDimensionNumbers((last, 0, *space), (last, 0, *space), (last - 1, last, *range(last - 1)))
    out = lax.conv_general_dilated(
        x, dw, form.strides, form.padding, form.spread, form.dilation, order, precision=form.precision
    )
    return lax.transpose(out, np.argsort([*form.out[2:], form.out[0], form.out[1]]))

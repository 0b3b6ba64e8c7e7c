"""Convolutional cells: states that are images (or signals, or volumes). ConvLSTM and ConvGRU in one to three dimensions."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import (
    Key,
    cell,
    check_carry,
    check_choice,
    check_input,
    check_params,
    check_size,
    name_of,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.options import check_fields

LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def convolve(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...] | None = None,
    padding: str = "same",
    dilation: tuple[int, ...] | None = None,
) -> jax.Array:
    """``x * w``, without options with zeros around and the size kept: ``x [*B, *S, I]``, ``w [*K, I, O]`` -> ``[*B, *S, O]``."""
    n = w.ndim - 2
    batch, image = x.shape[: x.ndim - n - 1], x.shape[x.ndim - n - 1 :]
    how = {"rhs_dilation": dilation, "dimension_numbers": LAYOUT[n]}
    y = jax.lax.conv_general_dilated(
        x.reshape(math.prod(batch), *image), w, strides or (1,) * n, padding.upper(), **how
    )
    return y.reshape(*batch, *y.shape[1:])


class ConvLSTMCarry(NamedTuple):
    """h ``[*B, *S', H]``: what the cell shows. c ``[*B, *S', H]``: what it remembers. S': the size after the input's convolution."""

    h: jax.Array
    c: jax.Array


@published(family="convolutional", paper="Shi et al. 2015, arXiv:1506.04214", year=2015)
@cell
class ConvLSTM:
    """LSTM on images: products with weights become convolutions ``*``, peepholes one weight a pixel.

    ``i = sigmoid(x * W_i + h * U_i + p_i c + b_i)``; ``f = sigmoid(x * W_f + h * U_f + p_f c + b_f)``;
    ``c' = f c + i tanh(x * W_g + h * U_g + b_g)``; ``o = sigmoid(x * W_o + h * U_o + p_o c' + b_o)``; ``h' = o tanh(c')``; ``y = h'``.

    features: H channels. kernel: size K, an int or one for each dimension. dims: number of spatial dimensions S, 1 to 3.
    peephole: p, as in the paper, for which the size of the image is fixed at init; keras and most ports have none.
    forget_bias: of b_f at the start (keras too; the paper says nothing).
    strides, dilation, padding ("same" or "valid"): of the input's convolution, which makes the size S' from S, each number an int or one
    for each dimension; the state's convolution keeps S' (as in Keras; flax gives its strides to both).
    activation, gate_activation: as of `LSTM`.
    x: ``[*B, *S, I]``, channels last. params: ``input`` W ``[*K, I, 4H]``, ``recurrent`` U ``[*K, H, 4H]``, ``bias`` b ``[4H]``, blocks
    (i, f, g, o) as in `LSTM`, ``peephole`` p ``[3, *S', H]`` (i, f, o). carry: ``ConvLSTMCarry(h, c)``. y: ``[*B, *S', H]``. Zeros
    surround the image, but with "valid" that of the input.

    Start: W lecun, U orthogonal, p zero. Errors: ValueError/TypeError for bad sizes, dims, kernels or shapes.
    Source: Shi et al. 2015, arXiv:1506.04214.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.ConvLSTM(4), jnp.ones((5, 2, 8, 8, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 2, 8, 8, 4)
    """

    features: int
    _: KW_ONLY
    kernel: int | tuple[int, ...] = 3
    dims: int = 2
    peephole: bool = True
    forget_bias: float = 1.0
    strides: int | tuple[int, ...] = 1
    dilation: int | tuple[int, ...] = 1
    padding: str = "same"
    activation: str = "tanh"
    gate_activation: str = "sigmoid"

    blocks_by_unit = True

    def __post_init__(self) -> None:
        _check(self)

    @property
    def input_ndim(self) -> int:
        return self.dims + 1

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params, h = _init(self, key, x, 4), self.features
        params["bias"] = params["bias"].at[h : 2 * h].set(self.forget_bias)
        if self.peephole:
            params["peephole"] = jnp.zeros((3, *_image(self, x), h), param_dtype(x))
        return params

    def initial_carry(self, params: Any, x: Any) -> ConvLSTMCarry:
        zeros = zeros_like_step(params, _after(self, x), self.features)
        return ConvLSTMCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[ConvLSTMCarry, jax.Array]:
        _check_step(self, params, carry, x, ConvLSTMCarry)
        h, c = carry
        act, gate = ACTIVATIONS[self.activation], ACTIVATIONS[self.gate_activation]
        z = _convolve_input(self, x, params["input"]) + convolve(h, params["recurrent"]) + params["bias"]
        i, f, g, o = jnp.split(z, 4, axis=-1)
        p_i, p_f, p_o = params["peephole"] if self.peephole else (None, None, None)
        seen = lambda z, p, c: z if p is None else z + p * c
        i, f = gate(seen(i, p_i, c)), gate(seen(f, p_f, c))
        c = f * c + i * act(g)
        h = gate(seen(o, p_o, c)) * act(c)
        return ConvLSTMCarry(h, c), h


@published(family="convolutional", paper="Ballas, Yao, Pal, Courville 2015, arXiv:1511.06432", year=2015)
@cell
class ConvGRU:
    """GRU on images: products with weights become convolutions ``*``.

    ``r = sigmoid(x * W_r + h * U_r + b_r)``; ``z = sigmoid(x * W_z + h * U_z + b_z)``; ``n = tanh(x * W_n + (r h) * U_n + b_n)``;
    ``h' = (1 - z) n + z h``; ``y = h'``.

    features: H channels. kernel: size K, an int or one for each dimension. dims: number of spatial dimensions S, 1 to 3.
    strides, dilation, padding ("same" or "valid"): of the input's convolution, which makes the size S' from S, each number an int or one
    for each dimension; the state's convolution keeps S'. activation, gate_activation: as of `GRU`.
    x: ``[*B, *S, I]``, channels last. params: ``input`` W ``[*K, I, 3H]``, ``recurrent`` U ``[*K, H, 3H]``, ``bias`` b ``[3H]``, blocks
    (r, z, n) as in `GRU`. carry: h ``[*B, *S', H]``. y: ``[*B, *S', H]``. Zeros surround the image, but with "valid" that of the input.

    Variant: reset before the product, as in the paper, whose z is 1 - z here (the same function, the gate's sign turned).
    Start: W lecun, U orthogonal, b zero. Errors: ValueError/TypeError for bad sizes, dims, kernels or shapes.
    Source: Ballas, Yao, Pal, Courville 2015, arXiv:1511.06432.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.ConvGRU(4, dims=1, kernel=5), jnp.ones((5, 2, 8, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 2, 8, 4)
    """

    features: int
    _: KW_ONLY
    kernel: int | tuple[int, ...] = 3
    dims: int = 2
    strides: int | tuple[int, ...] = 1
    dilation: int | tuple[int, ...] = 1
    padding: str = "same"
    activation: str = "tanh"
    gate_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def input_ndim(self) -> int:
        return self.dims + 1

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return _init(self, key, x, 3)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, _after(self, x), self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        _check_step(self, params, carry, x, None)
        act, gate, h = ACTIVATIONS[self.activation], ACTIVATIONS[self.gate_activation], carry
        u_gates, u_n = jnp.split(params["recurrent"], [2 * self.features], axis=-1)
        xr, xz, xn = jnp.split(_convolve_input(self, x, params["input"]) + params["bias"], 3, axis=-1)
        hr, hz = jnp.split(convolve(h, u_gates), 2, axis=-1)
        r, z = gate(xr + hr), gate(xz + hz)
        n = act(xn + convolve(r * h, u_n))
        h = (1 - z) * n + z * h
        return h, h


def _each(cell: Any, name: str) -> tuple[int, ...]:
    """``kernel``, ``strides`` or ``dilation``, one number for each dimension."""
    value = getattr(cell, name)
    return value if isinstance(value, tuple) else (value,) * cell.dims


def _check(cell: Any) -> None:
    owner = type(cell).__name__
    check_fields(cell)
    if cell.dims > 3:
        raise ValueError(f"{owner}: dims must be 1, 2 or 3, got {cell.dims}")
    for name in ("kernel", "strides", "dilation"):
        for size in _each(cell, name):
            check_size(owner, name, size)
        if len(_each(cell, name)) != cell.dims:
            value = getattr(cell, name)
            raise ValueError(f"{owner}: {name} must be an int or {cell.dims} ints, one for each of dims, got {value}")
    check_choice(owner, "padding", cell.padding, ("same", "valid"))
    for name in ("activation", "gate_activation"):
        check_choice(owner, name, getattr(cell, name), ACTIVATIONS)


def _convolve_input(cell: Any, x: jax.Array, w: jax.Array) -> jax.Array:
    return convolve(x, w, _each(cell, "strides"), cell.padding, _each(cell, "dilation"))


def _image(cell: Any, x: Any) -> tuple[int, ...]:
    """S': the size of the image after the input's convolution, ``ceil(S / stride)``, or ``ceil((S - reach) / stride)`` with "valid"."""
    sizes, reach = x.shape[-1 - cell.dims : -1], (0,) * cell.dims
    if cell.padding == "valid":
        reach = tuple((k - 1) * d for k, d in zip(_each(cell, "kernel"), _each(cell, "dilation")))
    if any(size <= r for size, r in zip(sizes, reach)):
        raise ValueError(
            f"{name_of(cell)}: x of size {tuple(sizes)} is smaller than the kernel, which reaches over "
            f"{tuple(r + 1 for r in reach)}; pad x or use padding='same'"
        )
    return tuple(-(-(size - r) // step) for size, r, step in zip(sizes, reach, _each(cell, "strides")))


def _after(cell: Any, x: Any) -> Any:
    """The shape ``[*B, *S', I]``, whose zeros the carry starts as."""
    return jax.ShapeDtypeStruct((*x.shape[: -1 - cell.dims], *_image(cell, x), x.shape[-1]), x.dtype)


def _init(cell: Any, key: jax.Array, x: Any, gates: int) -> dict[str, jax.Array]:
    check_input(cell, x, ndim=cell.input_ndim)
    k_in, k_rec = jax.random.split(key)
    n, h, dtype, size = x.shape[-1], cell.features, param_dtype(x), _each(cell, "kernel")
    return {
        "input": initializers.per_gate(initializers.lecun, gates)(k_in, (*size, n, gates * h), dtype),
        "recurrent": initializers.per_gate(initializers.orthogonal, gates)(k_rec, (*size, h, gates * h), dtype),
        "bias": jnp.zeros(gates * h, dtype),
    }


def _check_step(cell: Any, params: Any, carry: Any, x: Any, kind: Any) -> None:
    peephole = kind is not None and cell.peephole
    check_params(cell, params, ("input", "recurrent", "bias", *(("peephole",) if peephole else ())))
    check_input(cell, x, params["input"].shape[-2], cell.input_ndim)
    check_carry(cell, carry, _after(cell, x), cell.features, kind)
    if peephole and params["peephole"].shape[1:-1] != _image(cell, x):
        raise ValueError(
            f"{cell!r}: x has spatial size {tuple(x.shape[-1 - cell.dims : -1])}, the carry {_image(cell, x)}, its peepholes were made "
            f"for {tuple(params['peephole'].shape[1:-1])}; init for this size or use peephole=False"
        )

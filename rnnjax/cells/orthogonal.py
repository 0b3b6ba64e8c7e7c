"""Recurrences that neither grow nor shrink what they carry: antisymmetric, orthogonal, unitary."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    check_input,
    check_params,
    param_dtype,
    step_dtype,
    zeros_like_step,
)
from rnnjax.cells.common import check_at_least_zero, check_fields, check_positive, check_step, gate_params
from rnnjax.cells.elman import ACTIVATIONS
from rnnjax.cells.recurrence import check_parts, wide
from rnnjax.cells.state_space import complex_zeros, real_part, times


@cell
class AntisymmetricRNN:
    """Euler steps of an equation whose Jacobian has eigenvalues near the imaginary axis: signals neither grow nor fade.

    ``A = W - W^T - gamma I``; ``h' = h + epsilon tanh(h A + x V + b)``; gated: ``h' = h + epsilon sigmoid(h A + x V_z + b_z) tanh(...)``;
    ``y = h'``.

    features: H. epsilon: step length. gamma: diffusion, which keeps Euler's method stable. gated: the paper's second form.
    params: ``input`` V ``[I, H]`` (gated: ``[I, 2H]``, order (update, gate)), ``recurrent`` W ``[H, H]`` whose
    antisymmetric part alone acts,
    ``bias`` b. carry: h ``[*B, H]``. y: ``[*B, H]``. Start: W normal / sqrt(H), V lecun.

    Variant: row vectors, so A here is the paper's transposed. Errors: ValueError unless epsilon > 0 and gamma >= 0.
    Source: Chang et al. 2019, arXiv:1902.09689.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.AntisymmetricRNN(4, gated=True), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    epsilon: float = 0.01
    gamma: float = 0.01
    gated: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("AntisymmetricRNN", epsilon=self.epsilon)
        check_at_least_zero("AntisymmetricRNN", gamma=self.gamma)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 1 + self.gated, 1, recurrent=initializers.lecun)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        w = params["recurrent"]
        drive = carry @ (w - w.T) - self.gamma * carry
        update, *gate = jnp.split(x @ params["input"] + params["bias"], 1 + self.gated, axis=-1)
        step = self.epsilon * jnp.tanh(drive + update)
        h = carry + (jax.nn.sigmoid(drive + gate[0]) * step if gate else step)
        return h, h


def modrelu(h: jax.Array, bias: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``relu(|h| + b) h / |h|``: the phase (or sign) stays. Real or complex; 0 stays 0, with gradients that are finite."""
    square = (h * h.conj()).real
    size = jnp.sqrt(square + jnp.asarray(epsilon**2, square.dtype))
    return (jax.nn.relu(size + bias.astype(size.dtype)) / size).astype(h.dtype) * h


def skew(a: jax.Array) -> jax.Array:
    """The antisymmetric matrix with the strict upper triangle of ``a``."""
    upper = jnp.triu(wide(a), 1)
    return upper - upper.T


def cayley(a: jax.Array) -> jax.Array:
    """``(1 + A)^{-1} (1 - A)``: orthogonal for antisymmetric A, never with an eigenvalue -1."""
    one = jnp.eye(len(a), dtype=a.dtype)
    return jnp.linalg.solve(one + a, one - a)


@cell
class OrthogonalRNN:
    """A simple network whose recurrence is exactly orthogonal, whatever the optimiser does to its parameters.

    ``h' = act(x W + h Q + b)``; ``Q = expm(A)`` ("exp", expRNN) or ``Q = (1 + A)^{-1} (1 - A) D`` ("cayley", scoRNN),
    ``A = K - K^T`` with K
    strictly upper triangular, D a fixed diagonal of signs. ``y = h'``.

    features: H. parametrization: "exp" or "cayley". negative: how many of D's signs are -1 (with "cayley"; the paper's rho).
    activation: "modrelu" (``relu(|h| + b) sign(h)``, b inside it) or any of `Elman`'s.
    params: ``input`` W ``[I, H]``, ``recurrent`` K ``[H, H]`` (upper triangle used), ``bias`` b ``[H]``. carry: h
    ``[*B, H]``. y: ``[*B, H]``.

    Q is made once a sequence, outside the loop. Start: A block-diagonal with angles uniform in -pi .. pi (Helfrich's, the default of
    expRNN's authors) for "exp"; ``A = tan(angle / 2)`` blocks, angles in 0 .. pi/2, for "cayley", as scoRNN's; b zero.
    Errors: ValueError for unknown names or more negative signs than features. Source: Lezcano-Casado and Martinez-Rubio 2019,
    arXiv:1901.08428; Helfrich, Willmott, Ye 2018, arXiv:1707.09520.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.OrthogonalRNN(4)
    >>> q = cell.recurrence(cell.init(jax.random.key(0), jnp.ones(3)))
    >>> bool(jnp.allclose(q @ q.T, jnp.eye(4), atol=1e-5))
    True
    """

    features: int
    _: KW_ONLY
    parametrization: str = "exp"
    negative: int = 0
    activation: str = "modrelu"

    def __post_init__(self) -> None:
        check_fields(self, "negative")
        check_choice("OrthogonalRNN", "parametrization", self.parametrization, ("exp", "cayley"))
        check_choice("OrthogonalRNN", "activation", self.activation, ("modrelu", *ACTIVATIONS))
        most = self.features if self.parametrization == "cayley" else 0
        if type(self.negative) is not int or not 0 <= self.negative <= most:
            raise ValueError(
                f"OrthogonalRNN: negative must be an int in 0..features, and 0 without 'cayley', got {self.negative!r}"
            )

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_angle = jax.random.split(key)
        params, dtype, h = gate_params(self, k_in, x, 1, 0), param_dtype(x), self.features
        if self.parametrization == "exp":
            angle = jax.random.uniform(k_angle, (h // 2,), dtype, -np.pi, np.pi)
        else:
            angle = jnp.tan(jax.random.uniform(k_angle, (h // 2,), dtype, 0.0, np.pi / 2) / 2)
        first = 2 * np.arange(h // 2)
        return params | {"recurrent": jnp.zeros((h, h), dtype).at[first, first + 1].set(angle)}

    def recurrence(self, params: Any) -> jax.Array:
        """Q ``[H, H]``."""
        a = skew(params["recurrent"])
        if self.parametrization == "exp":
            q = jax.scipy.linalg.expm(a)
        else:
            q = cayley(a) * jnp.where(jnp.arange(self.features) < self.negative, -1, 1).astype(a.dtype)
        return q.astype(params["recurrent"].dtype)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        z = x @ params["input"] + carry @ self.recurrence(params)
        if self.activation == "modrelu":
            h = modrelu(z, params["bias"])
        else:
            h = ACTIVATIONS[self.activation](z + params["bias"])
        return h, h


@cell
class UnitaryRNN:
    """The unitary evolution network: a complex recurrence made of phases, reflections and Fourier transforms.

    ``h' = modrelu(M h + V x, b)``; ``M = D_3 R_2 F^-1 D_2 P R_1 F D_1`` with D diagonal phases, ``R = 1 - 2 v v^H / |v|^2``
    reflections, F the unitary
    Fourier transform and P a fixed permutation; ``y = Re(h' C) + c``.

    features: H, of the complex state and of the output alike.
    params: ``phases`` ``[3, H]`` angles of D, ``reflection_real``, ``reflection_imag`` ``[2, H]``, ``input_real``,
    ``input_imag`` V ``[I, H]``,
    ``bias`` b ``[H]``, ``output_real``, ``output_imag`` C ``[H, H]``, ``output_bias`` c ``[H]``. carry: h ``[*B, H]``
    complex64 (complex128
    where all is float64). y: ``[*B, H]`` real.

    Variant: P is drawn once, from NumPy's generator with seed 0, and part of the definition. The paper learns its
    start; wrap in `rnnjax.LearnedCarry`, or begin at zero as here. Start: phases uniform in -pi .. pi, v uniform in -1 .. 1.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Not linear in time. Source: Arjovsky, Shah, Bengio 2016, arXiv:1511.06464.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.UnitaryRNN(4), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.dtype.name, ys.shape
    ('complex64', (5, 4))
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_phase, k_v, k_in, k_im, k_out, k_out_im = jax.random.split(key, 6)
        i, h, dtype = x.shape[-1], self.features, param_dtype(x)
        v_real, v_imag = jax.random.uniform(k_v, (2, 2, h), dtype, -1.0, 1.0)
        return {
            "phases": jax.random.uniform(k_phase, (3, h), dtype, -np.pi, np.pi),
            "reflection_real": v_real,
            "reflection_imag": v_imag,
            "input_real": initializers.lecun(k_in, (i, h), dtype),
            "input_imag": initializers.lecun(k_im, (i, h), dtype),
            "bias": jnp.zeros(h, dtype),
            "output_real": initializers.lecun(k_out, (h, h), dtype),
            "output_imag": initializers.lecun(k_out_im, (h, h), dtype),
            "output_bias": jnp.zeros(h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.features)

    def rotate(self, params: Any, h: jax.Array) -> jax.Array:
        """``M h`` in O(H log H)."""
        turns = wide(params["phases"])
        d = jax.lax.complex(jnp.cos(turns), jnp.sin(turns))
        v = jax.lax.complex(wide(params["reflection_real"]), wide(params["reflection_imag"]))
        h = _reflect(v[0], jnp.fft.fft(d[0] * h, norm="ortho"))
        h = jnp.fft.ifft(d[1] * h[..., permutation(self.features)], norm="ortho")
        return d[2] * _reflect(v[1], h)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("phases", "reflection_real", "input_real", "output_real", "bias"))
        check_input(self, x, params["input_real"].shape[0])
        check_parts(self, carry, x, (self.features,))
        h = modrelu(self.rotate(params, carry) + times(x, params, "input"), params["bias"])
        y = real_part(h, params, "output").astype(step_dtype(params, x))
        return h, y + params["output_bias"]


def _reflect(v: jax.Array, h: jax.Array) -> jax.Array:
    norm = jnp.sum((v * v.conj()).real).astype(h.dtype)
    return h - (2 / norm) * jnp.sum(h * v.conj(), axis=-1, keepdims=True) * v


def permutation(features: int) -> np.ndarray:
    """The fixed permutation P."""
    return np.random.default_rng(0).permutation(features)

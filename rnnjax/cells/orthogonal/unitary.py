"""A unitary recurrence made of phases, reflections and Fourier transforms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.activations import modrelu
from rnnjax.base import (
    Key,
    cell,
    check_input,
    param_dtype,
    step_dtype,
    wide,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.complex import complex_zeros, real_part, times
from rnnjax.cells.shared.options import check_fields


@published(family="orthogonal", paper="Arjovsky, Shah, Bengio 2016, arXiv:1511.06464", year=2016)
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
        check_step(self, params, carry, x, ("input_real", "phases", "reflection_real", "output_real", "bias"))
        h = modrelu(self.rotate(params, carry) + times(x, params, "input"), params["bias"])
        y = real_part(h, params, "output").astype(step_dtype(params, x))
        return h, y + params["output_bias"]


def _reflect(v: jax.Array, h: jax.Array) -> jax.Array:
    norm = jnp.sum((v * v.conj()).real)
    norm = jnp.where(norm == 0, 1, norm).astype(h.dtype)  # nothing to reflect at
    return h - (2 / norm) * jnp.sum(h * v.conj(), axis=-1, keepdims=True) * v


def permutation(features: int) -> np.ndarray:
    """The fixed permutation P."""
    return np.random.default_rng(0).permutation(features)

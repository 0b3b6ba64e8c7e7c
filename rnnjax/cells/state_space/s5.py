"""S5: one diagonal state space with many inputs and many outputs."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.activations import bounded_exp
from rnnjax.base import Key, cell, check_input, param_dtype, step_dtype, wide, wide_dtype
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.complex import complex_zeros, real_part, times
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step
from rnnjax.cells.state_space.start import check_steps, init_skip, log_uniform, skip


@published(family="state space", paper="Smith, Warrington, Linderman 2023, arXiv:2208.04933", year=2023)
@cell
class S5:
    """S5: one diagonal state space with many inputs and many outputs, started from HiPPO (zero-order hold).

    ``h' = exp(dt A) h + (exp(dt A) - 1) / A (x B)``; ``y = 2 Re(h' C) + x D``; ``A = -exp(log_decay) + i angle``.

    features: H. state: N, whose N/2 conjugate pairs are kept as N/2 complex numbers. blocks: HiPPO blocks side by side.
    dt_min, dt_max: dt of each state starts between them, uniform in the logarithm.
    params: ``log_dt``, ``log_decay``, ``angle`` ``[N/2]``, ``input_real``, ``input_imag`` B ``[I, N/2]``, ``output_real``,
    ``output_imag`` C ``[N/2, H]``, ``skip`` D ``[H]``, or ``[I, H]`` where I differs from H.
    carry: h ``[*B, N/2]`` complex. y: ``[*B, H]`` real.

    Start: A the eigenvalues of the normal part of HiPPO-LegS, B and C random in its basis.
    Linear in time. Errors: ValueError unless state is a multiple of 2 blocks. Source: Smith, Warrington, Linderman 2023,
    arXiv:2208.04933.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.S5(4, state=8), jnp.ones((5, 2, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[0].shape
    (2, 4)
    """

    features: int
    _: KW_ONLY
    state: int = 64
    blocks: int = 1
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    def __post_init__(self) -> None:
        check_fields(self)
        check_steps("S5", self.dt_min, self.dt_max)
        if self.state % (2 * self.blocks):
            raise ValueError(f"S5: state must divide into {self.blocks} blocks of conjugate pairs, got {self.state}")

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_dt, k_in, k_out, k_skip = jax.random.split(key, 4)
        i, n, h, dtype = x.shape[-1], self.state // 2, self.features, param_dtype(x)
        draw = wide_dtype(dtype)
        angle, basis = hippo_basis(self.state, self.blocks)
        b = initializers.lecun(k_in, (i, self.state), draw)
        c_real, c_imag = (self.state) ** -0.5 * jax.random.normal(k_out, (2, self.state, h), draw)
        re, im = jnp.asarray(np.real(basis), draw), jnp.asarray(np.imag(basis), draw)  # [N, N/2], columns of V
        return {
            "log_dt": log_uniform(k_dt, (n,), self.dt_min, self.dt_max, dtype),
            "log_decay": jnp.full(n, np.log(0.5), dtype),
            "angle": jnp.asarray(angle, dtype),
            "input_real": (b @ re).astype(dtype),
            "input_imag": (-b @ im).astype(dtype),  # V^H B
            "output_real": (re.T @ c_real - im.T @ c_imag).astype(dtype),
            "output_imag": (re.T @ c_imag + im.T @ c_real).astype(dtype),
            "skip": init_skip(k_skip, i, h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.state // 2)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        a = jax.lax.complex(-bounded_exp(wide(params["log_decay"])), wide(params["angle"]))
        decay = jnp.exp(bounded_exp(wide(params["log_dt"])).astype(a.dtype) * a)
        return Affine(decay, times(x, params, "input") * ((decay - 1) / a))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return 2 * real_part(carry, params, "output").astype(step_dtype(params, x)) + skip(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        weights = ("input_real", "log_dt", "log_decay", "angle", "output_real", "skip")
        check_step(self, params, carry, x, weights, parts=((self.state // 2,),))
        return linear_step(self, params, carry, x)


def hippo_basis(state: int, blocks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues' imaginary parts ``[N/2]`` above zero and eigenvectors ``[N, N/2]`` of the normal part of HiPPO-LegS.

    ``A[n, k] = -sqrt(n + 1/2) sqrt(k + 1/2)`` below the diagonal, its negative above, -1/2 on it.
    """
    size = state // blocks
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.triu(np.outer(root, root), 1) - np.tril(np.outer(root, root), -1)
    angle, vectors = np.linalg.eigh(-1j * skew)
    angle, vectors = angle[size // 2 :], vectors[:, size // 2 :]
    return np.tile(angle, blocks), np.kron(np.eye(blocks), vectors)

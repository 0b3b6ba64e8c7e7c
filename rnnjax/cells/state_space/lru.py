"""LRU: a diagonal complex recurrence."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.activations import bounded_exp
from rnnjax.base import Key, cell, check_input, param_dtype, step_dtype, wide, wide_dtype
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.complex import complex_zeros, normal_pair, real_part, times
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step
from rnnjax.cells.state_space.start import init_skip, skip


@published(family="state space", paper="Orvieto et al. 2023, arXiv:2303.06349", year=2023)
@cell
class LRU:
    """The linear recurrent unit: a diagonal complex recurrence, stable by how it is parametrised.

    ``h' = lambda h + gamma (x B)``; ``y = Re(h' C) + x D``; ``lambda = exp(-exp(nu) + i exp(theta))``, ``gamma = exp(log_gamma)``.

    features: H. state: N complex numbers, default H. r_min, r_max: ``|lambda|`` at the start, uniform on the ring between them.
    max_phase: angles at the start, uniform in 0 .. max_phase.
    params: ``log_decay`` nu ``[N]``, ``log_angle`` theta ``[N]``, ``log_gamma`` ``[N]``, ``input_real``, ``input_imag`` B ``[I, N]``,
    ``output_real``, ``output_imag`` C ``[N, H]``, ``skip`` D ``[H]``, or ``[I, H]`` where I differs from H.
    carry: h ``[*B, N]`` complex. y: ``[*B, H]`` real.

    Start: ``gamma = sqrt(1 - |lambda|^2)``, B normal / sqrt(2I), C normal / sqrt(N), D normal, as in the paper's appendix.
    Linear in time. Errors: ValueError unless 0 <= r_min < r_max <= 1. Source: Orvieto et al. 2023, arXiv:2303.06349.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LRU(4, state=6), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.shape, carry.dtype.name, ys.dtype.name
    ((2, 6), 'complex64', 'float32')
    """

    features: int
    _: KW_ONLY
    state: int | None = None
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * np.pi

    def __post_init__(self) -> None:
        check_fields(self)
        if not (0 <= self.r_min < self.r_max <= 1 and self.max_phase > 0):
            raise ValueError(
                f"LRU: must have 0 <= r_min < r_max <= 1 and max_phase > 0, got {self.r_min}, {self.r_max}, {self.max_phase}"
            )

    @property
    def size(self) -> int:
        return self.features if self.state is None else self.state

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_r, k_angle, k_in, k_out, k_skip = jax.random.split(key, 5)
        i, n, h, dtype = x.shape[-1], self.size, self.features, param_dtype(x)
        draw = wide_dtype(dtype)
        tiny = float(jnp.finfo(draw).eps)
        square = jax.random.uniform(k_r, (n,), draw, max(self.r_min**2, tiny), min(self.r_max**2, 1 - tiny))
        angle = self.max_phase * jax.random.uniform(k_angle, (n,), draw, tiny)
        return {
            "log_decay": jnp.log(-0.5 * jnp.log(square)).astype(dtype),
            "log_angle": jnp.log(angle).astype(dtype),
            "log_gamma": (0.5 * jnp.log1p(-square)).astype(dtype),
            **normal_pair(k_in, "input", (i, n), (2 * i) ** -0.5, dtype),
            **normal_pair(k_out, "output", (n, h), n**-0.5, dtype),
            "skip": init_skip(k_skip, i, h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.size)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        decay = jnp.exp(
            jax.lax.complex(-bounded_exp(wide(params["log_decay"])), bounded_exp(wide(params["log_angle"])))
        )
        return Affine(decay, bounded_exp(wide(params["log_gamma"])).astype(decay.dtype) * times(x, params, "input"))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return real_part(carry, params, "output").astype(step_dtype(params, x)) + skip(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        weights = ("input_real", "log_decay", "log_angle", "output_real", "skip")
        check_step(self, params, carry, x, weights, parts=((self.size,),))
        return linear_step(self, params, carry, x)

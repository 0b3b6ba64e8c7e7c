"""S4D: a diagonal state space for each feature."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.activations import bounded_exp
from rnnjax.base import Key, cell, check_choice, check_input, check_params, param_dtype, step_dtype, wide
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_linear_step
from rnnjax.cells.shared.complex import complex_of, complex_zeros, normal_pair
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step
from rnnjax.cells.state_space.start import check_steps, log_uniform


@published(family="state space", paper="Gu et al. 2022, arXiv:2206.11893", year=2022)
@cell
class S4D:
    """S4D: for each feature a diagonal state space of its own, held for one step of length dt (zero-order hold).

    ``h' = exp(dt A) h + (exp(dt A) - 1) / A u``; ``y = 2 Re(sum_n C h') + D u``; ``A = -exp(log_decay) + i angle``, B = 1;
    ``u = x``, or ``u = x V`` where I differs from H.

    features: H. state: N, even; its N/2 conjugate pairs are kept as N/2 complex numbers for each feature.
    start: "lin", ``A_n = -1/2 + i pi n``; "inv", ``A_n = -1/2 + i N/pi (N / (2n + 1) - 1)``. dt_min, dt_max: dt starts between them.
    params: ``log_dt`` ``[H]``, ``log_decay``, ``angle`` ``[H, N/2]``, ``output_real``, ``output_imag`` C ``[H, N/2]``,
    ``skip`` D ``[H]``,
    and only where I differs from H ``input`` V ``[I, H]``. carry: h ``[*B, H, N/2]`` complex. y: ``[*B, H]`` real.

    Variant: the S4D kernel itself; the GELU, the mixing of features and the residual of an S4 block go round it.
    Linear in time. Errors: ValueError for an odd state, dt_min > dt_max or an unknown start. Source: Gu et al. 2022, arXiv:2206.11893.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.S4D(3, state=8), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.shape, ys.shape
    ((2, 3, 4), (5, 2, 3))
    """

    features: int
    _: KW_ONLY
    state: int = 64
    start: str = "lin"
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("S4D", "start", self.start, ("lin", "inv"))
        check_steps("S4D", self.dt_min, self.dt_max)
        if self.state % 2:
            raise ValueError(f"S4D: state must be even (conjugate pairs), got {self.state}")

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_dt, k_out, k_skip, k_in = jax.random.split(key, 4)
        h, n, dtype = self.features, self.state // 2, param_dtype(x)
        angle = (
            np.pi * np.arange(n)
            if self.start == "lin"
            else self.state / np.pi * (self.state / (2 * np.arange(n) + 1) - 1)
        )
        params = {
            "log_dt": log_uniform(k_dt, (h,), self.dt_min, self.dt_max, dtype),
            "log_decay": jnp.full((h, n), np.log(0.5), dtype),
            "angle": jnp.broadcast_to(jnp.asarray(angle, dtype), (h, n)),
            **normal_pair(k_out, "output", (h, n), 0.5**0.5, dtype),
            "skip": jax.random.normal(k_skip, (h,), dtype),
        }
        return params if x.shape[-1] == h else params | {"input": initializers.lecun(k_in, (x.shape[-1], h), dtype)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.features, self.state // 2)

    def _input(self, params: Any, x: jax.Array) -> jax.Array:
        return x @ params["input"] if "input" in params else x

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        a = jax.lax.complex(-bounded_exp(wide(params["log_decay"])), wide(params["angle"]))
        decay = jnp.exp(bounded_exp(wide(params["log_dt"]))[:, None].astype(a.dtype) * a)
        u = wide(self._input(params, x))[..., None]
        return Affine(decay, u.astype(a.dtype) * ((decay - 1) / a))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        c = complex_of(params, "output").astype(carry.dtype)
        y = 2 * jnp.sum((carry * c).real, axis=-1)
        return y.astype(step_dtype(params, x)) + params["skip"] * self._input(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("log_dt", "log_decay", "angle", "output_real", "skip"))
        inputs = params["input"].shape[0] if "input" in params else self.features
        check_linear_step(self, params, carry, x, inputs, (self.features, self.state // 2))
        return linear_step(self, params, carry, x)

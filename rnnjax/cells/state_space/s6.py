"""S6: the selective state space of Mamba."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.activations import bounded_exp
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    check_input,
    check_params,
    check_size,
    param_dtype,
    step_dtype,
    wide_dtype,
    zeros_like_step,
)
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_linear_step
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step
from rnnjax.cells.state_space.start import check_steps, log_uniform


@published(family="state space", paper="Gu, Dao 2023, arXiv:2312.00752", year=2023)
@cell
class S6:
    """Mamba's selective state space: step length, what is written and what is read depend on the input.

    ``dt = softplus(u W_down W_up + b)``; ``B = u W_B``; ``C = u W_C``; ``h' = exp(dt A) h + Bbar u``;
    ``y = sum_n C_n h'_n + D u``; ``A = -exp(log_decay)``; Bbar is ``(exp(dt A) - 1) / A B`` with "zoh", ``dt B`` with "euler";
    ``u = x``, or ``u = x V`` where I differs from H.

    features: H. state: N numbers for each feature. rank: of the product that makes dt, default ceil(H / 16).
    discretization: "zoh" as in the paper; its authors' code has "euler". dt_min, dt_max: dt at u = 0 starts between them.
    params: ``rate_down`` ``[H, R]``, ``rate_up`` ``[R, H]``, ``rate_bias`` b ``[H]``, ``write`` W_B, ``read`` W_C
    ``[H, N]``, ``log_decay``
    ``[H, N]``, ``skip`` D ``[H]``, and only where I differs from H ``input`` V ``[I, H]``. carry: h ``[*B, H, N]``. y: ``[*B, H]``.

    Variant: the selective scan itself; the expansion, short convolution, SiLU and output gate of a Mamba block go round it.
    Start: ``A_n = -n`` (n = 1 .. N), D one. Linear in time. Errors: ValueError for a bad size or an unknown discretization.
    Source: Gu and Dao 2023, arXiv:2312.00752.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.S6(4, state=3), jnp.ones((5, 2, 4))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.shape, ys.shape
    ((2, 4, 3), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    state: int = 16
    rank: int | None = None
    discretization: str = "zoh"
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    def __post_init__(self) -> None:
        check_fields(self)
        check_size("S6", "rank", self._rank)
        check_choice("S6", "discretization", self.discretization, ("zoh", "euler"))
        check_steps("S6", self.dt_min, self.dt_max)

    @property
    def _rank(self) -> int:
        return -(-self.features // 16) if self.rank is None else self.rank

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_down, k_up, k_dt, k_write, k_read, k_in = jax.random.split(key, 6)
        h, n, r, dtype = self.features, self.state, self._rank, param_dtype(x)
        dt = jnp.exp(log_uniform(k_dt, (h,), self.dt_min, self.dt_max, wide_dtype(dtype)))
        params = {
            "rate_down": initializers.lecun(k_down, (h, r), dtype),
            "rate_up": jax.random.uniform(k_up, (r, h), dtype, -(r**-0.5), r**-0.5),
            "rate_bias": jnp.log(jnp.expm1(dt)).astype(dtype),
            "write": initializers.lecun(k_write, (h, n), dtype),
            "read": initializers.lecun(k_read, (h, n), dtype),
            "log_decay": jnp.broadcast_to(jnp.asarray(np.log(np.arange(1, n + 1)), dtype), (h, n)),
            "skip": jnp.ones(h, dtype),
        }
        return params if x.shape[-1] == h else params | {"input": initializers.lecun(k_in, (x.shape[-1], h), dtype)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features, self.state)

    def _input(self, params: Any, x: jax.Array) -> jax.Array:
        return x @ params["input"] if "input" in params else x

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        u = self._input(params, x)
        dt = jax.nn.softplus(u @ params["rate_down"] @ params["rate_up"] + params["rate_bias"])[..., None]
        a = -bounded_exp(params["log_decay"])
        b = (u @ params["write"])[..., None, :]
        held = jnp.expm1(dt * a) / a if self.discretization == "zoh" else dt
        return Affine(decay=jnp.exp(dt * a), increment=held * b * u[..., None])

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        u = self._input(params, x)
        c = (u @ params["read"])[..., None, :]
        y = jnp.sum(carry * c.astype(carry.dtype), axis=-1)
        return y.astype(step_dtype(params, x)) + params["skip"] * u

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("rate_down", "rate_up", "write", "read", "log_decay", "skip"))
        inputs = params["input"].shape[0] if "input" in params else self.features
        check_linear_step(self, params, carry, x, inputs, (self.features, self.state))
        return linear_step(self, params, carry, x)

"""Diagonal state spaces with complex states: LRU, S4D, S5. Parameters stay real; the carry is complex.

The state is complex64, or complex128 where params and inputs are float64; with bfloat16 params it is complex64 and the
output goes back to bfloat16.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.base import Key, cell, check_choice, check_input, check_params, param_dtype, step_dtype
from rnnjax.cells.common import check_fields
from rnnjax.cells.recurrence import Affine, check_linear_step, linear_step, wide, wide_dtype


def complex_zeros(params: Any, x: Any, *shape: int) -> jax.Array:
    """A complex start ``[*B, *shape]`` for the dtype of the step."""
    double = step_dtype(params, x) == jnp.float64
    return jnp.zeros((*x.shape[:-1], *shape), jnp.complex128 if double else jnp.complex64)


def complex_of(params: Any, name: str) -> jax.Array:
    """``params[name_real] + i params[name_imag]``."""
    return jax.lax.complex(wide(params[f"{name}_real"]), wide(params[f"{name}_imag"]))


def times(x: jax.Array, params: Any, name: str) -> jax.Array:
    """``x (W_real + i W_imag)`` for real x, as two real products."""
    return jax.lax.complex(wide(x @ params[f"{name}_real"]), wide(x @ params[f"{name}_imag"]))


def real_part(h: jax.Array, params: Any, name: str) -> jax.Array:
    """``Re(h (W_real + i W_imag))`` for complex h, as two real products."""
    return h.real @ wide(params[f"{name}_real"]) - h.imag @ wide(params[f"{name}_imag"])


def skip(params: Any, x: jax.Array) -> jax.Array:
    """``x D``: feature by feature where D is a vector, a product where I differs from H."""
    d = params["skip"]
    return x * d if d.ndim == 1 else x @ d


def init_skip(key: jax.Array, inputs: int, features: int, dtype: Any) -> jax.Array:
    """D ``[H]``, normal, or ``[I, H]``, lecun, where I differs from H."""
    if inputs == features:
        return jax.random.normal(key, (features,), dtype)
    return initializers.lecun(key, (inputs, features), dtype)


def _normal_pair(key: jax.Array, name: str, shape: tuple[int, ...], scale: float, dtype: Any) -> dict[str, jax.Array]:
    re, im = scale * jax.random.normal(key, (2, *shape), dtype)
    return {f"{name}_real": re, f"{name}_imag": im}


def _log_uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float, dtype: Any) -> jax.Array:
    """Logarithms of numbers between ``low`` and ``high``, uniform in the logarithm."""
    draw = wide_dtype(dtype)
    return jax.random.uniform(key, shape, draw, np.log(low), np.log(high)).astype(dtype)


def check_steps(owner: str, low: float, high: float) -> None:
    """ValueError unless the range of step lengths is one."""
    if not 0 < low <= high:
        raise ValueError(f"{owner}: dt_min and dt_max must have 0 < dt_min <= dt_max, got {low} and {high}")


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
            **_normal_pair(k_in, "input", (i, n), (2 * i) ** -0.5, dtype),
            **_normal_pair(k_out, "output", (n, h), n**-0.5, dtype),
            "skip": init_skip(k_skip, i, h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.size)

    def elements(self, params: Any, x: jax.Array) -> Affine:
        decay = jnp.exp(jax.lax.complex(-jnp.exp(wide(params["log_decay"])), jnp.exp(wide(params["log_angle"]))))
        return Affine(decay, jnp.exp(wide(params["log_gamma"])).astype(decay.dtype) * times(x, params, "input"))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return real_part(carry, params, "output").astype(step_dtype(params, x)) + skip(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("log_decay", "log_angle", "input_real", "output_real", "skip"))
        check_linear_step(self, params, carry, x, params["input_real"].shape[0], (self.size,))
        return linear_step(self, params, carry, x)


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
            "log_dt": _log_uniform(k_dt, (h,), self.dt_min, self.dt_max, dtype),
            "log_decay": jnp.full((h, n), np.log(0.5), dtype),
            "angle": jnp.broadcast_to(jnp.asarray(angle, dtype), (h, n)),
            **_normal_pair(k_out, "output", (h, n), 0.5**0.5, dtype),
            "skip": jax.random.normal(k_skip, (h,), dtype),
        }
        return params if x.shape[-1] == h else params | {"input": initializers.lecun(k_in, (x.shape[-1], h), dtype)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return complex_zeros(params, x, self.features, self.state // 2)

    def _input(self, params: Any, x: jax.Array) -> jax.Array:
        return x @ params["input"] if "input" in params else x

    def elements(self, params: Any, x: jax.Array) -> Affine:
        a = jax.lax.complex(-jnp.exp(wide(params["log_decay"])), wide(params["angle"]))
        decay = jnp.exp(jnp.exp(wide(params["log_dt"]))[:, None].astype(a.dtype) * a)
        u = wide(self._input(params, x))[..., None]
        return Affine(decay, u.astype(a.dtype) * ((decay - 1) / a))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        c = complex_of(params, "output").astype(carry.dtype)
        y = 2 * jnp.sum((carry * c).real, axis=-1)
        return y.astype(step_dtype(params, x)) + params["skip"] * self._input(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("log_dt", "log_decay", "angle", "output_real", "skip"))
        inputs = params["input"].shape[0] if "input" in params else self.features
        check_linear_step(self, params, carry, x, inputs, (self.features, self.state // 2))
        return linear_step(self, params, carry, x)


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
            "log_dt": _log_uniform(k_dt, (n,), self.dt_min, self.dt_max, dtype),
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

    def elements(self, params: Any, x: jax.Array) -> Affine:
        a = jax.lax.complex(-jnp.exp(wide(params["log_decay"])), wide(params["angle"]))
        decay = jnp.exp(jnp.exp(wide(params["log_dt"])).astype(a.dtype) * a)
        return Affine(decay, times(x, params, "input") * ((decay - 1) / a))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return 2 * real_part(carry, params, "output").astype(step_dtype(params, x)) + skip(params, x)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("log_dt", "log_decay", "angle", "input_real", "output_real", "skip"))
        check_linear_step(self, params, carry, x, params["input_real"].shape[0], (self.state // 2,))
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

"""Echo state networks: a fixed random reservoir, and a ridge regression that reads it out."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.activations import ACTIVATIONS
from rnnjax.base import Key, cell, check_choice, check_input, param_dtype, wide, wide_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_at_least_zero, check_fields, check_positive


@published(family="reservoir", paper="Jaeger 2001, GMD report 148", year=2001)
@cell
class EchoState:
    """The echo state network's reservoir: a sparse random recurrence of a given spectral radius that is not trained.

    ``h' = (1 - leak) h + leak tanh(x W + h U + b)``; ``y = h'``. Train a readout on y: `ridge`, or `rnnjax.Readout` by gradients.

    features: H. radius: largest |eigenvalue| of U at the start; below 1 the reservoir forgets its start for most inputs.
    density: share of U's entries that are not zero. leak: in (0, 1]. input_scale, bias_scale: W and b start uniform within them.
    activation: "tanh", or any of `Elman`'s.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``bias`` b ``[H]``: they are saved and moved like all
    params, but their gradient
    is zero (stop_gradient), so no optimiser moves them (weight decay would: mask them). Gradients reach x and the carry.

    Errors: ValueError for a radius, leak or density out of range. Source: Jaeger 2001, GMD report 148; Jaeger et al. 2007 (leak).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.EchoState(20, radius=0.8)
    >>> params = cell.init(jax.random.key(0), jnp.ones(3))
    >>> round(float(jnp.abs(jnp.linalg.eigvals(params["recurrent"])).max()), 4)
    0.8
    """

    features: int
    _: KW_ONLY
    radius: float = 0.9
    density: float = 0.1
    leak: float = 1.0
    input_scale: float = 1.0
    bias_scale: float = 0.0
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("EchoState", "activation", self.activation, ACTIVATIONS)
        check_positive("EchoState", radius=self.radius, leak=self.leak, density=self.density)
        if self.leak > 1 or self.density > 1:
            raise ValueError(f"EchoState: leak and density must be at most 1, got {self.leak} and {self.density}")
        check_at_least_zero("EchoState", input_scale=self.input_scale, bias_scale=self.bias_scale)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        h, dtype = self.features, param_dtype(x)
        inside = lambda k, shape, size: jax.random.uniform(k, shape, dtype, -size, size)
        return {
            "input": inside(k_in, (x.shape[-1], h), self.input_scale),
            "recurrent": reservoir(k_rec, h, self.radius, self.density, dtype),
            "bias": inside(k_bias, (h,), self.bias_scale),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        fixed = jax.lax.stop_gradient(params)
        z = ACTIVATIONS[self.activation](x @ fixed["input"] + carry @ fixed["recurrent"] + fixed["bias"])
        h = (1 - self.leak) * carry + self.leak * z
        return h, h


def reservoir(key: jax.Array, features: int, radius: float, density: float, dtype: Any = jnp.float32) -> jax.Array:
    """A random matrix ``[H, H]``, each row with ``max(1, round(density H))`` normal entries, scaled to its spectral radius.

    The radius is that of power iteration in squarings: ``|U^(2^40)|^(1 / 2^40)`` in logarithms, which works on every device.
    """
    k_values, k_places = jax.random.split(key)
    draw, count = wide_dtype(dtype), max(1, round(density * features))
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(k_places, (features, features)), axis=-1), axis=-1)
    u = jnp.where(rank < count, jax.random.normal(k_values, (features, features), draw), 0)
    return (u * (radius / spectral_radius(u))).astype(dtype)


def spectral_radius(u: jax.Array, squarings: int = 40) -> jax.Array:
    """``lim |U^n|^(1/n)`` (Gelfand), n = 2^squarings; each square is scaled back to norm one. 1 for a nilpotent matrix."""

    def square(i: Any, state: Any) -> Any:
        power, log_norm = state
        power = power @ power
        norm = jnp.linalg.norm(power)
        alive = norm > 0
        power = jnp.where(alive, power / jnp.where(alive, norm, 1), power)
        return power, 2 * log_norm + jnp.log(jnp.where(alive, norm, 1))

    norm = jnp.linalg.norm(u)
    power, log_norm = jax.lax.fori_loop(0, squarings, square, (u / norm, jnp.log(norm)))
    return jnp.where(jnp.linalg.norm(power) > 0, jnp.exp(log_norm / 2.0**squarings), 1)


def ridge(states: jax.Array, targets: jax.Array, penalty: float = 1e-6) -> dict[str, jax.Array]:
    """The linear readout ``y = h V + c`` that minimises ``|y - target|^2 + penalty |V|^2``, as params of a `rnnjax.Readout`.

    states ``[..., H]`` (drop the first steps, where the start still echoes), targets ``[..., O]`` with the same leading axes.
    Returns ``{"output": V [H, O], "output_bias": c [O]}``; c is not penalised. Solved in float32 at least.
    Errors: ValueError for a negative penalty or axes that do not fit.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> h = jax.random.normal(jax.random.key(0), (50, 3))
    >>> fit = rj.cells.ridge(h, h @ jnp.array([[1.0], [2.0], [3.0]]) + 4.0)
    >>> fit["output"][:, 0].round(2).tolist(), fit["output_bias"].round(2).tolist()
    ([1.0, 2.0, 3.0], [4.0])
    """
    if not penalty >= 0:
        raise ValueError(f"ridge: penalty must be at least 0, got {penalty}")
    if states.shape[:-1] != targets.shape[:-1]:
        raise ValueError(
            f"ridge: states {states.shape} and targets {targets.shape} must agree in all axes but the last"
        )
    h, y = (wide(a.reshape(-1, a.shape[-1])) for a in (states, targets))
    h_mean, y_mean = h.mean(0), y.mean(0)
    h, y = h - h_mean, y - y_mean
    v = jnp.linalg.solve(h.T @ h + penalty * jnp.eye(h.shape[1], dtype=h.dtype), h.T @ y)
    return {"output": v.astype(states.dtype), "output_bias": (y_mean - h_mean @ v).astype(states.dtype)}

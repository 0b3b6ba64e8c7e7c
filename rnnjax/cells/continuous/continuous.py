"""Networks in continuous time: CTRNN, LTC, CfC.

Times are in one unit of your choice: ``tau``, ``dt`` and, with ``elapsed=True``, the last feature of x, which is then the time that
has passed since the step before (and is no input to the network). Without it every step lasts ``dt``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS, softplus_inverse
from rnnjax.base import (
    Key,
    cell,
    check_carry,
    check_choice,
    check_input,
    check_params,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields, check_positive


def _check_step(cell: Any, params: Any, carry: Any, x: Any, weight: str, names: tuple[str, ...]) -> int:
    """How many inputs the params were made for, the rows of ``weight`` (those of h left out); params, x, carry fit."""
    check_params(cell, params, (weight, *names))
    inputs = params[weight].shape[0] - (cell.features if weight == "backbone" else 0)
    check_input(cell, x, inputs + cell.elapsed)
    check_carry(cell, carry, x, cell.features)
    return inputs


def time_constant(tau: jax.Array) -> jax.Array:
    """``softplus(tau)``, kept so far above zero that one over its square is finite."""
    return jnp.maximum(jax.nn.softplus(tau), 1e-18)


def _time_and_input(cell: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """How long this step lasts (``[*B, 1]`` or a number), and what it reads."""
    return (x[..., -1:], x[..., :-1]) if cell.elapsed else (cell.dt, x)


def _inputs_only(cell: Any, x: Any) -> Any:
    check_input(cell, x)
    if not cell.elapsed:
        return x
    if x.shape[-1] < 2:
        raise ValueError(
            f"{cell!r}: with elapsed=True x must have an input and the time as its last feature, got {x.shape}"
        )
    return jax.ShapeDtypeStruct((*x.shape[:-1], x.shape[-1] - 1), x.dtype)


@published(family="continuous time", paper="Beer 1995, Adaptive Behavior 3(4)", year=1995)
@cell
class CTRNN:
    """The continuous-time recurrent network, stepped by Euler's method (or exactly for a held drive).

    ``tau dh/dt = -h + act(h + theta) U + x W``; "euler": ``h' = h + (dt / tau) (drive - h)``; "exponential":
    ``h' = exp(-dt/tau) h + (1 - exp(-dt/tau)) drive``, which is stable for any dt. ``y = act(h' + theta)``.

    features: H. tau: time constant at the start. dt: length of a step. elapsed: the last feature of x is the step's length, in the unit
    of tau. activation: as in `Elman`. params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``bias`` theta ``[H]``, ``tau`` ``[H]``
    (the time constant is ``softplus(tau)``, so that it stays above zero). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: activation before the weights, as in the source; `RateRNN` has it after them.
    Errors: ValueError for times not above zero or an unknown activation or solver. Source: Beer 1995, Adaptive Behavior 3(4), equation 1;
    Funahashi and Nakamura 1993, Neural Networks 6(6).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.CTRNN(4, tau=2.0), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    tau: float = 1.0
    dt: float = 0.1
    elapsed: bool = False
    activation: str = "sigmoid"
    solver: str = "euler"

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("CTRNN", tau=self.tau, dt=self.dt)
        check_choice("CTRNN", "activation", self.activation, ACTIVATIONS)
        check_choice("CTRNN", "solver", self.solver, ("euler", "exponential"))

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, _inputs_only(self, x), 1)
        return params | {"tau": jnp.full(self.features, softplus_inverse(self.tau), param_dtype(x))}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        _check_step(self, params, carry, x, "input", ("recurrent", "bias", "tau"))
        act = ACTIVATIONS[self.activation]
        dt, u = _time_and_input(self, x)
        drive = u @ params["input"] + act(carry + params["bias"]) @ params["recurrent"]
        share = dt / time_constant(params["tau"])
        share = share if self.solver == "euler" else -jnp.expm1(-share)
        h = carry + share * (drive - carry)
        return h, act(h + params["bias"])


@published(family="continuous time", paper="Hasani et al. 2021, arXiv:2006.04439", year=2021)
@cell
class LTC:
    """Liquid time-constant network: the input changes how fast each unit forgets, solved by the fused (half implicit) step.

    ``dh/dt = -(1/tau + f) h + f A``, ``f = act(x W + h U + b)``; each of ``unfolds`` steps of length ``d = dt / unfolds`` is
    ``h <- (h + d f A) / (1 + d (1/tau + f))``; ``y = h``.

    features: H. tau: time constant at the start. dt: length of a step. elapsed: the last feature of x is the step's length, in the unit
    of tau. unfolds: L. activation: "sigmoid" or "tanh".
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``bias`` b ``[H]``, ``reversal`` A ``[H]``, ``tau`` ``[H]``
    (the time constant
    is ``softplus(tau)``). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: f is one layer, as in the paper's algorithm 1, which writes tanh; with f below zero the step can divide by zero once
    ``d > 1``, and the paper's bounds ask for f >= 0, so "sigmoid" is the default, as in its authors' code. That code gives every
    synapse its own f and reversal; here they belong to the unit.
    Errors: ValueError for times not above zero. Source: Hasani et al. 2021, arXiv:2006.04439, equations 2 and 3.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.LTC(4, elapsed=True)
    >>> xs = jnp.concatenate([jnp.ones((5, 2)), jnp.full((5, 1), 0.3)], axis=-1)  # two inputs, 0.3 units of time a step
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    tau: float = 1.0
    dt: float = 1.0
    elapsed: bool = False
    unfolds: int = 6
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("LTC", tau=self.tau, dt=self.dt)
        check_choice("LTC", "activation", self.activation, ("sigmoid", "tanh"))

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_rev = jax.random.split(key)
        params = gate_params(self, k_gates, _inputs_only(self, x), 1)
        reversal = jax.random.normal(k_rev, (self.features,), param_dtype(x))
        return params | {
            "reversal": reversal,
            "tau": jnp.full(self.features, softplus_inverse(self.tau), param_dtype(x)),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        _check_step(self, params, carry, x, "input", ("recurrent", "bias", "reversal", "tau"))
        dt, u = _time_and_input(self, x)
        d, tau, sense = dt / self.unfolds, time_constant(params["tau"]), u @ params["input"] + params["bias"]
        h = carry
        for _ in range(self.unfolds):
            f = ACTIVATIONS[self.activation](sense + h @ params["recurrent"])
            h = tau * (h + d * f * params["reversal"]) / (tau + d * (1 + tau * f))
        return h, h


@published(family="continuous time", paper="Hasani et al. 2022, arXiv:2106.13898", year=2022)
@cell
class CfC:
    """Closed-form continuous-time network: a gate in elapsed time between two states, no solver.

    ``b = lecun_tanh([x, h] W_b + c_b)``; ``f, g, k = b W_f + c_f, tanh(b W_g + c_g), tanh(b W_k + c_k)``;
    ``s = sigmoid(-f dt)``; ``h' = s g + (1 - s) k``; ``y = h'``; ``lecun_tanh(z) = 1.7159 tanh(2z/3)``.

    features: H. backbone: units of the shared layer b. dt: length of a step. elapsed: the last feature of x is the step's length, in any
    one unit. params: ``backbone`` ``[I + H, units]``, ``backbone_bias``, ``heads`` ``[units, 3H]``, ``heads_bias`` in the
    order (f, g, k).
    carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: equation 10 of the paper; its authors' code writes the gate as ``sigmoid(a dt + b)`` with two heads in place of f, and
    has g and k the other way round.
    Errors: ValueError for a time not above zero. Source: Hasani et al. 2022, arXiv:2106.13898.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.CfC(4, backbone=8), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    backbone: int = 128
    dt: float = 1.0
    elapsed: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("CfC", dt=self.dt)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_heads = jax.random.split(key)
        i, h, n, dtype = _inputs_only(self, x).shape[-1], self.features, self.backbone, param_dtype(x)
        return {
            "backbone": initializers.lecun(k_in, (i + h, n), dtype),
            "backbone_bias": jnp.zeros(n, dtype),
            "heads": initializers.lecun(k_heads, (n, 3 * h), dtype),
            "heads_bias": jnp.zeros(3 * h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        inputs = _check_step(self, params, carry, x, "backbone", ("backbone_bias", "heads", "heads_bias"))
        dt, u = _time_and_input(self, x)
        w_x, w_h = jnp.split(params["backbone"], [inputs])
        b = 1.7159 * jnp.tanh((u @ w_x + carry @ w_h + params["backbone_bias"]) * (2 / 3))
        f, g, k = jnp.split(b @ params["heads"] + params["heads_bias"], 3, axis=-1)
        s = jax.nn.sigmoid(-f * dt)
        h = s * jnp.tanh(g) + (1 - s) * jnp.tanh(k)
        return h, h

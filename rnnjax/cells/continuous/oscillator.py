"""Recurrent networks as discretised oscillators and multiscale equations: coRNN, UnICORNN, LEM."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields, check_positive


class OscillatorCarry(NamedTuple):
    """y: positions. z: velocities (of LEM: the other state); each ``[*B, H]``."""

    y: jax.Array
    z: jax.Array


@published(family="oscillator", paper="Rusch, Mishra 2021, arXiv:2010.00951", year=2021)
@cell
class CoRNN:
    """Coupled oscillatory network: driven, damped, coupled oscillators, one step of length dt.

    ``z' = z + dt (tanh(y W_y + z W_z + x V + b) - gamma y - epsilon z)``; ``y' = y + dt z'``; the output is y'.

    features: H. dt, gamma (stiffness), epsilon (damping): above zero. implicit: damp the new velocity, ``z' (1 + dt epsilon) = z + ...``.
    params: ``input`` V ``[I, H]``, ``recurrent`` ``[2H, H]`` (W_y above W_z), ``bias`` b ``[H]``. carry: ``OscillatorCarry(y, z)``.

    Variant: the paper leaves explicit or implicit damping open; its authors' code is explicit, the default here.
    The defaults of dt, gamma, epsilon are those of the authors' code for sequential MNIST, rounded: tune them.
    Errors: ValueError for constants not above zero. Source: Rusch and Mishra 2021, arXiv:2010.00951, equation 3.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.CoRNN(4), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.z.shape, ys.shape
    ((4,), (5, 4))
    """

    features: int
    _: KW_ONLY
    dt: float = 0.05
    gamma: float = 2.7
    epsilon: float = 4.7
    implicit: bool = False

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("CoRNN", dt=self.dt, gamma=self.gamma, epsilon=self.epsilon)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec = jax.random.split(key)
        h, dtype = self.features, param_dtype(x)
        return gate_params(self, k_in, x, 1, 0) | {"recurrent": initializers.lecun(k_rec, (2 * h, h), dtype)}

    def initial_carry(self, params: Any, x: Any) -> OscillatorCarry:
        zeros = zeros_like_step(params, x, self.features)
        return OscillatorCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[OscillatorCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"), OscillatorCarry)
        y, z = carry
        w_y, w_z = jnp.split(params["recurrent"], 2)
        force = jnp.tanh(y @ w_y + z @ w_z + x @ params["input"] + params["bias"]) - self.gamma * y
        if self.implicit:
            z = (z + self.dt * force) / (1 + self.dt * self.epsilon)
        else:
            z = z + self.dt * (force - self.epsilon * z)
        y = y + self.dt * z
        return OscillatorCarry(y, z), y


@published(family="oscillator", paper="Rusch, Mishra 2021, arXiv:2103.05487", year=2021)
@cell
class UnICORNN:
    """Undamped independent controlled oscillators: a Hamiltonian step, invertible, each unit on its own.

    ``z' = z - dt sigmoid(c) (tanh(w y + x V + b) + alpha y)``; ``y' = y + dt sigmoid(c) z'``; the output is y'.

    features: H. dt, alpha: above zero. params: ``input`` V ``[I, H]``, ``recurrent`` w ``[H]``, ``bias`` b ``[H]``, ``rate`` c ``[H]``.
    carry: ``OscillatorCarry(y, z)``, from which the step before can be computed back.

    Variant: the paper's ``0.5 + 0.5 tanh(c / 2)`` is ``sigmoid(c)``. Start: w uniform in 0 .. 1, c in -0.1 .. 0.1, as the paper.
    Errors: ValueError for constants not above zero. Source: Rusch and Mishra 2021, arXiv:2103.05487, equation 4.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.UnICORNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    dt: float = 0.1
    alpha: float = 1.0

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("UnICORNN", dt=self.dt, alpha=self.alpha)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_w, k_c = jax.random.split(key, 3)
        shape, dtype = (self.features,), param_dtype(x)
        return gate_params(self, k_in, x, 1, 0) | {
            "recurrent": jax.random.uniform(k_w, shape, dtype),
            "rate": jax.random.uniform(k_c, shape, dtype, -0.1, 0.1),
        }

    def initial_carry(self, params: Any, x: Any) -> OscillatorCarry:
        zeros = zeros_like_step(params, x, self.features)
        return OscillatorCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[OscillatorCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "rate", "bias"), OscillatorCarry)
        y, z = carry
        dt = self.dt * jax.nn.sigmoid(params["rate"])
        force = jnp.tanh(params["recurrent"] * y + x @ params["input"] + params["bias"]) + self.alpha * y
        z = z - dt * force
        y = y + dt * z
        return OscillatorCarry(y, z), y


@published(family="oscillator", paper="Rusch et al. 2022, arXiv:2110.04744", year=2022)
@cell
class LEM:
    """Long expressive memory: two states, each with a learned step length of its own.

    ``s = dt sigmoid(y W_1 + x V_1 + b_1)``; ``r = dt sigmoid(y W_2 + x V_2 + b_2)``; ``z' = (1 - s) z + s tanh(y W_z + x V_z + b_z)``;
    ``y' = (1 - r) y + r tanh(z' W_y + x V_y + b_y)``; the output is y'.

    features: H. dt: longest step, in (0, 1] for convex averages.
    params: ``input`` V ``[I, 4H]``, ``bias`` b ``[4H]`` in the order (1, 2, z, y), ``recurrent`` ``[H, 3H]`` (W_1, W_2, W_z) and
    ``recurrent_y`` W_y ``[H, H]``. carry: ``OscillatorCarry(y, z)``.
    Errors: ValueError for dt not above zero. Source: Rusch et al. 2022, arXiv:2110.04744, equation 3.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LEM(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    dt: float = 1.0

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("LEM", dt=self.dt)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_y = jax.random.split(key)
        params = gate_params(self, k_gates, x, 4, 3)
        return params | {"recurrent_y": initializers.orthogonal(k_y, (self.features, self.features), param_dtype(x))}

    def initial_carry(self, params: Any, x: Any) -> OscillatorCarry:
        zeros = zeros_like_step(params, x, self.features)
        return OscillatorCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[OscillatorCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "recurrent_y", "bias"), OscillatorCarry)
        y, z = carry
        x_s, x_r, x_z, x_y = jnp.split(x @ params["input"] + params["bias"], 4, axis=-1)
        y_s, y_r, y_z = jnp.split(y @ params["recurrent"], 3, axis=-1)
        s, r = self.dt * jax.nn.sigmoid(x_s + y_s), self.dt * jax.nn.sigmoid(x_r + y_r)
        z = (1 - s) * z + s * jnp.tanh(x_z + y_z)
        y = (1 - r) * y + r * jnp.tanh(z @ params["recurrent_y"] + x_y)
        return OscillatorCarry(y, z), y

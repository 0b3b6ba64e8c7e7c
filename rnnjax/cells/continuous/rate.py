"""Rate networks of neuroscience: leaky units, low rank, Dale's law, learned time constants, noise."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS, softplus_inverse
from rnnjax.base import Key, cell, check_choice, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_at_least_zero, check_fields, check_positive


@published(family="neuroscience", paper="Yang et al. 2019, Nature Neuroscience 22; Song, Yang, Wang 2016", year=2019)
@cell
class RateRNN:
    """Leaky firing rates: ``tau dr/dt = -r + act(x W + r J + b + noise)``, Euler steps of length dt.

    ``r' = (1 - alpha) r + alpha act(x W + r J + b + sqrt(2 / alpha) noise xi)``, ``alpha = dt / tau``; ``y = r'``; with
    ``leaky="current"``: ``s' = (1 - alpha) s + alpha (x W + act(s) J + b + sqrt(2 / alpha) noise xi)``; ``y = act(s')``.

    features: H. tau, dt: in one unit (100 and 20 ms). rank: R for ``J = M N^T / H``, None for a full J.
    dale: share of excitatory units: the first ``round(dale H)`` send only positive weights, the others only negative ones, and no unit
    one to itself; None for no sign law. learn_tau: a time constant for each unit, ``dt + softplus(tau)``, so that alpha <= 1.
    noise: its size; drawn where a key is passed. activation: as in `Elman`, rates usually "relu". leaky: "rate" or "current", what
    decays with tau and is the carry.
    params: ``input`` W ``[I, H]``, ``bias`` b ``[H]``, ``recurrent`` J ``[H, H]`` (with dale: ``|J|`` is used), or ``left``
    M and ``right`` N ``[H, R]``;
    ``tau`` ``[H]`` where learned. carry: r (or s) ``[*B, H]``. y: ``[*B, H]``.

    Variant: row vectors: J[i, j] leads from unit i to unit j, so Dale's law signs its rows, and M is what the sender is read by.
    Start: J normal / sqrt(H) (with dale: the absolute value, inhibition scaled up so that the mean input is 0), M and N normal.
    Errors: ValueError unless dt <= tau (Euler's method overshoots), 0 < dale < 1 and rank <= H; rank and dale exclude each other.
    Sources: Yang, Joglekar, Song, Newsome, Wang 2019, Nature Neuroscience 22 (leaky rates, noise); of leaky currents: Song, Yang,
    Wang 2016, PLoS Computational Biology 12(2) (Dale), and Mastrogiuseppe and Ostojic 2018, arXiv:1711.09672 (low rank).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.RateRNN(5, dale=0.8)
    >>> j = cell.recurrence(cell.init(jax.random.key(0), jnp.ones(3)))
    >>> bool((j[:4] >= 0).all() and (j[4:] <= 0).all())
    True
    """

    features: int
    _: KW_ONLY
    rank: int | None = None
    dale: float | None = None
    tau: float = 100.0
    dt: float = 20.0
    learn_tau: bool = False
    noise: float = 0.0
    activation: str = "relu"
    leaky: str = "rate"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("RateRNN", "activation", self.activation, ACTIVATIONS)
        check_choice("RateRNN", "leaky", self.leaky, ("rate", "current"))
        check_positive("RateRNN", tau=self.tau, dt=self.dt)
        if self.dt > self.tau or (self.learn_tau and self.dt == self.tau):
            raise ValueError(f"RateRNN: dt must be at most tau={self.tau} (below it with learn_tau), got {self.dt}")
        check_at_least_zero("RateRNN", noise=self.noise)
        self._check_structure()

    def _check_structure(self) -> None:
        if self.rank is not None:
            if self.rank > self.features:
                raise ValueError(f"RateRNN: rank must be at most features={self.features}, got {self.rank}")
            if self.dale is not None:
                raise ValueError("RateRNN: rank and dale exclude each other, got both; drop one")
        if self.dale is not None and not 0 < self._excitatory < self.features:
            raise ValueError(
                f"RateRNN: dale must leave units of both kinds among {self.features}, got {self.dale}, which makes "
                f"{self._excitatory} excitatory; None drops the sign law"
            )

    @property
    def _excitatory(self) -> int:
        return round((self.dale or 0.0) * self.features)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_right = jax.random.split(key, 3)
        h, dtype = self.features, param_dtype(x)
        params = gate_params(self, k_in, x, 1, 0)
        if self.rank is not None:
            params["left"] = jax.random.normal(k_rec, (h, self.rank), dtype)
            params["right"] = jax.random.normal(k_right, (h, self.rank), dtype)
        else:
            j = initializers.lecun(k_rec, (h, h), dtype)
            params["recurrent"] = j if self.dale is None else self._balanced(jnp.abs(j))
        if self.learn_tau:
            params["tau"] = jnp.full(h, softplus_inverse(self.tau - self.dt), dtype)
        return params

    def _balanced(self, size: jax.Array) -> jax.Array:
        inhibition = self._excitatory / (self.features - self._excitatory)
        return size * jnp.where(self._signs() > 0, 1.0, inhibition)[:, None].astype(size.dtype)

    def _signs(self) -> np.ndarray:
        return np.where(np.arange(self.features) < self._excitatory, 1, -1)

    def recurrence(self, params: Any) -> jax.Array:
        """J ``[H, H]``."""
        if self.rank is not None:
            return params["left"] @ params["right"].T / self.features
        j = params["recurrent"]
        if self.dale is None:
            return j
        return jnp.abs(j) * (self._signs()[:, None] * (1 - np.eye(self.features))).astype(j.dtype)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def _drive(self, params: Any, r: jax.Array) -> jax.Array:
        if self.rank is None:
            return r @ self.recurrence(params)
        return r @ params["left"] @ params["right"].T / self.features  # O(H R)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "bias", "recurrent" if self.rank is None else "left"))
        act = ACTIVATIONS[self.activation]
        rates = carry if self.leaky == "rate" else act(carry)
        z = x @ params["input"] + self._drive(params, rates) + params["bias"]
        alpha = self.dt / (self.dt + jax.nn.softplus(params["tau"]) if self.learn_tau else self.tau)
        if key is not None and self.noise:
            z = z + (2 / alpha) ** 0.5 * self.noise * jax.random.normal(key, z.shape, z.dtype)
        state = (1 - alpha) * carry + alpha * (act(z) if self.leaky == "rate" else z)
        return state, state if self.leaky == "rate" else act(state)

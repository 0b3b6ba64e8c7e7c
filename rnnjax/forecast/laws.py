"""Predictive laws: what the D outputs of a network say of a value, of which ``base`` and ``scale`` were expected beforehand.

A network says nothing while its outputs are `Law.start`; then the law is about ``base``, as wide as ``scale``. Arrays: outputs ``[*B, D]``,
everything else ``[*B]`` or what broadcasts with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

NARROWEST = 1e-4  # in units of the scale
ONE = math.log(math.e - 1)  # softplus(ONE) = 1


class Law(Protocol):
    """start: the outputs before any training. absolute: whether values mean something by themselves, as counts do.

    nll: the loss, JAX, of ``target``, the value itself where the law is absolute, else ``(value - base) / scale``.
    ppf: the value below which a share ``u`` lies. mean: the expected value. Both NumPy. refuse: what is wrong with values, or None.
    """

    @property
    def start(self) -> tuple[float, ...]: ...
    @property
    def absolute(self) -> bool: ...

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array: ...
    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray: ...
    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray: ...
    def refuse(self, values: np.ndarray) -> str | None: ...


@dataclass(frozen=True)
class Quantiles:
    """Quantiles by the pinball loss (Koenker and Bassett 1978), in order by construction: steps between them are positive.

    Between and beyond those that are learned the law is that of a Gaussian from one to the next: the quantile of u is linear in
    the standard normal quantile of u.
    """

    levels: tuple[float, ...]
    absolute = False

    @property
    def start(self) -> tuple[float, ...]:
        z = ndtri(np.array(self.levels))
        steps = np.log(np.expm1(np.diff(z)))
        middle = self._middle
        return (*steps[:middle].tolist(), float(z[middle]), *steps[middle:].tolist())

    @property
    def _middle(self) -> int:
        return len(self.levels) // 2

    def ordered(self, out: Any) -> Any:
        """The quantiles: that in the middle is an output itself, the others stand off by softplus of theirs."""
        middle, steps, of = self._middle, _softplus(out), np if isinstance(out, np.ndarray) else jnp
        centre = out[..., middle : middle + 1]
        below = centre - of.cumsum(steps[..., :middle][..., ::-1], -1)[..., ::-1]
        return of.concatenate([below, centre, centre + of.cumsum(steps[..., middle + 1 :], -1)], -1)

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array:
        """The mean pinball loss of the levels, twice."""
        off = target[..., None] - self.ordered(out)
        u = jnp.asarray(self.levels, off.dtype)
        return 2 * jnp.mean(jnp.maximum(u * off, (u - 1) * off), -1)

    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray:
        q = self.ordered(np.asarray(out, np.float64))
        if len(self.levels) == 1:
            return base + scale * q[..., 0] + np.zeros(np.shape(u))
        z, knots = ndtri(np.asarray(u, np.float64)), ndtri(np.array(self.levels))
        left = np.clip(np.searchsorted(knots, z) - 1, 0, len(knots) - 2)
        left = np.broadcast_to(left, np.broadcast_shapes(left.shape, q.shape[:-1]))
        q = np.broadcast_to(q, (*left.shape, q.shape[-1]))
        low, high = (np.take_along_axis(q, at[..., None], -1)[..., 0] for at in (left, left + 1))
        part = (z - knots[left]) / (knots[left + 1] - knots[left])
        return base + scale * (low + part * (high - low))

    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray:
        return mean_of(self, out, base, scale)

    def refuse(self, values: np.ndarray) -> str | None:
        return None


@dataclass(frozen=True)
class Gaussian:
    """Mean and standard deviation."""

    start = (0.0, ONE)
    absolute = False

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array:
        wide = _width(out)
        return 0.5 * ((target - out[..., 0]) / wide) ** 2 + jnp.log(wide) + 0.5 * math.log(2 * math.pi)

    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray:
        return self.mean(out, base, scale) + scale * _width(out) * ndtri(np.asarray(u, np.float64))

    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray:
        return base + scale * out[..., 0]

    def refuse(self, values: np.ndarray) -> str | None:
        return None


@dataclass(frozen=True)
class StudentT:
    """Location, scale and degrees of freedom, above 2 so that there is a variance."""

    start = (0.0, ONE, 3.0)
    absolute = False

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array:
        wide, free = _width(out), 2 + jax.nn.softplus(out[..., 2])
        return -jax.scipy.stats.t.logpdf((target - out[..., 0]) / wide, free) + jnp.log(wide)

    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray:
        from scipy.special import stdtrit

        free = 2 + _softplus(out[..., 2])
        return self.mean(out, base, scale) + scale * _width(out) * stdtrit(free, u)

    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray:
        return base + scale * out[..., 0]

    def refuse(self, values: np.ndarray) -> str | None:
        return None


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts of mean m and variance ``m + a m^2`` (Salinas et al. 2020, DeepAR): ``m = scale softplus(base / scale + out_0)``."""

    start = (0.0, -1.0)
    absolute = True

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array:
        m = scale * jax.nn.softplus(base / scale + out[..., 0]) + 1e-6
        a = jax.nn.softplus(out[..., 1]) + NARROWEST
        lgamma = jax.scipy.special.gammaln
        free = 1 / a
        odds = target * (jnp.log(a * m) - jnp.log1p(a * m)) - free * jnp.log1p(a * m)
        return -(lgamma(target + free) - lgamma(free) - lgamma(target + 1) + odds)

    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray:
        from scipy.stats import nbinom

        m, a = self.mean(out, base, scale), _softplus(out[..., 1]) + NARROWEST
        return nbinom.ppf(u, 1 / a, 1 / (1 + a * m))

    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray:
        return scale * _softplus(base / scale + out[..., 0]) + 1e-6

    def refuse(self, values: np.ndarray) -> str | None:
        bad = (values < 0) | (values != np.round(values))
        return f"counts, whole numbers from 0, got {values[bad][0]:g}" if bad.any() else None


@dataclass(frozen=True)
class Bernoulli:
    """A value is 0 or 1: ``logit p = logit(base, kept in [0.02, 0.98]) + out_0``."""

    start = (0.0,)
    absolute = True

    def nll(self, out: Any, target: Any, base: Any, scale: Any) -> jax.Array:
        base = jnp.clip(base, 0.02, 0.98)
        logit = jnp.log(base) - jnp.log1p(-base) + out[..., 0]
        return jax.nn.softplus(logit) - target * logit

    def ppf(self, out: Any, base: Any, scale: Any, u: Any) -> np.ndarray:
        return np.where(np.asarray(u) > 1 - self.mean(out, base, scale), 1.0, 0.0)

    def mean(self, out: Any, base: Any, scale: Any) -> np.ndarray:
        base = np.clip(base, 0.02, 0.98)
        return 1 / (1 + (1 - base) / base * np.exp(-np.clip(out[..., 0], -500, 500)))

    def refuse(self, values: np.ndarray) -> str | None:
        bad = (values != 0) & (values != 1)
        return f"zeros and ones, got {values[bad][0]:g}" if bad.any() else None


LAWS = {"gaussian": Gaussian, "student_t": StudentT, "negative_binomial": NegativeBinomial, "bernoulli": Bernoulli}
OUTPUTS = ("quantiles", *LAWS)


def law_of(output: str, quantiles: tuple[float, ...]) -> Law:
    """The law by its name in `OUTPUTS`."""
    return Quantiles(quantiles) if output == "quantiles" else LAWS[output]()


def mean_of(law: Law, out: Any, base: Any, scale: Any, points: int = 100) -> np.ndarray:
    """The mean of a law by its quantiles, the midpoint rule."""
    return np.mean([law.ppf(out, base, scale, (i + 0.5) / points) for i in range(points)], 0)


def ndtri(u: Any) -> Any:
    """The quantile of the standard normal law."""
    from scipy.special import ndtri

    return ndtri(u)


def _width(out: Any) -> Any:
    """Of a Gaussian or Student's t: NumPy or JAX, as the outputs are."""
    return _softplus(out[..., 1]) + NARROWEST


def _softplus(x: Any) -> Any:
    return np.logaddexp(0.0, x) if isinstance(x, np.ndarray) else jax.nn.softplus(x)

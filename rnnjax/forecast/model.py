"""`Forecaster`: several rows ahead of several series, with quantiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from rnnjax.forecast.gaps import Decayed
from rnnjax.forecast.laws import OUTPUTS, Law, law_of
from rnnjax.forecast.network import Correction, told_time
from rnnjax.forecast.paths import draw
from rnnjax.forecast.plan import Plan
from rnnjax.forecast.problem import Problem, make_problem, outputs
from rnnjax.forecast.rows import Rows, read_rows
from rnnjax.forecast.windows import Windows
from rnnjax.train import fit
from rnnjax.wrappers.around import check_cell


class Forecast(NamedTuple):
    """What comes after a series.

    mean: ``[horizon, S]``. quantiles: ``[Q, horizon, S]`` at ``levels [Q]``, in order. paths: ``[paths, horizon, S]`` of a
    recursive forecast, or None. ppf: ``ppf(u)`` is the quantile of any share u in (0, 1), ``[horizon, S]``.
    """

    mean: np.ndarray
    quantiles: np.ndarray
    levels: tuple[float, ...]
    paths: np.ndarray | None
    ppf: Callable[[float], np.ndarray]

    @property
    def median(self) -> np.ndarray:
        """``[horizon, S]``: the forecast of least absolute error."""
        return self.ppf(0.5)


@dataclass(frozen=True)
class Forecaster:
    r"""Forecasts ``horizon`` rows of each series, as a law of each value.

        y_{t+h} ~ law(base_h + left_h * network(context, covariates up to t+h))
        base_h  = y_t + sum_i w_{h,i} (method_i - y_t)        level, drift, season, drifting season: see `rnnjax.forecast.simple`

    The linear start ``base`` is a ridge regression on the training rows, made from the last value on, so that it follows a level wherever
    it goes; the network (``cell`` with a linear layer that starts at zero) learns what that misses, in units ``left`` of what it misses
    as a rule. One network serves all series, each scaled by itself; it sees those rows of other series that are handed in as ``past``.

    cell: any cell with one output array; one that is told how long a step is (``rj.CfC(64, elapsed=True)``, CTRNN, LTC) reads uneven rows.
    horizon: H >= 1 rows.
    mode: ``"direct"`` forecasts all rows at once; ``"recursive"`` one row, which is fed back, along drawn paths. For H = 1 both are one.
    output: ``"quantiles"`` (pinball loss), or a likelihood: ``"gaussian"``, ``"student_t"``, ``"negative_binomial"`` (counts),
        ``"bernoulli"`` (zeros and ones). quantiles: the shares Q, increasing, that are learned or read off the likelihood.
    season: rows after which a series repeats itself, an int or several; None finds up to two on the detrended training rows.
    context: rows that the network reads before it forecasts; None takes two seasons, 16 to 96 rows.
    gaps: ``"masked"``, a missing value is read as zero with a flag beside it; ``"grud"``, it fades from the last one seen to the mean, and
        the carry of the cell with it (`rnnjax.forecast.gaps.Decayed`; with ``rj.GRU`` that is GRU-D), so that uneven rows are read too.
    Raises: ValueError or TypeError, by the name of the argument.

    >>> import jax, numpy as np, rnnjax as rj
    >>> series = 1000.0 * np.arange(200)[:, None]
    >>> model = rj.forecast.Forecaster(rj.GRU(4), horizon=3)
    >>> fitted = model.fit(jax.random.key(0), series, steps=5)
    >>> fitted.predict().mean.ravel().round(-1).tolist()
    [200000.0, 201000.0, 202000.0]
    """

    cell: Any
    horizon: int
    _: KW_ONLY
    mode: str = "direct"
    output: str = "quantiles"
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    season: Any = None
    context: int | None = None
    gaps: str = "masked"

    def __post_init__(self) -> None:
        check_cell("Forecaster", self.cell)
        told_time(self.cell)
        for name, choices in (("mode", ("direct", "recursive")), ("output", OUTPUTS), ("gaps", ("masked", "grud"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"Forecaster: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        levels = tuple(float(q) for q in self.quantiles)
        if not levels or not all(0 < q < 1 for q in levels) or any(a >= b for a, b in zip(levels, levels[1:])):
            raise ValueError(f"Forecaster: quantiles must be shares between 0 and 1, increasing, got {self.quantiles}")
        object.__setattr__(self, "quantiles", levels)
        seasons = () if self.season is None else tuple(np.atleast_1d(self.season).tolist())
        for name, value in (("horizon", self.horizon), ("context", self.context), *(("season", m) for m in seasons)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
                raise ValueError(f"Forecaster: {name} must be a whole number of rows, at least 1, got {value!r}")

    @property
    def law(self) -> Law:
        """The law of a value, see `rnnjax.forecast.laws`."""
        return law_of(self.output, self.quantiles)

    @property
    def network(self) -> Correction:
        """The cell with its readout."""
        return Correction(Decayed(self.cell) if self.gaps == "grud" else self.cell, self.law.start)

    def problem(self, rows: Rows, *, batch: int = 32, seed: int = 0, held_out: float = 0.1) -> Problem:
        """What there is to train on; for those who train by themselves, see `rnnjax.train.fit`."""
        return make_problem(self, rows, batch, seed, held_out)

    def fit(
        self,
        key: jax.Array,
        series: Any,
        *,
        known: Any = None,
        past: Any = None,
        static: Any = None,
        times: Any = None,
        mask: Any = None,
        steps: int = 1000,
        batch: int = 32,
        rate: float = 2e-3,
        patience: int | None = 5,
        progress: bool | None = None,
    ) -> Fitted:
        """Trains on all rows but the last tenth (a horizon at least), on which the best parameters are chosen.

        series: ``[T, S]``; NaN, and what is False in ``mask`` (bool ``[T, S]``), is missing: neither target nor input. Series of
        different length end with the last row; what is missing before them is no part of them. `from_long` makes them of a long table.
        known: ``[T + horizon, K]`` known in advance, as a calendar is, or ``[T + horizon, S, K]`` where each series has its own.
        past: ``[T, P]`` or ``[T, S, P]``, known up to the last row alone. static: ``[S, F]``, one row for each series.
        times: ``[T]`` or ``[T + horizon]`` (a column for each series, or one), increasing, of rows that are not even; dates or numbers.
        steps: of Adam at ``rate`` (warmed up, then a cosine down), each on ``batch`` windows, at most; stops early after ``patience``
        validations without a better one, of which there are 20. No window of training reaches into a target of validation.
        Raises: ValueError, a sentence, if the data do not suffice or do not fit.
        """
        beside = dict(known=known, past=past, static=static, times=times, mask=mask)
        rows = read_rows("Forecaster.fit", series, self.horizon, **beside)
        return self.fit_rows(key, rows, steps=steps, batch=batch, rate=rate, patience=patience, progress=progress)

    def fit_rows(
        self,
        key: jax.Array,
        rows: Rows,
        *,
        steps: int = 1000,
        batch: int = 32,
        rate: float = 2e-3,
        patience: int | None = 5,
        progress: bool | None = None,
    ) -> Fitted:
        """`fit` for rows that are read already."""
        start, data, noise = jax.random.split(key, 3)
        seed = int(jax.random.randint(data, (), 0, 2**31 - 1))
        problem = self.problem(rows, batch=batch, seed=seed)
        params = problem.network.init(start, np.zeros(problem.example.shape, np.float32))
        warm_up = max(1, steps // 20)
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warm_up, max(steps, warm_up + 1), rate / 100)
        found = fit(
            lambda params, carry, window, noise: (carry, problem.loss(params, window, noise)),
            params,
            problem.batches,
            optimizer=optax.adam(schedule),
            steps=steps,
            key=noise,
            validate=problem.validate,
            validate_every=max(1, steps // 20),
            patience=patience,
            progress=progress,
        )
        before = problem.validate(params)
        better = found.best_loss is not None and found.best_loss < before
        return Fitted(self, problem.plan, found.params if better else params, rows, found.history)


@dataclass(frozen=True)
class Fitted:
    """A trained `Forecaster`. params: of its network. plan: what was fixed on the training rows. history: lines of `rnnjax.train.fit`."""

    model: Forecaster
    plan: Plan
    params: Any
    rows: Rows = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False, default_factory=list)

    def predict(
        self,
        series: Any = None,
        *,
        known: Any = None,
        past: Any = None,
        static: Any = None,
        times: Any = None,
        mask: Any = None,
        paths: int = 200,
        seed: int = 0,
    ) -> Forecast:
        """The ``horizon`` rows after ``series [T, S]``; after the one it was fitted to, with its covariates, if None.

        known, past, times, mask: as in `Forecaster.fit`, as many features as there; static: that of `Forecaster.fit` if None.
        paths, seed: of a recursive forecast.
        Raises: ValueError, a sentence, on other columns, or where the series is too short to forecast from.
        """
        given = dict(known=known, past=past, static=static, times=times, mask=mask)
        if series is None and any(a is not None for a in given.values()):
            raise ValueError("predict: covariates and masks go with a series; give it too")
        given |= dict(static=self.rows.static if static is None else static, width=self.rows.values.shape[1])
        rows = self.rows if series is None else read_rows("predict", series, self.model.horizon, **given)
        return self.after(rows, paths, seed)

    def after(self, rows: Rows, paths: int = 200, seed: int = 0) -> Forecast:
        """`predict` for rows that are read already."""
        self._check(rows)
        if self.model.mode == "recursive":
            return self._drawn(rows, paths, seed)
        law, plan = self.model.law, self.plan
        windows = Windows(rows, plan, taught=False, absolute=law.absolute)
        column = np.arange(rows.values.shape[1])
        origin = np.full(len(column), len(rows.values) - 1)
        out = outputs(self.network, self.params, windows.inputs(origin, column), plan.horizon)
        ahead = np.arange(1, plan.horizon + 1)[:, None]
        return self._forecast(np.asarray(out, np.float64), *plan.start_of(windows.history, origin, ahead, column))

    @property
    def network(self) -> Correction:
        """The cell with its readout, whose parameters are ``params``."""
        return self.model.network

    def _forecast(self, out: np.ndarray, base: np.ndarray, scale: np.ndarray) -> Forecast:
        """The forecast by the law of each value."""
        law, unit, levels = self.model.law, self.plan.unit, self.model.quantiles
        ppf = lambda u: law.ppf(out, base, scale, u) * unit
        return Forecast(law.mean(out, base, scale) * unit, np.stack([ppf(u) for u in levels]), levels, None, ppf)

    def _drawn(self, rows: Rows, paths: int, seed: int) -> Forecast:
        """The forecast by drawn paths; the first row by its law, which is known."""
        if not isinstance(paths, (int, np.integer)) or paths < 1:
            raise ValueError(f"predict: paths must be a whole number, at least 1, got {paths!r}")
        drawn, first = draw(self.network, self.params, self.model.law, self.plan, rows, int(paths), seed)
        drawn, exact, levels = drawn * self.plan.unit, self._forecast(*first), self.model.quantiles
        ppf = lambda u: np.concatenate([exact.ppf(u), np.quantile(drawn[:, 1:], u, axis=0)])
        mean = np.concatenate([exact.mean, drawn[:, 1:].mean(0)])
        return Forecast(mean, np.stack([ppf(u) for u in levels]), levels, drawn, ppf)

    def _check(self, rows: Rows) -> None:
        """Raises: ValueError if the rows do not suffice, or have other covariates."""
        have, need = len(rows.values), self.plan.reach
        if have < need:
            raise ValueError(
                f"predict: a forecast looks back over {need} rows, got {have}; give more of the series before it"
            )
        for name in ("known", "past", "static"):
            got, fitted = getattr(rows, name).shape[-1], getattr(self.plan, name).shape[-1]
            if got != fitted:
                raise ValueError(f"predict: {name} must have the {fitted} features of fit, got {got}")
        if rows.times is not None and not self.plan.timed and self.plan.gaps == "masked":
            raise ValueError("predict: times go with a model that was fitted with times; leave them out")

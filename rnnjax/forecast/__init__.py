"""Forecasting: several rows ahead of several series, with quantiles; measured beside the simple methods."""

from rnnjax.forecast.backtest import Backtest, backtest
from rnnjax.forecast.laws import OUTPUTS
from rnnjax.forecast.long import Long, from_long
from rnnjax.forecast.model import Fitted, Forecast, Forecaster
from rnnjax.forecast.picture import fan_chart
from rnnjax.forecast.scores import Scores

__all__ = [
    "OUTPUTS",
    "Backtest",
    "Fitted",
    "Forecast",
    "Forecaster",
    "Long",
    "Scores",
    "backtest",
    "fan_chart",
    "from_long",
]

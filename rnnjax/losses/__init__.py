"""Losses: one number for every step (masked, `over_time` makes one of them), or for every sequence (`ctc`, `crf`)."""

from rnnjax.losses.alignment import ctc
from rnnjax.losses.labelling import crf
from rnnjax.losses.sampled import sampled_softmax
from rnnjax.losses.steps import (
    activation_regularization,
    bernoulli_nll,
    gaussian_nll,
    mae,
    mse,
    over_time,
    softmax_cross_entropy,
    temporal_activation_regularization,
)

__all__ = [
    "activation_regularization",
    "bernoulli_nll",
    "crf",
    "ctc",
    "gaussian_nll",
    "mae",
    "mse",
    "over_time",
    "sampled_softmax",
    "softmax_cross_entropy",
    "temporal_activation_regularization",
]

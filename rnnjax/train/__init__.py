"""Training: the article's algorithm in one readable function, and `fit`, the same with everything a long run needs.

`train`      initialise, forward, loss, back-propagation through time, update, repeat: one screen.
`make_step`  one optimisation step, compiled: gradient, clipping, optax update, non-finite guard.
`fit`        steps until converged or out of steps: validation, early stopping, metrics, checkpoints, resume, Ctrl-C.
"""

from rnnjax.train.article import train
from rnnjax.train.checkpoint import Checkpoints, Damaged
from rnnjax.train.fit import Fit, fit
from rnnjax.train.step import LossFn, Report, TrainState, make_step, memory, start, stateless

__all__ = [
    "Checkpoints",
    "Damaged",
    "Fit",
    "LossFn",
    "Report",
    "TrainState",
    "fit",
    "make_step",
    "memory",
    "start",
    "stateless",
    "train",
]

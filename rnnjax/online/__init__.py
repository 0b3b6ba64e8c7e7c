"""Learning online: gradients carried forward in time, for streams that never end and in memory that does not grow."""

from rnnjax.online.compare import Comparison, compare
from rnnjax.online.fit import Progress, fit
from rnnjax.online.learner import Learner, State, value_and_grad

__all__ = ["Comparison", "Learner", "Progress", "State", "compare", "fit", "value_and_grad"]

"""What a recipe is: a name, a set, a metric and a floor, and a function that makes the problem of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from rnnjax.train import LossFn

Params = Any


class Setting(NamedTuple):
    """How a recipe is to be made. seed: of the parameters, the order of the data, and data that are generated.
    full: the long run. small: data and network of a size for tests. steps: in place of the recipe's."""

    seed: int = 0
    full: bool = False
    small: bool = False
    steps: int | None = None

    def pick(self, usual: Any, full: Any = None, small: Any = None) -> Any:
        """The value for this setting; ``usual`` where there is no other.

        >>> Setting(full=True).pick(100, full=1000), Setting().pick(100, full=1000), Setting(small=True).pick(100)
        (1000, 100, 100)
        """
        found = small if self.small else full if self.full else usual
        return usual if found is None else found

    def length(self, usual: int, full: int) -> int:
        """Steps of training: those asked for, else the recipe's; four where it is small."""
        return self.steps or self.pick(usual, full, small=4)


class Score(NamedTuple):
    """A number in the recipe's metric, and what it is made of or what is told beside it, by name.

    loss: what the best parameters are chosen by, where the metric is too coarse for it.
    """

    value: float
    parts: Mapping[str, float] = {}
    loss: float | None = None


class Problem(NamedTuple):
    """A recipe made: what `rnnjax.train.fit` needs, and how the result is judged.

    loss: as for `rnnjax.train.fit`, the carry unused unless `carry` is given. batches: ``step -> batch``.
    score: ``(params, split) -> Score``, split "valid" or "test"; the runner asks for ``"test"`` once, after training.
    floors: predictors without recurrence, by name: each a function that gives its score on the test split.
    validations: how many there are on the way; the best of them is kept. noise: whether training is given a key.
    average: as for `rnnjax.train.fit`.
    show: ``params -> text``: something to read. files: ``params -> bytes by name``, to hear or to see in the run's folder.
    """

    params: Params
    loss: LossFn
    batches: Callable[[int], Any]
    score: Callable[[Params, str], Score]
    floors: Mapping[str, Callable[[], float]]
    optimizer: optax.GradientTransformation
    steps: int
    carry: Any = None
    clip: float | None = 1.0
    validations: int = 10
    patience: int | None = None
    noise: bool = False
    average: float | None = None
    show: Callable[[Params], str] | None = None
    files: Callable[[Params], Mapping[str, bytes]] | None = None


class Recipe(NamedTuple):
    """One task: what ``rnnjax tasks`` lists, and ``make(setting)``, which reads the data.

    better: "higher" (shares in [0, 1]) or "lower". floor: in words. beside: published numbers on other data or splits, in words.
    """

    name: str
    set: str
    metric: str
    better: str
    floor: str
    make: Callable[[Setting], Problem]
    beside: str = ""


def cosine(rate: float, steps: int, **options: Any) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine down to a hundredth of ``rate``."""
    warm_up = max(1, steps // 20)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warm_up, max(steps, warm_up + 1), rate / 100)
    return optax.adamw(schedule, **{"b2": 0.99, "weight_decay": 1e-4} | options)

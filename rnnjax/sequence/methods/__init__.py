"""The ways to run one cell over all steps: ``METHODS[name](run, options) -> Rolled``, one file each."""

from collections.abc import Callable

from rnnjax.sequence.methods import associative, loop, newton, scan
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run

METHODS: dict[str, Callable[[Run, Options], Rolled]] = {
    "scan": scan.run,
    "loop": loop.run,
    "associative": associative.run,
    "deer": newton.run,
    "quasi_deer": newton.run,
    "elk": newton.run,
}

"""`scan`, a drop-in for `jax.lax.scan` that trains recurrent bodies faster; `explain`, which says what it did; `tune`,
which measures what is fastest.

One file or folder per step: `capture` -> `passes` -> `binding_times` -> `deferral` -> `plan` -> `schedule` -> `execute`
(`forward`, and `derivative` with `residuals` and `stacks`). Beside them `eager`, which keeps compiled loops, and `tune`.
"""

from rnnjax.engine.api import explain, scan
from rnnjax.engine.capture import lowered
from rnnjax.engine.explain import Explanation
from rnnjax.engine.plan import Tuned, check_fuse
from rnnjax.engine.tune import tune

__all__ = ["Explanation", "Tuned", "check_fuse", "explain", "lowered", "scan", "tune"]

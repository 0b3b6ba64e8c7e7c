"""`scan`, a drop-in for `jax.lax.scan` that trains recurrent bodies faster, and `explain`, which says what it did.

One file per step: `trace` -> `sort` -> `rewrite` -> `taps` -> `plan` -> `linear` (with `residuals`) -> `run`.
"""

from rnnjax.engine.api import explain, scan
from rnnjax.engine.explain import Explanation

__all__ = ["Explanation", "explain", "scan"]

"""`scan`, a drop-in for `jax.lax.scan` that trains recurrent bodies faster, and `explain`, which says what it did.

One file per step: `trace` -> `rewrite` (with `join`) -> `sort` -> `taps` -> `plan` -> `linear` (with `residuals`) ->
`schedule` -> `store` and `tangents` -> `run`.
"""

from rnnjax.engine.api import explain, scan
from rnnjax.engine.explain import Explanation

__all__ = ["Explanation", "explain", "scan"]

"""`scan`, a drop-in for `jax.lax.scan` that trains recurrent bodies faster, and `explain`, which says what it did."""

from rnnjax.engine.api import explain, scan

__all__ = ["explain", "scan"]

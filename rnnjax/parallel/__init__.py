"""Parallel in time: associative scans for cells linear in time, Newton's method for all others.

The public face of `rnnjax.sequence.methods`, where the algorithms stand.
"""

from rnnjax.protocols import is_linear
from rnnjax.sequence.methods.associative import prefixes
from rnnjax.sequence.methods.newton import Report, newton

__all__ = ["Report", "is_linear", "newton", "prefixes"]

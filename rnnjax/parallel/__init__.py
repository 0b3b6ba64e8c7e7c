"""Parallel in time: associative scans for cells linear in time, Newton's method for all others."""

from rnnjax.parallel.associative import is_linear, prefixes
from rnnjax.parallel.newton import Report, newton

__all__ = ["Report", "is_linear", "newton", "prefixes"]

"""Parallel in time: associative scans for cells linear in time, Newton's method for all others."""

from rnnjax.parallel import associative

__all__ = ["associative"]

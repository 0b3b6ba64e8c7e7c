"""Parallel in time: associative scans for cells linear in time, Newton's method for all others.

newton        the iteration with a report
adjoint       a loop forward with a gradient in parallel
choose        measures, on this machine and these numbers, which method to give to `rnnjax.unroll`
Forced        generalised teacher forcing, under which a chaotic cell becomes one that forgets
over_devices  cells linear in time, the steps split over devices

The algorithms stand in `rnnjax.sequence.methods`.
"""

from rnnjax.parallel.choosing import Choice, choose
from rnnjax.parallel.devices import over_devices
from rnnjax.parallel.forced import Forced
from rnnjax.protocols import is_linear
from rnnjax.sequence.methods.associative import prefixes
from rnnjax.sequence.methods.newton import Report, adjoint, newton

__all__ = ["Choice", "Forced", "Report", "adjoint", "choose", "is_linear", "newton", "over_devices", "prefixes"]

"""Every cell and carry of the library, family by family: what ``rnnjax`` and ``rnnjax.cells`` hand on."""

from rnnjax.cells.continuous import *
from rnnjax.cells.conv import *
from rnnjax.cells.fast_weights import *
from rnnjax.cells.gated import *
from rnnjax.cells.linear import *
from rnnjax.cells.lstm import *
from rnnjax.cells.memory import *
from rnnjax.cells.orthogonal import *
from rnnjax.cells.simple import *
from rnnjax.cells.state_space import *

__all__ = [name for name, value in list(globals().items()) if isinstance(value, type)]  # pyright: ignore[reportUnsupportedDunderAll]

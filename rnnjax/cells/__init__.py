"""The cells, a folder for each family."""

from rnnjax.cells import families
from rnnjax.cells.catalogue import catalogue
from rnnjax.cells.families import *
from rnnjax.cells.simple.reservoir import ridge

__all__ = ["catalogue", "ridge"]
__all__ += families.__all__

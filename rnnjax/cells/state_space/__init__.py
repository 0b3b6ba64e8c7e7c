"""Diagonal state spaces, linear in time."""

from rnnjax.cells.state_space.lru import LRU as LRU
from rnnjax.cells.state_space.s4d import S4D as S4D
from rnnjax.cells.state_space.s5 import S5 as S5
from rnnjax.cells.state_space.s6 import S6 as S6

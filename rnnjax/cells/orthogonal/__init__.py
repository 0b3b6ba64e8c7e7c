"""Recurrences that neither grow nor shrink what they carry."""

from rnnjax.cells.orthogonal.antisymmetric import AntisymmetricRNN as AntisymmetricRNN
from rnnjax.cells.orthogonal.orthogonal import OrthogonalRNN as OrthogonalRNN
from rnnjax.cells.orthogonal.unitary import UnitaryRNN as UnitaryRNN

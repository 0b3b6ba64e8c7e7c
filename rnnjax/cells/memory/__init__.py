"""Networks with a memory beside the state."""

from rnnjax.cells.memory.stack import StackRNN as StackRNN
from rnnjax.cells.memory.stack import StackRNNCarry as StackRNNCarry
from rnnjax.cells.memory.tape import TapeRNN as TapeRNN
from rnnjax.cells.memory.tape import TapeRNNCarry as TapeRNNCarry

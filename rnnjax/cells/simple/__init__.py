"""Simple recurrent networks: the state is a sum, squashed."""

from rnnjax.cells.simple.clockwork import Clockwork as Clockwork
from rnnjax.cells.simple.clockwork import ClockworkCarry as ClockworkCarry
from rnnjax.cells.simple.elman import IRNN as IRNN
from rnnjax.cells.simple.elman import Elman as Elman
from rnnjax.cells.simple.fast_rnn import FastRNN as FastRNN
from rnnjax.cells.simple.indrnn import IndRNN as IndRNN
from rnnjax.cells.simple.jordan import Jordan as Jordan
from rnnjax.cells.simple.reservoir import EchoState as EchoState
from rnnjax.cells.simple.scrn import SCRN as SCRN
from rnnjax.cells.simple.scrn import SCRNCarry as SCRNCarry

"""Units whose gates decide what of the state is kept: the GRU and its relatives."""

from rnnjax.cells.gated.additive import ATR as ATR
from rnnjax.cells.gated.additive import CFN as CFN
from rnnjax.cells.gated.additive import RAN as RAN
from rnnjax.cells.gated.additive import STAR as STAR
from rnnjax.cells.gated.additive import RANCarry as RANCarry
from rnnjax.cells.gated.bistable import BRC as BRC
from rnnjax.cells.gated.bistable import NBRC as NBRC
from rnnjax.cells.gated.fast_grnn import FastGRNN as FastGRNN
from rnnjax.cells.gated.gru import GRU as GRU
from rnnjax.cells.gated.minimal import MGU as MGU
from rnnjax.cells.gated.minimal import UGRNN as UGRNN
from rnnjax.cells.gated.minimal import LightRU as LightRU
from rnnjax.cells.gated.minimal import LiGRU as LiGRU
from rnnjax.cells.gated.minimal import MinimalRNN as MinimalRNN
from rnnjax.cells.gated.mutants import MUT1 as MUT1
from rnnjax.cells.gated.mutants import MUT2 as MUT2
from rnnjax.cells.gated.mutants import MUT3 as MUT3
from rnnjax.cells.gated.typed import TGRU as TGRU
from rnnjax.cells.gated.typed import TLSTM as TLSTM
from rnnjax.cells.gated.typed import TRNN as TRNN
from rnnjax.cells.gated.typed import TGRUCarry as TGRUCarry
from rnnjax.cells.gated.typed import TLSTMCarry as TLSTMCarry

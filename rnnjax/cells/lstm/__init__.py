"""The LSTM and its relatives."""

from rnnjax.cells.lstm.highway import RHN as RHN
from rnnjax.cells.lstm.janet import JANET as JANET
from rnnjax.cells.lstm.lstm import LSTM as LSTM
from rnnjax.cells.lstm.lstm import LSTMCarry as LSTMCarry
from rnnjax.cells.lstm.multiplicative import MultiplicativeLSTM as MultiplicativeLSTM
from rnnjax.cells.lstm.multiplicative import MultiplicativeLSTMCarry as MultiplicativeLSTMCarry
from rnnjax.cells.lstm.nas import NAS as NAS
from rnnjax.cells.lstm.nas import NASCarry as NASCarry
from rnnjax.cells.lstm.slstm import SLSTM as SLSTM
from rnnjax.cells.lstm.slstm import SLSTMCarry as SLSTMCarry

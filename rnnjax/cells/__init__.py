"""The cells, one file per family."""

from rnnjax.cells.additive import ATR, CFN, RAN, STAR, RANCarry
from rnnjax.cells.attention import DeltaNet, GatedDeltaNet, LinearAttention, LinearAttentionCarry
from rnnjax.cells.bistable import BRC, NBRC
from rnnjax.cells.catalogue import catalogue
from rnnjax.cells.clockwork import Clockwork, ClockworkCarry
from rnnjax.cells.continuous import CTRNN, LTC, CfC
from rnnjax.cells.conv import ConvGRU, ConvLSTM, ConvLSTMCarry
from rnnjax.cells.elman import IRNN, Elman
from rnnjax.cells.fast import FastGRNN, FastRNN
from rnnjax.cells.gru import GRU
from rnnjax.cells.highway import RHN
from rnnjax.cells.indrnn import IndRNN
from rnnjax.cells.janet import JANET
from rnnjax.cells.jordan import Jordan
from rnnjax.cells.linear_gates import RGLRU, SRU, MinGRU, MinLSTM
from rnnjax.cells.lstm import LSTM, LSTMCarry
from rnnjax.cells.memory import StackRNN, StackRNNCarry, TapeRNN, TapeRNNCarry
from rnnjax.cells.minimal import MGU, UGRNN, LightRU, LiGRU, MinimalRNN
from rnnjax.cells.multiplicative import MultiplicativeLSTM, MultiplicativeLSTMCarry
from rnnjax.cells.mutants import MUT1, MUT2, MUT3
from rnnjax.cells.nas import NAS, NASCarry
from rnnjax.cells.orthogonal import AntisymmetricRNN, OrthogonalRNN, UnitaryRNN
from rnnjax.cells.oscillator import LEM, CoRNN, OscillatorCarry, UnICORNN
from rnnjax.cells.qrnn import QRNN, QRNNCarry
from rnnjax.cells.rate import RateRNN
from rnnjax.cells.reservoir import EchoState, ridge
from rnnjax.cells.scrn import SCRN, SCRNCarry
from rnnjax.cells.selective import S6
from rnnjax.cells.state_space import LRU, S4D, S5
from rnnjax.cells.typed import TGRU, TLSTM, TRNN, TGRUCarry, TLSTMCarry
from rnnjax.cells.xlstm import MLSTM, SLSTM, MLSTMCarry, SLSTMCarry

__all__ = [
    "ATR",
    "BRC",
    "CFN",
    "CTRNN",
    "GRU",
    "IRNN",
    "JANET",
    "LEM",
    "LRU",
    "LSTM",
    "LTC",
    "MGU",
    "MLSTM",
    "MUT1",
    "MUT2",
    "MUT3",
    "NAS",
    "NBRC",
    "QRNN",
    "RAN",
    "RGLRU",
    "RHN",
    "S4D",
    "S5",
    "S6",
    "SCRN",
    "SLSTM",
    "SRU",
    "STAR",
    "TGRU",
    "TLSTM",
    "TRNN",
    "UGRNN",
    "AntisymmetricRNN",
    "CfC",
    "Clockwork",
    "ClockworkCarry",
    "CoRNN",
    "ConvGRU",
    "ConvLSTM",
    "ConvLSTMCarry",
    "DeltaNet",
    "EchoState",
    "Elman",
    "FastGRNN",
    "FastRNN",
    "GatedDeltaNet",
    "IndRNN",
    "Jordan",
    "LSTMCarry",
    "LiGRU",
    "LightRU",
    "LinearAttention",
    "LinearAttentionCarry",
    "MLSTMCarry",
    "MinGRU",
    "MinLSTM",
    "MinimalRNN",
    "MultiplicativeLSTM",
    "MultiplicativeLSTMCarry",
    "NASCarry",
    "OrthogonalRNN",
    "OscillatorCarry",
    "QRNNCarry",
    "RANCarry",
    "RateRNN",
    "SCRNCarry",
    "SLSTMCarry",
    "StackRNN",
    "StackRNNCarry",
    "TGRUCarry",
    "TLSTMCarry",
    "TapeRNN",
    "TapeRNNCarry",
    "UnICORNN",
    "UnitaryRNN",
    "catalogue",
    "ridge",
]

"""Networks in continuous time, oscillators, rates of neurons."""

from rnnjax.cells.continuous.continuous import CTRNN as CTRNN
from rnnjax.cells.continuous.continuous import LTC as LTC
from rnnjax.cells.continuous.continuous import CfC as CfC
from rnnjax.cells.continuous.oscillator import LEM as LEM
from rnnjax.cells.continuous.oscillator import CoRNN as CoRNN
from rnnjax.cells.continuous.oscillator import OscillatorCarry as OscillatorCarry
from rnnjax.cells.continuous.oscillator import UnICORNN as UnICORNN
from rnnjax.cells.continuous.rate import RateRNN as RateRNN

"""Sequence to sequence: searches for the best tokens, and labels without their times.

`greedy`, `sample` and `beam` take any pure ``step(carry, token) -> (carry, logits)``. `ctc_greedy` and `ctc_beam` read what a
network trained by `rnnjax.losses.ctc` says, `viterbi` what one trained by `rnnjax.losses.crf` says.
"""

from rnnjax.seq2seq.chain import viterbi
from rnnjax.seq2seq.ctc import ctc_beam, ctc_greedy
from rnnjax.seq2seq.search import beam, greedy, sample

__all__ = ["beam", "ctc_beam", "ctc_greedy", "greedy", "sample", "viterbi"]

"""Sequence to sequence: encoder and decoder with attention, searches for the best tokens, labels without their times.

`EncoderDecoder` reads one sequence and writes another; its `decoder_step` is what the searches take. `greedy`, `sample` and `beam`
take any pure ``step(carry, token) -> (carry, logits)``. `ctc_greedy` and `ctc_beam` read what a network trained by
`rnnjax.losses.ctc` says, `viterbi` what one trained by `rnnjax.losses.crf` says.
"""

from rnnjax.seq2seq.chain import viterbi
from rnnjax.seq2seq.ctc import ctc_beam, ctc_greedy
from rnnjax.seq2seq.encoder_decoder import EncoderDecoder
from rnnjax.seq2seq.search import beam, greedy, sample

__all__ = ["EncoderDecoder", "beam", "ctc_beam", "ctc_greedy", "greedy", "sample", "viterbi"]

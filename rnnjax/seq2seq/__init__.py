"""Sequence to sequence: encoder-decoders with attention, searches for the best tokens, and labels without their times.

`EncoderDecoder` is the model. `greedy`, `sample` and `beam` take any pure ``step(carry, token) -> (carry, logits)``, a
decoder's or your own. `ctc_greedy` and `ctc_beam` read what a network trained by `rnnjax.losses.ctc` says, `viterbi` what
one trained by `rnnjax.losses.crf` says.
"""

from rnnjax.seq2seq.chain import viterbi

__all__ = ["viterbi"]

"""An encoder-decoder of torch, LSTMs on both sides and Bahdanau's attention by hand, ported: the same logits and gradients."""

import jax
import numpy as np
import pytest

import rnnjax as rj

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
S, T, B, V, W, F, H = 6, 5, 4, 9, 8, 5, 7
RNG = np.random.default_rng(0)
SOURCE, TARGET, LENGTHS = RNG.integers(0, V, (S, B)), RNG.integers(0, W, (T, B)), np.array([6, 1, 4, 3])


class Theirs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.source, self.target = nn.Embedding(V, F), nn.Embedding(W, F)
        self.encoder, self.decoder = nn.LSTM(F, H), nn.LSTM(F + H, H)
        self.query, self.memory, self.score = nn.Linear(H, H, bias=False), nn.Linear(H, H), nn.Linear(H, 1, bias=False)
        self.combine, self.output = nn.Linear(2 * H, H), nn.Linear(H, W)

    def forward(self, source, target, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(self.source(source), lengths, enforce_sorted=False)
        encoded, state = self.encoder(packed)
        encoded, _ = torch.nn.utils.rnn.pad_packed_sequence(encoded, total_length=S)
        padding = torch.arange(S)[:, None] >= lengths
        logits = []
        for token in target:
            scores = self.score(torch.tanh(self.query(state[0]) + self.memory(encoded)))[..., 0]
            weights = torch.softmax(scores.masked_fill(padding, float("-inf")), 0)
            context = (weights[..., None] * encoded).sum(0)
            y, state = self.decoder(torch.cat([self.target(token), context], -1)[None], state)
            logits.append(self.output(torch.tanh(self.combine(torch.cat([y[0], context], -1)))))
        return torch.stack(logits)


def ported(theirs):
    """Model and params of ours with these weights; a Linear of torch is [outputs, inputs]."""
    weight = lambda module: np.asarray(module.weight.detach()).T
    bias = lambda module: np.asarray(module.bias.detach())
    (encoder, encoder_params), (decoder, decoder_params) = map(rj.interop.from_torch, (theirs.encoder, theirs.decoder))
    params = {
        "source_table": weight(theirs.source).T,
        "target_table": weight(theirs.target).T,
        "encoder": encoder_params,
        "decoder": decoder_params,
        "attention": {
            "query": weight(theirs.query),
            "memory": weight(theirs.memory),
            "bias": bias(theirs.memory),
            "score": weight(theirs.score)[:, 0],
        },
        "combine": weight(theirs.combine),
        "combine_bias": bias(theirs.combine),
        "output": weight(theirs.output),
        "output_bias": bias(theirs.output),
    }
    return rj.seq2seq.EncoderDecoder(encoder, decoder.cell, V, W, features=F), params


def test_logits_and_gradients_are_those_of_torch():
    torch.manual_seed(0)
    theirs = Theirs()
    model, params = ported(theirs)
    made = model.init(jax.random.key(0))
    assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, params)
    want = theirs(*map(torch.as_tensor, (SOURCE, TARGET, LENGTHS)))
    torch.sin(want).sum().backward()

    @jax.jit
    @jax.grad
    def gradients(params):
        return jax.numpy.sin(model(params, SOURCE, TARGET, source_lengths=LENGTHS)).sum()

    got = jax.jit(lambda p: model(p, SOURCE, TARGET, source_lengths=LENGTHS))(params)
    np.testing.assert_allclose(got, want.detach(), rtol=1e-4, atol=1e-5)
    grads = gradients(params)
    for ours, module in (
        (grads["source_table"].T, theirs.source),
        (grads["target_table"].T, theirs.target),
        (grads["attention"]["query"], theirs.query),
        (grads["attention"]["memory"], theirs.memory),
        (grads["attention"]["score"][:, None], theirs.score),
        (grads["combine"], theirs.combine),
        (grads["output"], theirs.output),
    ):
        np.testing.assert_allclose(ours, module.weight.grad.T, rtol=1e-3, atol=1e-5)

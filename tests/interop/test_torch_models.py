"""torch modules with an embedding and linear layers round the recurrent one: values and gradients against torch; refusals."""

import copy

import jax
import numpy as np
import pytest
from interop.compare import B, H, I, T, close, data

import rnnjax as rj

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
nn = torch.nn
TOKENS = np.random.default_rng(0).integers(0, 7, (B, T))


class Tagger(nn.Module):
    """As people write it: tokens in, a score for every step and tag out."""

    def __init__(self, kind="LSTM", padding_idx=None, **options):
        super().__init__()
        self.embed = nn.Embedding(7, I, padding_idx=padding_idx)
        self.drop = nn.Dropout(0.3)
        self.body = getattr(nn, kind)(I, H, batch_first=True, **options)
        self.fc = nn.Linear(H * (1 + self.body.bidirectional), 2)

    def forward(self, x, state=None):
        x = self.drop(self.embed(x))
        out, state = self.body(x, state)
        return self.fc(torch.relu(out)), state


class Scorer(Tagger):
    """One score for a sequence. read: how its forward comes to one vector."""

    def __init__(self, read, kind="GRU", **options):
        super().__init__(kind, **options)
        self.read = read

    def forward(self, x):
        out, hidden = self.body(self.embed(x))
        hidden = hidden[0] if isinstance(self.body, nn.LSTM) else hidden
        return torch.sigmoid(self.fc(self.read(out, hidden)))


SEQUENTIAL = lambda: nn.Sequential(
    nn.Embedding(7, I), nn.GRU(I, H, 2, batch_first=True), nn.Tanh(), nn.Linear(H, 2), nn.Softmax(dim=-1)
)
whole, last = (lambda carry, y: y), (lambda carry, y: rj.last_output(y, time_axis=1))
ENDS = lambda out, h: torch.cat((h[-2], h[-1]), dim=1)
MODELS = {  # the module, tokens or numbers, what of our result is torch's
    "tagger": (lambda: Tagger(), TOKENS, whole),
    "tagger with padding, both ways": (lambda: Tagger("GRU", padding_idx=0, bidirectional=True), TOKENS, whole),
    "two layers": (lambda: Tagger("RNN", num_layers=2, dropout=0.1), TOKENS, whole),
    "sequential": (SEQUENTIAL, TOKENS, whole),
    "last step": (lambda: Scorer(lambda out, h: out[:, -1]), TOKENS, last),
    "last step, all": (lambda: Scorer(lambda out, h: out[:, -1, :], "LSTM", bidirectional=True), TOKENS, last),
    "last state": (lambda: Scorer(lambda out, h: h[-1], "LSTM", num_layers=2), TOKENS, last),
    "only state": (lambda: Scorer(lambda out, h: h.squeeze(0)), TOKENS, last),
    "both ends": (lambda: Scorer(ENDS, "LSTM", num_layers=2, bidirectional=True), TOKENS, whole),
    "mean": (lambda: Scorer(lambda out, h: out.mean(dim=1)), TOKENS, whole),
    "numbers": (lambda: nn.Sequential(nn.Linear(2, I), nn.ReLU(), nn.LSTM(I, H, batch_first=True)), data(1, B, T, 2), whole),
}  # fmt: skip
QUICK = ("tagger", "both ends", "last state")


def answer(module, x):
    """torch's result; what an nn.Sequential gives that torch itself cannot run is written out here."""
    if isinstance(module, nn.Sequential):
        for inner in module:
            x = inner(x)
            x = x[0] if isinstance(x, tuple) else x
        return x
    x = module(x)
    return x[0] if isinstance(x, tuple) else x


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_values_and_gradients(name):
    make, xs, read = MODELS[name]
    torch.manual_seed(0)
    module = make().eval()
    layer, params = rj.interop.from_torch(module)
    expected = answer(module, torch.tensor(xs))
    weights = data(5, *expected.shape)
    (torch.tensor(weights) * expected).sum().backward()
    grads_of = copy.deepcopy(module)
    with torch.no_grad():
        for (label, p), source in zip(grads_of.named_parameters(), module.parameters()):
            p.copy_(source.grad)
            if ".bias_hh" in f".{label}":  # the two biases have one gradient, which must not be added up
                p[: 2 * H if p.shape[0] == 3 * H else None] = 0

    @jax.jit
    def loss(params):
        y = read(*layer(params, xs, time_axis=1))
        return (weights * y).sum(), y

    grads, y = jax.grad(loss, has_aux=True)(params)
    close(y, expected.detach().numpy())
    close(grads, rj.interop.from_torch(grads_of)[1])


def test_what_the_layers_become():
    as_cell = rj.RNN(rj.Embed(rj.LSTM(H), 7, I))
    body, fc = nn.Sequential(nn.Embedding(7, I), nn.LSTM(I, H)), nn.Linear(H, 2)
    assert rj.interop.from_torch(body)[0] == as_cell
    assert rj.interop.from_torch(nn.Sequential(*body, fc))[0] == rj.RNN(rj.Readout(rj.Embed(rj.LSTM(H), 7, I), 2))
    both = rj.interop.from_torch(Scorer(ENDS, bidirectional=True))[0]
    table, directions = both.body.layers
    assert (
        both.summary == "last" and table == rj.RNN(rj.interop.Table(7, I)) and directions == rj.Bidirectional(rj.GRU(H))
    )
    assert both.head == rj.RNN(rj.interop.Dense(2, activation="sigmoid"))
    layer, params = rj.interop.from_torch(Tagger())  # noise: with a key only
    key = jax.random.key(0)
    run = lambda key: np.asarray(layer(params, TOKENS, time_axis=1, key=key)[1])
    assert (run(key) != run(None)).any() and (run(key) == run(key)).all()


class Odd(nn.Module):
    """body: what its forward does with the outputs, the state and the input."""

    def __init__(self, body, inner=None):
        super().__init__()
        self.rnn, self.fc, self.body = (
            inner or nn.GRU(I, I, batch_first=True, bidirectional=False),
            nn.Linear(I, I),
            body,
        )

    def forward(self, x):
        out, h = self.rnn(x)
        return self.body(self, x, out, h)


class Packed(Odd):
    def forward(self, x, lengths):
        return self.rnn(x)[0]


def with_hook():
    module = nn.Sequential(nn.GRU(I, H), nn.Linear(H, 2))
    module[1].register_forward_hook(lambda module, args, out: 2 * out)
    return module


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Odd(lambda m, x, out, h: out + x), r"got Odd; it contains rnn: pass one of those \(it calls add; a module is read whose"),
        (lambda: Odd(lambda m, x, out, h: m.fc(out) if out.sum() > 0 else out), r"its forward cannot be followed"),
        (lambda: Odd(lambda m, x, out, h: m.fc(x)), r"fc does not read what stands before it alone"),
        (lambda: Odd(lambda m, x, out, h: m.fc(out[:, 0])), r"which is not its last step"),
        (lambda: Odd(lambda m, x, out, h: m.fc(out[-1])), r"which is not its last step"),  # of the batch, not of time
        (lambda: Odd(lambda m, x, out, h: torch.cat((h[-1], h[-1]), 1)), r"which is not its last step"),
        (lambda: Odd(lambda m, x, out, h: (m.fc(out), m.fc(x))), r"fc does not read what stands before it alone"),
        (lambda: Odd(lambda m, x, out, h: m.fc(torch.relu(out)) and h[-1]), r"forward|not its last step|gives other"),
        (lambda: Odd(lambda m, x, out, h: out.mean(0)), r"mean over dim=0 is not that over time"),
        (lambda: Odd(lambda m, x, out, h: out.transpose(0, 1)), r"it calls .transpose"),
        (lambda: Packed(None), r"its forward cannot be followed"),
        (lambda: nn.Sequential(nn.GRU(I, H), nn.BatchNorm1d(H)), r"1 is nn.BatchNorm1d \(.*nearest known is nn\.\w+"),
        (lambda: nn.Sequential(nn.Embedding(7, I, max_norm=1.0), nn.GRU(I, H)), r"0 has max_norm=1.0, which acts on the table"),
        (lambda: nn.Sequential(nn.GRU(I, H), nn.GRU(H, H, batch_first=True)), r"differ in batch_first"),
        (lambda: nn.Sequential(nn.GRU(I, H), nn.LSTMCell(H, H)), r"nn.LSTMCell .*nearest known is nn.LSTM"),
        (with_hook, r"1 is a Linear that is not torch's own or has hooks"),
    ],
)  # fmt: skip
def test_other_modules_are_refused_with_what_stands_in_the_way(make, reason):
    with pytest.raises(TypeError, match=reason):
        rj.interop.from_torch(make())


def test_a_branch_off_the_state_after_the_outputs_went_on_is_refused():
    with pytest.raises(TypeError, match="which is not its last step"):
        rj.interop.from_torch(Odd(lambda m, x, out, h: (torch.relu(out), m.fc(h[-1]))[1]))

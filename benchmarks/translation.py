"""Question: how fast is a training step of a translation model on the engine, beside `lax.scan` and torch?

An LSTM that reads both ways, an LSTM that writes, attention between them; a batch of sentences of different lengths.
A step is the loss and all gradients. The same model in the same code under `lax.scan` is `fuse=False`; torch reads packed
sequences (oneDNN) and writes step by step where attention comes before the cell. All answers are equal before anything is timed.

    python benchmarks/translation.py [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, installed, machine_line, save

import rnnjax as rj
from rnnjax.bench import assert_equal, interleave, print_rows

VOCABULARY = 4000
KINDS = {
    "additive": dict(attention="additive"),
    "additive, fed": dict(attention="additive", input_feeding=True),
    "multiplicative": dict(attention="multiplicative"),
}
SHAPES = ((25, 25, 16, 128), (25, 25, 64, 256), (60, 60, 32, 256))  # S, T, B, H; the tokens' vectors have half of H
QUICK = ((8, 7, 4, 16),)


def model_of(kind: str, h: int, tokens: int) -> rj.seq2seq.EncoderDecoder:
    encoder = rj.Bidirectional(rj.LSTM(h // 2))
    return rj.seq2seq.EncoderDecoder(encoder, rj.LSTM(h), tokens, tokens, features=h // 2, **KINDS[kind])


def sentences(shape: tuple[int, ...], tokens: int) -> dict[str, np.ndarray]:
    """Source and target, ``[S, B]`` and ``[T + 1, B]``, between half as long and full."""
    s, t, b, _ = shape
    draw = np.random.default_rng(0)
    data = {"source": draw.integers(0, tokens, (s, b)), "target": draw.integers(0, tokens, (t + 1, b))}
    return data | {"source_lengths": draw.integers(s // 2, s + 1, b), "target_lengths": draw.integers(t // 2, t + 1, b)}


def ours(model: rj.seq2seq.EncoderDecoder, data: dict[str, np.ndarray], fuse: bool) -> Callable[[Any], Any]:
    """``params -> (loss, gradients)``."""
    data = jax.tree.map(jnp.asarray, data)
    counts = jnp.arange(len(data["target"]) - 1)[:, None] < data["target_lengths"]

    def loss(params: Any) -> jax.Array:
        logits = model(params, data["source"], data["target"][:-1], source_lengths=data["source_lengths"], fuse=fuse)
        return rj.losses.over_time(rj.losses.softmax_cross_entropy(logits, data["target"][1:], mask=counts), counts)

    return jax.jit(lambda params: some_of(*jax.value_and_grad(loss)(params)))


def some_of(loss: Any, grads: Any) -> dict[str, Any]:
    """All is computed; what is compared with torch is the loss and the gradients at both ends of every path."""
    names = ("source_table", "target_table", "combine", "output")
    return {"loss": loss, "all": grads, **{name: grads[name] for name in names}}


def in_torch(model: rj.seq2seq.EncoderDecoder, params: Any, data: dict[str, np.ndarray]) -> Callable[[Any], Any]:
    """The same step in torch, with its own modules for the LSTMs."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    leaf = lambda a: torch.tensor(np.asarray(a)).requires_grad_()
    p = {
        n: leaf(params[n]) for n in ("source_table", "target_table", "combine", "combine_bias", "output", "output_bias")
    }
    a = {name: leaf(value) for name, value in params["attention"].items()}
    encoder = rj.interop.to_torch(model.encoder, params["encoder"])
    before = model.attention == "additive"
    decoder = rj.interop.to_torch(model.decoder if before else rj.RNN(model.decoder), params["decoder"])
    d = {name: torch.as_tensor(value) for name, value in data.items()}
    padding = torch.arange(len(d["source"])) >= d["source_lengths"][:, None]
    counts = torch.arange(len(d["target"]) - 1)[:, None] < d["target_lengths"]
    everything = [*p.values(), *a.values(), *encoder.parameters(), *decoder.parameters()]

    def find(scores: Any, values: Any) -> Any:  # [B, T, S], [B, S, M]
        return torch.softmax(scores.masked_fill(padding[:, None], float("-inf")), -1) @ values

    def combined(y: Any, context: Any) -> Any:
        return torch.tanh(torch.cat([y, context], -1) @ p["combine"] + p["combine_bias"])

    def step_by_step(xs: Any, values: Any) -> Any:
        keys = values @ a["memory"] + a["bias"]
        h = c = torch.zeros(xs.shape[1], decoder.hidden_size)
        vector, vectors = torch.zeros(xs.shape[1], p["combine"].shape[1]), []
        for x in xs:
            scores = torch.tanh((h @ a["query"])[:, None] + keys) @ a["score"]
            context = find(scores[:, None], values)[:, 0]
            h, c = decoder(torch.cat([x, vector, context] if model.input_feeding else [x, context], -1), (h, c))
            vector = combined(h, context)
            vectors.append(vector)
        return torch.stack(vectors)

    def at_once(xs: Any, values: Any) -> Any:
        ys = decoder(xs)[0]
        scores = ys.transpose(0, 1) @ (values @ a["memory"]).transpose(1, 2)
        return combined(ys, find(scores, values).transpose(0, 1))

    def step(_: Any) -> dict[str, Any]:
        for parameter in everything:
            parameter.grad = None
        embedded = torch.nn.functional.embedding(d["source"], p["source_table"])
        packed = pack_padded_sequence(embedded, d["source_lengths"], enforce_sorted=False)
        values = pad_packed_sequence(encoder(packed)[0], total_length=len(embedded))[0].transpose(0, 1)
        xs = torch.nn.functional.embedding(d["target"][:-1], p["target_table"])
        vectors = (step_by_step if before else at_once)(xs, values)
        logits = vectors[counts] @ p["output"] + p["output_bias"]  # only where they count
        loss = torch.nn.functional.cross_entropy(logits, d["target"][1:][counts])
        loss.backward()
        names = ("source_table", "target_table", "combine", "output")
        return {"loss": loss.detach(), **{name: p[name].grad for name in names}}

    return step


def measure(kind: str, shape: tuple[int, ...], repeats: int, tokens: int = VOCABULARY) -> dict[str, Any]:
    """One row: milliseconds of each side, and target tokens a second."""
    model, data = model_of(kind, shape[-1], tokens), sentences(shape, tokens)
    params = model.init(jax.random.key(0))
    sides: dict[str, Callable] = {"lax.scan": ours(model, data, False), "rnnjax": ours(model, data, True)}
    assert_equal(sides, (params,))
    if installed("torch"):
        sides["torch"] = in_torch(model, params, data)
        assert_equal({name: comparable(f) for name, f in sides.items()}, (params,))
    ms = interleave(sides, (params,), repeats, settle="torch" in sides)
    count = int(data["target_lengths"].sum())
    speeds = {f"{name}, tokens/s": round(1e3 * count / ms[name]) for name in ms}
    against = {"torch / rnnjax": ms["torch"] / ms["rnnjax"]} if "torch" in ms else {}
    return {"what": kind, "shape": list(shape), **ms, "ratio": ms["lax.scan"] / ms["rnnjax"], **against, **speeds}


def comparable(f: Callable) -> Callable:
    """Without what torch does not give, as arrays."""
    return lambda params: {name: jnp.asarray(np.asarray(a)) for name, a in f(params).items() if name != "all"}


def main() -> None:
    options = arguments(__doc__)
    print(machine_line())
    rows = []
    for kind in KINDS:
        for shape in QUICK if options.quick else SHAPES:
            rows.append(measure(kind, shape, options.repeats, 50 if options.quick else VOCABULARY))
    names = [n for n in ("lax.scan", "rnnjax", "torch") if n in rows[0]]
    columns = ("what", "shape", *names, "ratio", *(f"{n}, tokens/s" for n in names))
    print_rows(rows, columns, "translation, training step, milliseconds; shape S, T, B, H")
    save("translation", rows, options)


if __name__ == "__main__":
    main()

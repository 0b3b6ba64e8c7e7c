"""The network of recipe `synthesis`: letters in, mel frames out, attention that only moves forward."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj

PACE = 0.45  # letters a step that the network starts with


class Memory(NamedTuple):
    """What the encoder says of each letter ``[B, S, M]``, keys formed of it ``[B, S, A]``, and which are letters ``[B, S]``."""

    values: jax.Array
    keys: jax.Array
    valid: jax.Array


class Speaking(NamedTuple):
    """The decoder's carry: state ``[B, H]``, attention ``[B, S]``, and what it finds ``[B, M]``."""

    state: jax.Array
    attention: jax.Array
    context: jax.Array


class Said(NamedTuple):
    """frames ``[T, B, F]``, logits of being done ``[T, B]``, and the attention ``[T, B, S]``."""

    frames: jax.Array
    done: jax.Array
    attention: jax.Array


class Speaker(NamedTuple):
    """``m = encoder(letters)``; then, with the frames before in ``x``,

        h_t = GRU([relu(x_{t-1} P), c_{t-1}], h_{t-1}),   u_t = sigmoid(h_t w)
        a_t(s) ~ ((1 - u_t) a_{t-1}(s) + u_t a_{t-1}(s - 1)) exp(h_t Q . m_s K),   c_t = sum_s a_t(s) m_s
        x_t = [h_t, c_t] V

    so that attention stays or moves to the next letter, never back (Zhang, Ling, Dai 2018, arXiv:1807.06736).
    letters: how many kinds. features: F, numbers a step.
    """

    letters: int
    features: int
    hidden: int = 192
    reader: int = 64
    prenet: int = 64

    @property
    def encoder(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.reader))

    def init(self, key: jax.Array) -> Any:
        """Params by name."""
        k_table, k_reader, k_prenet, k_cell, k_query, k_key, k_output = jax.random.split(key, 7)
        memory = 2 * self.reader
        matrix = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) / np.sqrt(rows)
        return {
            "table": 0.3 * jax.random.normal(k_table, (self.letters, self.reader)),
            "reader": self.encoder.init(k_reader, jnp.zeros(self.reader)),
            "prenet": matrix(k_prenet, self.features, self.prenet),
            "cell": rj.GRU(self.hidden).init(k_cell, jnp.zeros(self.prenet + memory)),
            "query": matrix(k_query, self.hidden, self.reader),
            "key": matrix(k_key, memory, self.reader),
            "move": jnp.zeros(self.hidden),
            "move_bias": jnp.array(np.log(PACE / (1 - PACE)), jnp.float32),
            "output": matrix(k_output, self.hidden + memory, self.features + 1),
            "bias": jnp.zeros(self.features + 1),
        }

    def remember(self, params: Any, letters: Any, lengths: Any) -> Memory:
        """The memory of letters ``[S, B]``."""
        _, ys = self.encoder(params["reader"], params["table"][letters], lengths=lengths)
        values = jnp.moveaxis(ys, 0, 1)
        return Memory(values, values @ params["key"], jnp.arange(len(letters)) < jnp.asarray(lengths)[:, None])

    def start(self, memory: Memory) -> Speaking:
        """Nothing said yet; attention on the first letter."""
        batch, count, width = memory.values.shape
        first = jnp.zeros((batch, count)).at[:, 0].set(1.0)
        return Speaking(jnp.zeros((batch, self.hidden)), first, jnp.zeros((batch, width)))

    def step(self, params: Any, memory: Memory, carry: Speaking, seen: jax.Array) -> tuple[Speaking, Any]:
        """One step after ``seen [B, prenet]``: the carry, and what is read of it ``[B, H + M]`` with the attention ``[B, S]``."""
        state, _ = rj.GRU(self.hidden)(params["cell"], carry.state, jnp.concatenate([seen, carry.context], -1))
        moves = jax.nn.sigmoid(state @ params["move"] + params["move_bias"])
        scores = jnp.einsum("ba,bsa->bs", state @ params["query"], memory.keys) / np.sqrt(self.reader)
        attention = forward(carry.attention, moves, scores, memory.valid)
        context = jnp.einsum("bs,bsm->bm", attention, memory.values)
        return Speaking(state, attention, context), (jnp.concatenate([state, context], -1), attention)

    def output(self, params: Any, read: jax.Array, attention: jax.Array) -> Said:
        ys = read @ params["output"] + params["bias"]
        return Said(ys[..., :-1], ys[..., -1], attention)

    def follow(self, params: Any, letters: Any, lengths: Any, frames: jax.Array, key: Any = None) -> Said:
        """Teacher forcing: each step reads the recorded frames ``[T, B, F]`` before its own; with a key, some of them, and some
        units, are dropped, so that what comes next has to be found in the text."""
        before = jnp.concatenate([jnp.zeros_like(frames[:1]), frames[:-1]])
        seen = jax.nn.relu(before @ params["prenet"])
        if key is not None:
            k_frames, k_units = jax.random.split(key)
            frames_kept = jax.random.bernoulli(k_frames, 0.6, (*seen.shape[:2], 1))
            seen = jnp.where(frames_kept & jax.random.bernoulli(k_units, 0.5, seen.shape), 2 * seen, 0.0)
        memory = self.remember(params, letters, lengths)
        _, (read, attention) = rj.scan(lambda c, x: self.step(params, memory, c, x), self.start(memory), seen)
        return self.output(params, read, attention)

    def speak(self, params: Any, letters: Any, lengths: Any, time: int) -> Said:
        """Free running: ``time`` steps, each reading what the one before said."""
        memory = self.remember(params, letters, lengths)

        def body(state: Any, _: None) -> tuple[Any, Said]:
            carry, frames = state
            carry, (read, attention) = self.step(params, memory, carry, jax.nn.relu(frames @ params["prenet"]))
            said = self.output(params, read, attention)
            return (carry, said.frames), said

        nothing = jnp.zeros((len(memory.values), self.features))
        _, said = rj.scan(body, (self.start(memory), nothing), length=time)
        return said


def forward(attention: jax.Array, moves: jax.Array, scores: jax.Array, valid: jax.Array) -> jax.Array:
    """The next attention ``[B, S]``: what stays and what moves on, weighed by ``exp(scores)`` among what is valid; it sums to one."""
    moves = moves[:, None]
    reached = (1 - moves) * attention + moves * jnp.pad(attention, ((0, 0), (1, 0)))[:, :-1]
    scores = 4 * jnp.tanh(scores / 4)  # so that no letter can be shut out for ever
    weighed = jnp.where(valid, reached * jnp.exp(scores), 0.0)
    return weighed / (weighed.sum(-1, keepdims=True) + 1e-12)

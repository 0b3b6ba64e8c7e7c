"""`captions`: says what happens in a film, "a three moves left , a seven up": a convolutional GRU watches, a decoder speaks."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cells.conv.conv import convolve
from rnnjax.data import sets, synthetic
from rnnjax.tasks.digits import digits
from rnnjax.tasks.floors import majority
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

FRAMES, SIZE, SMALL, EDGE = 8, 24, 12, 4
PLACES = (SIZE + 2 * EDGE) // 4  # on a side
MOVES = ("left", "right", "up", "down", "still")
SHARP = 8.0  # what is seen is made this much larger: a few places of many tell, and attention is to find them soon
END, LONGEST = 0, 10  # END starts a caption too, and is said after it
WORDS = ("<end>", ",", "a", *synthetic.NUMBERS, "moves", "stands", *MOVES)


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(3300, full=12000), setting.pick(32, small=4)
    alone = steps // 3
    pictures = {split: digits(split) for split in sets.SPLITS}
    count = {
        "train": setting.pick(2000, small=40),
        "valid": setting.pick(300, small=20),
        "test": setting.pick(1000, small=20),
    }

    def film(split: str, seed: Any, films: int, digits: int, size: int) -> Any:
        return told(synthetic.films(*pictures[split], seed, films, FRAMES, size=size, count=digits, moves=MOVES))

    held = {split: film(split, [setting.seed, n], count[split], 2, SIZE) for n, split in enumerate(sets.SPLITS)}
    teller = Teller(setting.pick(16, small=2), setting.pick(32, small=4), setting.pick(64, small=4))
    params = teller.init(jax.random.key(setting.seed))

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        return carry, teller.nats(params, *batch).mean()

    say, nats = jax.jit(teller.say), jax.jit(teller.nats)

    def score(params: Any, split: str) -> Score:
        frames, words = held[split]
        parts = np.array_split(np.arange(words.shape[1]), math.ceil(words.shape[1] / 250))
        said = [text for part in parts for text in sentences(say(params, frames[:, part]))]
        right = sentences(words)
        match = float(np.mean([a == b for a, b in zip(said, right)]))
        if split != "test":
            return Score(match, loss=float(nats(params, frames, words).mean()))
        most = Counter(sentences(held["train"][1])).most_common(1)[0][0]
        bleu = {"BLEU": said, "BLEU of the most frequent caption": [most] * len(right)}
        return Score(match, {name: rj.metrics.bleu(texts, right, tokenize="none") for name, texts in bleu.items()})

    def show(params: Any) -> str:
        frames, words = (array[:, :6] for array in held["valid"])
        return "\n".join(f"{s}   ({r})" for s, r in zip(sentences(say(params, frames)), sentences(words)))

    def batches(step: int) -> Any:
        """One digit on a small field at first, where steps are quick, and only then two."""
        digits, size = (1, SMALL) if step < alone else (2, SIZE)
        return film("train", [setting.seed, len(sets.SPLITS), step], batch, digits, size)

    floors = {"most frequent caption": lambda: majority(*(sentences(held[split][1]) for split in ("train", "test")))}
    return Problem(params, loss, batches, score, floors, cosine(5e-3, steps), steps, show=show)


@rj.cell
class Place:
    """A cell that remembers nothing, so that each place is read on its own: ``y = relu(x W + b)``."""

    features: int

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        """``input`` W ``[I, H]`` and ``bias`` b ``[H]``."""
        return {"input": normal(key, x.shape[-1], self.features), "bias": jnp.zeros(self.features)}

    def initial_carry(self, params: Any, x: Any) -> tuple[()]:
        """Nothing."""
        return ()

    def __call__(self, params: Any, carry: Any, x: jax.Array, key: Any = None) -> tuple[tuple[()], jax.Array]:
        """One place ``[*B, I]``."""
        return (), jax.nn.relu(x @ params["input"] + params["bias"])


class Teller(NamedTuple):
    """Two convolutions of each frame and the one before; a ConvGRU over the frames; its last state, place by place, is what a decoder
    attends to.

    The field has no borders, so its edges are laid out once more on the other side: a digit that crosses one is whole somewhere. As
    Xu et al. 2015, arXiv:1502.03044, say what is in a picture; here of films.
    edges E, hidden H, words W: features of the first convolution, of a place, of the decoder.
    """

    edges: int
    hidden: int
    words: int

    @property
    def watch(self) -> Any:
        return rj.ConvGRU(self.hidden, kernel=3)

    @property
    def speak(self) -> Any:
        return rj.seq2seq.EncoderDecoder(Place(self.words), rj.GRU(self.words), None, len(WORDS), features=32)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``edges`` ``[5, 5, 2, E]`` and ``shapes`` ``[5, 5, E, H]``, ``watch`` of the ConvGRU, ``speak`` of the encoder-decoder."""
        k_edges, k_shapes, k_watch, k_speak = jax.random.split(key, 4)
        return {
            "edges": 2 * normal(k_edges, 5, 5, 2, self.edges),
            "edges_bias": jnp.zeros(self.edges),
            "shapes": normal(k_shapes, 5, 5, self.edges, self.hidden),
            "shapes_bias": jnp.zeros(self.hidden),
            "watch": self.watch.init(k_watch, jnp.zeros((PLACES, PLACES, self.hidden))),
            "speak": self.speak.init(k_speak, jnp.zeros(self.hidden)),
        }

    def places(self, params: Any, frames: jax.Array) -> jax.Array:
        """What was seen at each place, ``[S, B, H]``, of frames ``[T, B, size, size]``; S is 64 where size is 24."""
        around = jnp.pad(frames, [(0, 0), (0, 0), (EDGE, EDGE), (EDGE, EDGE)], mode="wrap")
        seen = jnp.stack([around, jnp.concatenate([around[:1], around[:-1]])], -1)
        for name in ("edges", "shapes"):
            seen = jax.nn.relu(convolve(seen, params[name], (2, 2)) + params[f"{name}_bias"])
        # written out frame by frame: on a CPU a little faster than a loop
        last, _ = rj.unroll(self.watch, params["watch"], seen, method="loop")
        return SHARP * jnp.moveaxis(last.reshape(last.shape[0], -1, self.hidden), 0, 1)

    def nats(self, params: Any, frames: jax.Array, words: jax.Array) -> jax.Array:
        """``-log p`` of each word ``[T, B]``, given those before; 0 after the first end."""
        given = jnp.concatenate([jnp.full_like(words[:1], END), words[:-1]])
        logits = self.speak(params["speak"], self.places(params, frames), given)
        inside = jnp.concatenate([jnp.ones_like(words[:1], bool), words[:-1] != END])
        return rj.losses.softmax_cross_entropy(logits, words, mask=inside)

    def say(self, params: Any, frames: jax.Array) -> jax.Array:
        """The words ``[T, B]`` of the likeliest caption, step by step."""
        step, carry = self.speak.decoder_step(params["speak"], self.places(params, frames))
        start = jnp.full(frames.shape[1], END, jnp.int32)
        return rj.seq2seq.greedy(step, carry, start, end=END, length=LONGEST)[0]

    def looks(self, params: Any, frames: jax.Array, words: jax.Array) -> jax.Array:
        """Where on the field the decoder looks when it says each word, ``[T, B, 6, 6]``."""
        given = jnp.concatenate([jnp.full_like(words[:1], END), words[:-1]])
        weights = self.speak.alignment(params["speak"], self.places(params, frames), given)
        return folded(weights.reshape(*weights.shape[:-1], PLACES, PLACES))


def folded(weights: Any) -> jax.Array:
    """Weights of the places ``[..., 8, 8]`` on the field ``[..., 6, 6]``: the edge is added to where it was taken from."""
    home = jax.nn.one_hot((jnp.arange(PLACES) - EDGE // 4) % (SIZE // 4), SIZE // 4)
    return jnp.einsum("...ij,iy,jx->...yx", weights, home, home)


def normal(key: jax.Array, *shape: int) -> jax.Array:
    """A start of weights before a relu (He et al. 2015): the last axis is the output's."""
    return jax.random.normal(key, shape) * math.sqrt(2 / math.prod(shape[:-1]))


def told(films: synthetic.Films) -> tuple[np.ndarray, np.ndarray]:
    """frames ``[T, B, size, size]`` and the words of their captions ``[LONGEST, B]``."""
    words = np.full((LONGEST, len(films.labels)), END, np.int32)
    for b, (labels, moves) in enumerate(zip(films.labels, films.moves)):
        said = [WORDS.index(word) for word in synthetic.caption(labels.tolist(), moves.tolist()).split()]
        words[: len(said), b] = said
    return films.frames, words


def sentences(words: Any) -> list[str]:
    """The captions of words ``[T, B]``, each up to its end.

    >>> sentences(np.array([[2, 2], [3, 0], [0, 1]]))
    ['a zero', 'a']
    """
    rows = [row[: row.index(END)] if END in row else row for row in np.asarray(words).T.tolist()]
    return [" ".join(WORDS[word] for word in row) for row in rows]


RECIPE = Recipe(
    "captions",
    set="films of eight frames, made on the fly: two of scikit-learn's digits, each with a move of its own; "
    "no digit of the test is trained on",
    metric="exact match",
    better="higher",
    floor="most frequent caption",
    make=make,
)

"""`synthesis`: a text said aloud. Letters to mel frames by attention that moves forward, frames to sound by Griffin and Lim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import pad, sound
from rnnjax.tasks.prompts import LETTERS, ROW, SET, Prompt, drawn, places, splits, stacked
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.speaker import Said, Speaker
from rnnjax.tasks.warping import warped_distance

STACK = 4  # frames that a step says: 32 ms
TIME, PAUSE = ROW[0] // STACK, len(LETTERS) + 1  # steps of a row; what stands after each prompt
DECIBELS = 20 / np.log(10)  # of a logarithm of magnitudes
HEARD = 6  # which prompt of the valid split is written as sound

Pairs = list[tuple[np.ndarray, np.ndarray]]  # frames made, frames recorded


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(900, full=4000), setting.pick(16, small=2)
    data, scale = splits(setting.pick(None, small=12))
    scaled = scale(data["train"])
    model = speaker(setting)

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """The distance that is measured in the end, frame by frame here, and whether the row is done."""
        letters, counts, target, lengths = batch
        return carry, error(model.follow(params, letters, counts, target, key), target, lengths)

    def batches(step: int) -> Any:
        rng = np.random.default_rng([setting.seed, step])
        return rows_of([drawn(rng, scaled) for _ in range(batch)])

    speak = jax.jit(lambda params, letters, counts: model.speak(params, letters, counts, TIME))

    def spoken(params: Any, texts: Sequence[str]) -> list[np.ndarray]:
        """Log-mel frames ``[T, 40]`` of each text, until the network takes itself for done."""
        said = speak(params, *pad([written(words) for words in texts], ROW[1]))
        frames = np.asarray(said.frames).swapaxes(0, 1).reshape(len(texts), -1, sound.BANDS)
        return [scale.back(row[: STACK * steps]) for row, steps in zip(frames, steps_of(np.asarray(said.done)))]

    def score(params: Any, split: str) -> Score:
        made = spoken(params, [prompt.words for prompt in data[split]])
        pairs = [(frames, prompt.frames) for frames, prompt in zip(made, data[split])]
        off = np.mean([abs(len(a) - len(b)) / len(b) for a, b in pairs])
        return Score(distance(pairs), {"share that lengths are off by": float(off)})

    sample = data["valid"][min(HEARD, len(data["valid"]) - 1)]

    def files(params: Any) -> dict[str, bytes]:
        """A prompt that the network has not read, said by it, and recorded; both by way of mel bands."""
        frames = {"said.wav": spoken(params, [sample.words])[0], "recorded.wav": sample.frames}
        return {name: sound.to_wav(loud(sound.from_log_mel(logs))) for name, logs in frames.items()}

    mean = lambda prompt: np.tile(scale.mean, (len(prompt.frames), 1))
    floors = {
        "mean frame": lambda: distance([(mean(prompt), prompt.frames) for prompt in data["test"]]),
        "ridge regression on letters spread evenly": lambda: distance(evenly(data)),
    }
    params = model.init(jax.random.key(setting.seed))
    optimizer = cosine(3e-3, steps)
    show = lambda params: f"to hear in the folder of the run: said.wav, recorded.wav: {sample.words}"
    return Problem(params, loss, batches, score, floors, optimizer, steps, noise=True, show=show, files=files)


def error(said: Said, target: jax.Array, lengths: jax.Array) -> jax.Array:
    """How far frames are from those to say ``[T, B, F]``, on average over those that are there, and how unsure it is of its end."""
    step = jnp.arange(TIME)[:, None]
    real, done = ((step < lengths).astype(target.dtype), (step >= lengths - 1).astype(target.dtype))
    squares = jnp.square(said.frames - target).reshape(*target.shape[:2], STACK, sound.BANDS).mean(-1)
    apart = jnp.sqrt(squares + 1e-6).mean(-1)
    unsure = rj.losses.bernoulli_nll(said.done[..., None], done[..., None])
    return (apart * real).sum() / real.sum() + 0.3 * unsure.mean()


def rows_of(rows: list[list[Prompt]]) -> tuple[np.ndarray, ...]:
    """Prompts said one after the other: letters ``[S, B]`` and how many, stacked frames ``[T, B, F]`` and how many."""
    letters = [np.concatenate([written(prompt.words) for prompt in row]) for row in rows]
    frames = [np.concatenate([stacked(prompt.frames, STACK) for prompt in row]) for row in rows]
    return *pad(letters, ROW[1]), *pad(frames, TIME)


def speaker(setting: Setting) -> Speaker:
    """The network in the size that the setting asks for."""
    sizes = setting.pick({}, full={"hidden": 256}, small={"hidden": 8, "reader": 8, "prenet": 8})
    return Speaker(PAUSE + 1, STACK * sound.BANDS, **sizes)


def written(words: str) -> np.ndarray:
    """The letters of a prompt, and a pause."""
    return np.append(places(words), np.int32(PAUSE))


def steps_of(done: np.ndarray) -> np.ndarray:
    """Steps ``[B]`` until the logits ``[T, B]`` say that a row is done; all of them where they never do.

    >>> steps_of(np.array([[-1.0, -1.0], [2.0, -1.0], [-1.0, -1.0]])).tolist()
    [2, 3]
    """
    return np.where((done > 0).any(0), (done > 0).argmax(0) + 1, len(done))


def distance(pairs: Pairs) -> float:
    """Decibels between frames made and recorded (root of the mean over bands), warped, over all recorded frames."""
    counts = [len(recorded) for _, recorded in pairs]
    return float(DECIBELS * np.average([warped_distance(*pair) for pair in pairs], weights=counts))


def loud(wave: np.ndarray) -> np.ndarray:
    """The wave, its largest value 0.9."""
    return 0.9 * wave / max(1e-9, np.abs(wave).max())


def evenly(data: dict[str, list[Prompt]], strengths: Sequence[float] = (10.0, 100.0, 1000.0)) -> Pairs:
    """Test frames by ridge regression on the nine letters round the place where a frame would be if all took equally long.

    It is told how long the recording is. Its strength is chosen on valid.
    """
    xs, ys = (np.concatenate([part(p) for p in data["train"]]) for part in (around, lambda p: p.frames))
    mean, gram = ys.mean(0), xs.T @ xs
    pairs = lambda weights, split: [(around(p) @ weights + mean, p.frames) for p in data[split]]
    fits = [np.linalg.solve(gram + s * np.eye(len(gram), dtype=gram.dtype), xs.T @ (ys - mean)) for s in strengths]
    return pairs(min(fits, key=lambda weights: distance(pairs(weights, "valid"))), "test")


def around(prompt: Prompt, wide: int = 4) -> np.ndarray:
    """``[T, (2 wide + 1) * 29 + 1]``: which letter stands at each place round a frame's, and a one."""
    at = ((np.arange(len(prompt.frames)) + 0.5) / len(prompt.frames) * len(prompt.words)).astype(int)
    letters = np.pad(places(prompt.words), wide)
    near = np.eye(len(LETTERS) + 1, dtype=np.float32)[letters[at[:, None] + np.arange(2 * wide + 1)]]
    return np.concatenate([near.reshape(len(at), -1), np.ones((len(at), 1), np.float32)], 1)


RECIPE = Recipe(
    "synthesis",
    set=SET,
    metric="mel distance in dB after warping",
    better="lower",
    floor="the mean frame; ridge regression on the letters, spread evenly over the recorded length",
    make=make,
)

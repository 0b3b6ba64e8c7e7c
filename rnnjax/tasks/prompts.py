"""The spoken prompts as the recipes of speech read them: log-mel frames and the words, of at most six seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from rnnjax.data import sets, sound
from rnnjax.data.spoken import spoken

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
SECONDS, QUIET = 6.0, 0.02  # the longest that are taken; what share of the loudest counts as silence at the ends
ROW = 768, 128  # frames and letters, at most, of prompts strung together
SET = (
    "telephone prompts of one speaker (Asterisk core sounds), up to 6 seconds: 505 recordings, 14 minutes; "
    "no text stands on two sides"
)


class Prompt(NamedTuple):
    """frames: `rnnjax.data.sound.log_mel` ``[T, 40]``. words: in small letters, without marks."""

    frames: np.ndarray
    words: str


@cache
def prompts() -> dict[str, tuple[Prompt, ...]]:
    """The prompts of every split that say something (some are tones, or silence) and are short; read once."""
    everything, group = sets.whole("prompts"), sets.named("prompts").group
    return {split: tuple(short_ones(sets.split_of(everything, split, group))) for split in sets.SPLITS}


def short_ones(examples: Sequence[tuple[np.ndarray, str]]) -> Iterator[Prompt]:
    """Those of at most `SECONDS` that say words, without the silence round them."""
    for wave, text in examples:
        words = spoken(text)
        if words and not words.startswith("beep ") and len(wave) <= SECONDS * sound.RATE:
            yield Prompt(sound.log_mel(trimmed(wave / 32768)), words)


class Scale(NamedTuple):
    """Mean and deviation of each band, over all frames of prompts."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Scale:
        frames = np.concatenate([prompt.frames for prompt in prompts])
        return cls(frames.mean(0), frames.std(0))

    def __call__(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Prompts whose bands have mean 0 and deviation 1."""
        return [prompt._replace(frames=(prompt.frames - self.mean) / self.deviation) for prompt in prompts]

    def back(self, frames: np.ndarray) -> np.ndarray:
        return frames * self.deviation + self.mean


def splits(most: int | None = None) -> tuple[dict[str, list[Prompt]], Scale]:
    """`prompts` of every split, or the first ``most`` of them, and the scale of those to train on."""
    found = {split: list(part[:most]) for split, part in prompts().items()}
    return found, Scale.of(found["train"])


def trimmed(wave: np.ndarray, margin: int = 12 * sound.HOP) -> np.ndarray:
    """Without the silence at both ends, but for a margin.

    >>> trimmed(np.array([0.0] * 500 + [1.0, -1.0] + [0.0] * 500), margin=2).tolist()
    [0.0, 0.0, 1.0, -1.0, 0.0, 0.0]
    """
    loud = np.flatnonzero(np.abs(wave) > QUIET * np.abs(wave).max())
    return wave[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


def stacked(frames: np.ndarray, by: int) -> np.ndarray:
    """``[T, I] -> [T / by, by * I]``: neighbours side by side, the last frame repeated where ``by`` does not divide T.

    >>> stacked(np.arange(3)[:, None], 2).tolist()
    [[0, 1], [2, 2]]
    """
    more = -len(frames) % by
    return np.pad(frames, ((0, more), (0, 0)), "edge").reshape(-1, by * frames.shape[1])


def drawn(rng: np.random.Generator, prompts: Sequence[Prompt], slowest: float = 1.0) -> list[Prompt]:
    """Some prompts, in any order, that fill a row (`ROW`), where each may become ``slowest`` times as long and is followed by a pause."""
    found, time, letters = [], 0, 0
    for prompt in (prompts[place] for place in rng.permutation(len(prompts))[:12]):
        more = int(slowest * len(prompt.frames)) + 4, len(prompt.words) + 1
        if time + more[0] <= ROW[0] and letters + more[1] <= ROW[1]:
            found, time, letters = [*found, prompt], time + more[0], letters + more[1]
    return found


def places(words: str) -> np.ndarray:
    """Int32 ``[N]``: letters as numbers from 1; 0 is left for blank or padding.

    >>> places("abc").tolist()
    [3, 4, 5]
    """
    return np.array([LETTERS.index(letter) + 1 for letter in words], np.int32)


def text_of(places: np.ndarray) -> str:
    """The inverse of `places`, blanks left out.

    >>> text_of(places("i'm sorry"))
    "i'm sorry"
    """
    return "".join(LETTERS[place - 1] for place in places if place > 0)

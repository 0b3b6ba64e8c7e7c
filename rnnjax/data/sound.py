"""Sound and spectrograms, both ways: frames, mel bands, and a wave from magnitudes alone. numpy is all it needs.

Waves are floats ``[N]`` between -1 and 1. ``window`` samples are looked at every ``hop`` samples, the first round sample 0, so that
there are ``1 + N // hop`` frames. The defaults are for speech at 8 kHz: 32 ms every 8 ms, 40 bands up to 4 kHz.
"""

from __future__ import annotations

import io
import wave as waves
from typing import Any

import numpy as np

from rnnjax.data.errors import DataError

RATE, WINDOW, HOP, BANDS = 8000, 256, 64, 40
FLOOR = 1e-3  # of a band, before the logarithm: 60 dB below a full tone or so


def stft(wave: Any, window: int = WINDOW, hop: int = HOP) -> np.ndarray:
    """``[T, window // 2 + 1]``, complex: the Fourier transform of each frame under a Hann window; zeros beyond both ends.

    Raises: DataError for a wave that is not ``[N]``, or a hop that leaves samples unseen.

    >>> spectrum = stft(np.sin(2 * np.pi * 1000 / 8000 * np.arange(8000)))
    >>> spectrum.shape, int(np.abs(spectrum[60]).argmax()) * 8000 / 256
    ((126, 129), 1000.0)
    """
    wave = np.asarray(wave)
    if wave.ndim != 1 or not 0 < 2 * hop <= window:
        raise DataError(
            f"stft: needs a wave [N] and a hop of at most half the window, got {wave.shape}, hop={hop}, window={window}"
        )
    padded = np.pad(wave.astype(np.result_type(wave, np.float32)), (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(wave) + 1 : hop]
    return np.fft.rfft(frames * hann(window), axis=-1)


def istft(spectrum: Any, hop: int = HOP, length: int | None = None) -> np.ndarray:
    """The wave ``[N]`` whose `stft` is nearest in squares: ``sum_t window * frame_t / sum_t window^2`` (Griffin and Lim 1984).

    length: N; None is ``(T - 1) * hop``.
    """
    frames = np.fft.irfft(spectrum, axis=-1)
    window = frames.shape[-1]
    length = (len(frames) - 1) * hop if length is None else length
    total = np.zeros((len(frames) - 1) * hop + window + max(0, length))
    weight = np.full_like(total, 1e-8)
    shape = hann(window)
    for t, frame in enumerate(frames):
        total[t * hop : t * hop + window] += shape * frame
        weight[t * hop : t * hop + window] += shape**2
    return (total / weight)[window // 2 : window // 2 + length]


def hann(window: int) -> np.ndarray:
    """Hann's window, periodic."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def mel(hertz: Any) -> Any:
    """Pitch on HTK's mel scale, ``2595 log10(1 + f / 700)``; librosa's default is Slaney's, straight up to 1 kHz.

    >>> round(float(mel(1000.0)))
    1000
    """
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def hertz(mel: Any) -> Any:
    """The inverse of `mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def mel_filters(bands: int = BANDS, window: int = WINDOW, rate: int = RATE) -> np.ndarray:
    """``[window // 2 + 1, bands]``: triangles of height 1 (HTK's; not of equal area), evenly apart in mel from 0 to half the rate.

    Raises: DataError for so many bands that one would hear nothing.

    >>> mel_filters().shape
    (129, 40)
    """
    edges = hertz(np.linspace(0, mel(rate / 2), bands + 2))
    bins = np.arange(window // 2 + 1)[:, None] * rate / window
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)
    if not (filters.max(0) > 0).all():
        raise DataError(f"mel_filters: some of {bands} bands hold no frequency of a window of {window}; take fewer")
    return filters


def log_mel(wave: Any, bands: int = BANDS, window: int = WINDOW, hop: int = HOP, rate: int = RATE) -> np.ndarray:
    """``[T, bands]``, float32: ``ln max(magnitudes @ filters, floor)``, what speech recognisers read."""
    filters = mel_filters(bands, window, rate)
    heard = np.einsum("tf,fb->tb", np.abs(stft(wave, window, hop)), filters)  # too small for the threads of a BLAS
    return np.log(np.maximum(heard, FLOOR)).astype(np.float32)


def magnitudes(logs: Any, window: int = WINDOW, rate: int = RATE, rounds: int = 50) -> np.ndarray:
    """``[T, window // 2 + 1]``: magnitudes, none negative, that have nearly these `log_mel` ``[T, bands]``.

    Least squares by multiplicative updates (Lee and Seung 2001): what is positive stays so.
    """
    bands = np.exp(np.asarray(logs, np.float64))
    filters = mel_filters(bands.shape[-1], window, rate)
    found = bands @ (filters / filters.sum(0)).T
    for _ in range(rounds):
        found *= bands @ filters.T / (found @ filters @ filters.T + 1e-8)
    return found


def griffin_lim(
    magnitudes: Any, hop: int = HOP, *, rounds: int = 60, momentum: float = 0.99, seed: int = 0
) -> np.ndarray:
    """A wave ``[N]`` with these magnitudes ``[T, window // 2 + 1]``: phases are drawn, then made to fit one another.

    Each round takes the phases of the `stft` of the `istft`, and goes on a little in the direction of the last step.
    Source: Griffin and Lim 1984; the momentum, Perraudin, Balazs and Sondergaard 2013.

    >>> tone = np.sin(2 * np.pi * 440 / 8000 * np.arange(4000))
    >>> again = griffin_lim(np.abs(stft(tone)))
    >>> bool(abs(np.abs(np.fft.rfft(again, 8000)).argmax() - 440) <= 2)
    True
    """
    magnitudes = np.asarray(magnitudes)
    window = 2 * (magnitudes.shape[-1] - 1)
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitudes.shape)
    spectrum, last = magnitudes * np.exp(1j * angles), 0.0
    for _ in range(rounds):
        fits = stft(istft(spectrum, hop), window, hop)
        ahead = fits + momentum * (fits - last)
        spectrum, last = magnitudes * ahead / np.maximum(np.abs(ahead), 1e-8), fits
    return istft(spectrum, hop)


def from_log_mel(logs: Any, window: int = WINDOW, hop: int = HOP, rate: int = RATE, rounds: int = 60) -> np.ndarray:
    """A wave to hear ``[N]``, from `log_mel` ``[T, bands]`` alone: `magnitudes`, then `griffin_lim`."""
    return griffin_lim(magnitudes(logs, window, rate), hop, rounds=rounds)


def to_wav(wave: Any, rate: int = RATE) -> bytes:
    """The bytes of a WAV file, 16 bits, one channel; what is louder than 1 is cut off."""
    out = io.BytesIO()
    with waves.open(out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()

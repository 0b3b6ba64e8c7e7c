"""Spectrograms against scipy and against triangles drawn by hand, and the way back to a wave."""

import io
import wave as waves

import numpy as np
import pytest
import scipy.signal

from rnnjax.data import DataError, sound
from rnnjax.data.spoken import spoken

RNG = np.random.default_rng(0)


def test_the_transform_is_scipys_and_comes_back():
    wave = RNG.normal(size=1000)
    spectrum = sound.stft(wave)
    _, _, theirs = scipy.signal.stft(
        np.pad(wave, (0, 128)), window="hann", nperseg=256, noverlap=192, boundary="zeros", padded=False
    )
    np.testing.assert_allclose(
        spectrum, 128 * theirs.T[: len(spectrum)], atol=1e-10
    )  # scipy divides by the window's sum
    np.testing.assert_allclose(sound.istft(spectrum, length=1000), wave, atol=1e-6)


def test_mel_filters_are_triangles_between_htks_pitches():
    """HTK's book: 2595 log10(1 + f / 700), so that 1000 Hz are 1000 mel; the triangles by interpolation, one at a time."""
    assert abs(sound.mel(1000.0) - 1000) < 0.02 and sound.mel(0.0) == 0
    np.testing.assert_allclose(sound.hertz(sound.mel(np.array([50.0, 440.0, 3999.0]))), [50, 440, 3999])
    filters, hertz = sound.mel_filters(26, 512, 16000), np.arange(257) * 16000 / 512
    for m in range(26):
        corners = 700 * (10 ** ((m + np.arange(3)) / 27 * np.log10(1 + 8000 / 700)) - 1)
        np.testing.assert_allclose(filters[:, m], np.interp(hertz, corners, [0, 1, 0]), atol=1e-9)


def test_a_tone_is_loudest_in_its_band():
    for hertz in (300.0, 1000.0, 3000.0):
        logs = sound.log_mel(np.sin(2 * np.pi * hertz / 8000 * np.arange(8000)))
        centre = sound.mel(hertz) / sound.mel(4000.0) * 41 - 1
        assert abs(logs[60].argmax() - centre) <= 1 and logs.dtype == np.float32


def test_griffin_lim_keeps_a_tone_and_fits_better_with_every_round():
    tone = np.sin(2 * np.pi * 700 / 8000 * np.arange(4000)) * np.linspace(0.2, 1, 4000)
    wanted = np.abs(sound.stft(tone))
    misses = []
    for rounds in (0, 5, 60):
        again = sound.griffin_lim(wanted, rounds=rounds)
        misses.append(np.linalg.norm(np.abs(sound.stft(again))[: len(wanted)] - wanted) / np.linalg.norm(wanted))
    assert abs(np.abs(np.fft.rfft(again, 8000)).argmax() - 700) <= 2  # half a second: 2 Hz apart
    assert misses[0] > 2 * misses[1] > 4 * misses[2] and misses[2] < 0.1


def test_from_mel_bands_alone():
    """A tone's bands give magnitudes with those bands, and a sound about as high."""
    logs = sound.log_mel(0.5 * np.sin(2 * np.pi * 1500 / 8000 * np.arange(2000)))
    found = sound.magnitudes(logs)
    assert (found >= 0).all()
    bands, wanted = found @ sound.mel_filters(), np.exp(logs)
    assert np.linalg.norm(bands - wanted) < 0.1 * np.linalg.norm(wanted)
    again = sound.from_log_mel(logs, rounds=10)
    assert abs(np.abs(np.fft.rfft(again, 8000)).argmax() - 1500) < 50


def test_bad_input_and_files():
    for wrong in (dict(wave=np.zeros((2, 9))), dict(wave=np.zeros(9), hop=200)):
        with pytest.raises(DataError, match="stft: needs a wave"):
            sound.stft(**wrong)
    with pytest.raises(DataError, match="take fewer"):
        sound.mel_filters(100, 256)
    with waves.open(io.BytesIO(sound.to_wav(np.array([0.0, 0.5, -2.0])))) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 3)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16383, -32767]


def test_what_is_spoken():
    said = {"H.323": "h three two three", "Speed-dial.": "speed dial", "press * or 10": "press star or one zero"}
    assert {text: spoken(text) for text in said} == said
    assert spoken("[sound of monkeys screaming]") == spoken("space [ ]").removeprefix("space") == ""

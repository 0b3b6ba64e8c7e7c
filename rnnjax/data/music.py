"""Scores in MusicXML, read to what sounds at each quarter note; and such notes made audible."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

REST = 0  # a voice that is silent; other numbers are MIDI's, 60 the middle C
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
BACH = re.compile(r"music21/corpus/bach/([^/]+)\.(mxl|xml|musicxml)$")


def chorales(files: dict[str, bytes]) -> list[tuple[str, np.ndarray]]:
    """Bach's chorales in four parts: name, and int16 ``[T, 4]``, soprano to bass, the note at each quarter; repeats dropped."""
    found = {}
    for path in sorted(files):
        if named := BACH.search(path):
            score = _opened(files[path]) if named[2] == "mxl" else files[path]
            if score.count(b"</part>") == 4 and (notes := quarters(score)).any(0).all():
                found.setdefault(notes.tobytes(), (named[1], notes))
    return list(found.values())


def tune(example: tuple[str, np.ndarray]) -> str:
    """How the melody goes in its first twelve quarters, whatever the key: many chorales are settings of one tune."""
    return str(np.diff(example[1][:12, 0]).tolist())


def _opened(packed: bytes) -> bytes:
    """The score in a ``.mxl`` file, which is a zip of it and of what says so."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("xml") and not n.startswith("META")))


def quarters(score: bytes) -> np.ndarray:
    """What each part of a score sings at each quarter note, int16 ``[T, parts]``; the highest note where there are several."""
    sung = [list(_sung(part)) for part in ET.fromstring(score).iterfind("part")]
    time = int(np.ceil(max((end for part in sung for _, end, _ in part), default=0)))
    notes = np.full((time, len(sung)), REST, np.int16)
    for voice, part in enumerate(sung):
        for start, end, pitch in part:
            at = slice(int(np.ceil(start)), int(np.ceil(end)))
            notes[at, voice] = np.maximum(notes[at, voice], pitch)
    return notes


def _sung(part: ET.Element) -> Iterator[tuple[float, float, int]]:
    """Start, end (in quarters) and pitch of every note of a part."""
    divisions, bar = 1.0, 0.0
    for measure in part.iterfind("measure"):
        now = begun = last = bar
        for entry in measure:
            if entry.tag == "attributes":
                divisions = float(entry.findtext("divisions") or divisions)
                continue
            if entry.tag not in ("note", "backup", "forward") or entry.find("grace") is not None:
                continue
            length = float(entry.findtext("duration") or 0) / divisions
            if entry.tag == "note" and entry.find("chord") is None:
                begun = now
            if entry.tag == "note" and (pitch := entry.find("pitch")) is not None:
                yield begun, begun + length, _midi(pitch)
            if entry.find("chord") is None:
                now += -length if entry.tag == "backup" else length
            last = max(last, now)
        bar = last


def _midi(pitch: ET.Element) -> int:
    """MIDI's number of a written pitch: 12 to the octave, 60 for C4."""
    octave, letter = int(pitch.findtext("octave") or 4), pitch.findtext("step") or "C"
    return 12 * (octave + 1) + STEPS[letter] + round(float(pitch.findtext("alter") or 0))


def hertz(notes: Any) -> np.ndarray:
    """The frequencies of MIDI's numbers in equal temperament, A4 = 69 at 440 Hz.

    >>> hertz([69, 81, 60]).round(1).tolist()
    [440.0, 880.0, 261.6]
    """
    return 440.0 * 2.0 ** ((np.asarray(notes, float) - 69) / 12)


def sound(notes: np.ndarray, *, rate: int = 16000, seconds: float = 0.6) -> np.ndarray:
    """What ``notes [T, voices]`` sound like on a simple organ: float32 ``[samples]`` within -1..1.

    A note that stays is held. seconds: of a quarter. Each note is its frequency and five overtones, the n-th of strength 1/n^1.5, with a
    tenth of a second to come and go.
    """
    length = int(rate * seconds)
    wave = np.zeros((len(notes) + 1) * length, np.float32)
    for voice in np.asarray(notes).T:
        edges = np.flatnonzero(np.diff(voice, prepend=-1, append=-1))
        for start, end in zip(edges, edges[1:]):
            if voice[start] != REST:
                tone = _tone(float(hertz(voice[start])), (end - start) * length, rate)
                wave[start * length : start * length + len(tone)] += tone
    return wave / max(float(np.abs(wave).max()), 1e-9)


def _tone(frequency: float, samples: int, rate: int) -> np.ndarray:
    fade = rate // 10
    t = np.arange(samples + fade)
    overtones = [n for n in range(1, 7) if n * frequency < rate / 2]
    wave = sum(np.sin(2 * np.pi * n * frequency * t / rate) / n**1.5 for n in overtones)
    envelope = np.minimum(1, np.minimum(t + 1, len(t) - t) / fade)
    return (wave * envelope).astype(np.float32)

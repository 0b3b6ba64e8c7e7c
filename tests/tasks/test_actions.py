"""Folds that keep subjects apart, pooling by a plain loop, files of arrays that call nothing, floors of the real recordings."""

import io
import os
import pickle

import numpy as np
import pytest

from rnnjax.data import DataError, load, pickled, sets
from rnnjax.tasks import Setting, actions


def test_every_recording_is_tested_once_without_its_subject():
    who = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 11), 14))
    parts = actions.folds(who)
    assert sorted(np.concatenate([fold.test for fold in parts])) == list(range(140))
    for fold in parts:
        assert sorted(np.concatenate(fold)) == list(range(140))
        subjects = [set(who[places]) for places in fold]
        assert [len(s) for s in subjects] == [6, 2, 2] and len(set.union(*subjects)) == 10


def test_what_is_read_by_a_plain_loop():
    """Tenths of a second; and on the other wrist what points along the forearm turns round, and what turns across it."""
    frames = np.random.default_rng(1).normal(size=(23, 6)).astype(np.float32)
    found = actions.tenths(frames)
    unit = np.array([0.7] * 3 + [1.5] * 3)
    for t in range(4):
        piece = frames[5 * t : 5 * t + 5].astype(np.float64) / unit
        np.testing.assert_allclose(found[t, :6], piece.sum(0) / 5, rtol=1e-4, atol=1e-6)
        spread = np.sqrt(((piece - piece.mean(0)) ** 2).sum(0) / 5)
        np.testing.assert_allclose(found[t, 6:], 3 * spread, rtol=1e-4)
    flip = np.diag([-1.0, 1, 1])
    mirrored = np.concatenate([frames[:, :3] @ flip, np.linalg.det(flip) * frames[:, 3:] @ flip], 1)  # rotation: axial
    assert len(found) == 4
    np.testing.assert_allclose(actions.tenths(mirrored.astype(np.float32)), found * actions.MIRROR, rtol=1e-5)


def npy(value):
    file = io.BytesIO()
    np.save(file, np.array(value, object), allow_pickle=True)
    return file.getvalue()


def test_files_of_arrays_are_read_and_call_nothing(tmp_path):
    value = {"X": [np.arange(6.0).reshape(2, 3)], "y": np.array([1, 2]), "names": ["a"]}
    found, want = pickled.objects(npy(value)), np.load(io.BytesIO(npy(value)), allow_pickle=True).item()
    np.testing.assert_array_equal(found["X"][0], want["X"][0])
    assert found["y"].tolist() == [1, 2] and found["names"] == ["a"]

    class Call:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(DataError, match=r"asks for '\w+.mkdir', which is not made here"):
        pickled.objects(npy({"x": Call()}))
    assert not (tmp_path / "made").exists() and b"mkdir" in pickle.dumps(Call())


@pytest.mark.slow
def test_the_recordings_and_their_floors():
    """140 of ten subjects; 88.6 % by scikit-learn's own folds of subjects. Needs the package, kept or on the index."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score

    try:
        parts = [load("actions", split) for split in sets.SPLITS]
    except DataError as error:
        pytest.skip(str(error))
    assert [len(part) for part in parts] == [84, 28, 28]
    subjects = [{example[2] for example in part} for part in parts]
    assert len(set.union(*subjects)) == sum(map(len, subjects)) == 10
    frames, what, who = zip(*(example for part in parts for example in part))
    assert np.bincount(what).tolist() == [20] * 7
    pooled = actions.moments(list(frames))
    model = LogisticRegression(max_iter=2000)
    assert cross_val_score(model, pooled, what, groups=who, cv=GroupKFold(5)).mean() == pytest.approx(0.886, abs=0.01)
    floors = actions.make(Setting(small=True)).floors
    assert floors["most frequent exercise"]() == pytest.approx(1 / 7)
    assert floors["logistic regression on means and deviations"]() == pytest.approx(0.836, abs=0.015)

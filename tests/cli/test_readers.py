"""Damaged texts, tables and run folders: an answer or one sentence, never a traceback (`harm` says how, and how often)."""

import json

import pytest
from harm import counts, in_bytes, in_json, tried
from hypothesis import strategies as st

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


@pytest.mark.filterwarnings("ignore")  # what pandas remarks on the way
@pytest.mark.parametrize("name", [*GOOD, *(pytest.param(name, marks=pytest.mark.slow) for name in ALSO)])
@counts(many=150)
def test_harmed(name, count, tmp_path):
    path, (whole, read) = tmp_path / name, (GOOD | ALSO)[name]

    def read_it(content):
        path.write_bytes(content)
        read(path)

    for good in whole:
        read_it(good)  # without harm it reads
    harm = in_bytes(*whole)
    if name == "config.json":
        harm = st.one_of(harm, in_json(*CONFIGS), in_json(*CONFIGS))
    tried(harm, read_it, count, folder=tmp_path, errors=(DataError, BadInput, Damaged))


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

"""The recipes of docs/reports.md, run as they stand there; the two packages are stood in for by what writes down their calls."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import problem
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "reports.md"


@pytest.fixture(scope="module")
def history():
    return problem.fit(steps=14, progress=False).history


def stood_in(monkeypatch, **modules):
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


def blocks():
    shared, tensorboard, wandb = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    return shared + tensorboard, shared + wandb


def want(history):
    """Each number but the step of each line, by its split."""
    numbers = lambda line: {k: v for k, v in line.items() if k not in ("step", "split") and v is not None}
    return [
        (f"{line.get('split', 'train')}/{k}", v, line["step"]) for line in history for k, v in numbers(line).items()
    ]


def test_tensorboard(history, monkeypatch):
    seen = []
    writer = lambda folder: SimpleNamespace(add_scalar=lambda name, value, step: seen.append((name, value, step)))
    stood_in(monkeypatch, tensorboardX={"SummaryWriter": writer})
    found: dict = {}
    exec(blocks()[0], found)
    for line in history:
        found["report"](line)
    assert [row for row in seen if not isinstance(row[1], bool)] == [
        row for row in want(history) if not isinstance(row[1], bool)
    ]


def test_weights_and_biases(history, monkeypatch):
    seen = []
    run = SimpleNamespace(log=seen.append, define_metric=lambda name, step_metric: None)
    stood_in(monkeypatch, wandb={"init": lambda project: run})
    found: dict = {}
    exec(blocks()[1], found)
    for line in history:
        found["report"](line)
    rows = [(name, value, logged["step"]) for logged in seen for name, value in logged.items() if name != "step"]
    assert rows == want(history)

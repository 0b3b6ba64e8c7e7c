"""The catalogue: every cell, its size by the formula of its paper, and what is linear in time."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import rnnjax as rj

I, H = 5, 8
IH, HH = I * H, H * H
SIZES = {  # number of params with default options, by the shapes of the papers' weights
    "Elman": IH + HH + H,
    "IRNN": IH + HH + H,
    "Jordan": IH + HH + H + HH + H,
    "IndRNN": IH + 2 * H,
    "FastRNN": IH + HH + H + 2,
    "SCRN": IH + HH + I * 40 + 40 * H + HH + 40 * H,
    "Clockwork": IH + HH + H,
    "LSTM": 4 * (IH + HH + H),
    "JANET": 2 * (IH + HH + H),
    "MultiplicativeLSTM": 5 * IH + 5 * HH + 4 * H,
    "NAS": 8 * (IH + HH),
    "RHN": 2 * IH + 10 * 2 * (HH + H),
    "ConvLSTM": 9 * 4 * (IH + HH) + 4 * H + 3 * 64 * H,
    "ConvGRU": 9 * 3 * (IH + HH) + 3 * H,
    "GRU": 3 * (IH + HH + H) + H,
    "MGU": 2 * (IH + HH + H),
    "UGRNN": 2 * (IH + HH + H),
    "LiGRU": 2 * (IH + HH + H),
    "LightRU": 2 * IH + HH + H,
    "MinimalRNN": IH + 2 * HH + 2 * H,
    "MUT1": 3 * IH + 2 * HH + 3 * H,
    "MUT2": 3 * (IH + HH + H),
    "MUT3": 3 * (IH + HH + H),
    "FastGRNN": IH + HH + 2 * H + 2,
    "BRC": 3 * IH + 2 * H,
    "NBRC": 3 * IH + 2 * HH,
    "RAN": 3 * IH + 2 * HH + 2 * H,
    "CFN": 3 * IH + 2 * HH + 2 * H,
    "ATR": IH + HH,
    "STAR": 2 * IH + HH + 2 * H,
    "TRNN": 2 * IH + H,
    "TGRU": 6 * IH + 3 * H,
    "TLSTM": 6 * IH + 3 * H,
    "MinGRU": 2 * (IH + H),
    "MinLSTM": 3 * (IH + H),
    "RGLRU": 2 * (IH + H) + H + IH,  # with a map from I to H, which the paper's block has outside
    "SRU": 4 * IH + 2 * H,
    "QRNN": 2 * 3 * IH + 3 * H,
    "LRU": 3 * H + 2 * (IH + HH) + IH,
    "S4D": H + 2 * 32 * H + 2 * 32 * H + H + IH,
    "S5": 3 * 32 + 2 * 32 * (I + H) + IH,
    "S6": 2 * H * 1 + H + 2 * 16 * H + 16 * H + H + IH,
    "LinearAttention": 3 * IH,
    "DeltaNet": 3 * IH + I,
    "GatedDeltaNet": 3 * IH + 2 * I + 2,
    "SLSTM": 4 * (IH + HH + H),
    "MLSTM": 3 * IH + 2 * I + 2 + IH + H,
    "CTRNN": IH + HH + 2 * H,
    "LTC": IH + HH + 3 * H,
    "CfC": (I + H) * 128 + 128 + 128 * 3 * H + 3 * H,
    "CoRNN": IH + 2 * HH + H,
    "UnICORNN": IH + 3 * H,
    "LEM": 4 * (IH + HH + H),
    "AntisymmetricRNN": IH + HH + H,
    "OrthogonalRNN": IH + HH + H,
    "UnitaryRNN": 3 * H + 4 * H + 2 * IH + H + 2 * HH + H,
    "StackRNN": IH + HH + H + 2 * H + 3 * H + H,
    "TapeRNN": IH + HH + H + 8 * H + 2 * (14 * (H + 1)) + 16 * (H + 1) + (H + 8) * H + H,
    "RateRNN": IH + HH + H,
    "EchoState": IH + HH + H,
}


def test_every_cell_has_one_line_and_the_number_of_params_of_its_paper():
    lines = rj.cells.catalogue(I, H)
    assert {line.name: line.parameters for line in lines} == SIZES
    assert [line.name for line in lines] == [*dict.fromkeys(line.name for line in lines)]
    for line in lines:
        assert line.family and any(c.isdigit() for c in line.paper), line  # a paper has a year
        assert "Source" in (inspect.getdoc(getattr(rj, line.name)) or ""), line


def test_linear_in_time_is_what_the_associative_method_takes():
    from rnnjax.protocols import is_linear

    for line in rj.cells.catalogue(I, H):
        assert line.linear == is_linear(getattr(rj, line.name)(H)), line.name


def test_every_published_cell_is_handed_on_by_its_family():
    """A cell is one file and one line in its family's ``__init__``: this says which line is missing."""
    for path in sorted(Path(rj.cells.__file__).parent.glob("*/*.py")):
        for name in re.findall(r"^@published\(.*?^class (\w+)", path.read_text(), re.DOTALL | re.MULTILINE):
            line = f"from rnnjax.cells.{path.parent.name}.{path.stem} import {name} as {name}"
            assert line in (path.parent / "__init__.py").read_text(), f"add to {path.parent.name}/__init__.py: {line}"
            assert getattr(rj, name) is getattr(rj.cells, name) and name in rj.__all__


def test_a_family_imports_nothing_of_another():
    for path in Path(rj.cells.__file__).parent.glob("*/*.py"):
        families = {other for other in re.findall(r"from rnnjax\.cells\.(\w+)", path.read_text())}
        assert families <= {path.parent.name, "shared", "catalogue"}, path


PUBLIC = sorted({*rj.cells.__all__, *rj.wrappers.__all__} - {"Recorded", "catalogue", "ridge"})


@pytest.mark.parametrize("name", [n for n in PUBLIC if not n.endswith("Carry")])
def test_the_docstring_has_equations_params_carry_errors_and_an_example(name):
    owner = getattr(rj, name, None)
    if owner is None or not hasattr(owner, "initial_carry"):
        return
    text = inspect.getdoc(owner) or ""
    for part in ("``", "params", "carry", ">>> "):
        assert part in text, f"{name} does not say {part}"
    if name in SIZES:
        assert "features: H" in text and "Errors:" in text, name

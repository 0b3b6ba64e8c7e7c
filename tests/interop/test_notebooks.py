"""The notebooks on Flax and on porting run from top to bottom, with fewer steps."""

from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # the notebook machinery's own
@pytest.mark.parametrize("name", ["04_flax", "05_port_and_ship"])
def test_notebook_runs(name, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for needed in ("ipykernel", *(("torch", "onnx", "safetensors") if name.startswith("05") else ())):
        pytest.importorskip(needed)
    monkeypatch.setenv("RNNJAX_NOTEBOOK_QUICK", "1")
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    assert all(cell.get("execution_count") for cell in book.cells if cell.cell_type == "code")

"""The notebooks that need no other library run from top to bottom, with fewer steps and cells."""

from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the notebook machinery's own
@pytest.mark.parametrize("name", ["03_cells", "06_vanishing_and_exploding", "08_learning_online"])
def test_notebook_runs(name, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("RNNJAX_NOTEBOOK_QUICK", "1")
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    assert all(cell.get("execution_count") for cell in book.cells if cell.cell_type == "code")

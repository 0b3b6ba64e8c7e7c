"""Runs every notebook from top to bottom, as written, in this environment; an error in a cell is an error here."""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    # The kernel is this environment's Python, whatever kernels the machine has registered.
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    if "--write" in sys.argv:  # keeps the outputs, not the times they were made at
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
    print(f"{path.name}: {len(notebook.cells)} cells in {time.monotonic() - began:.0f} s", flush=True)

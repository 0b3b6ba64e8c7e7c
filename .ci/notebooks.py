"""Runs every notebook from top to bottom, as written, in this environment, two at a time; an error in a cell is an error here.

``notebooks.py [--write] [NAME ...]``: those whose names begin so; --write keeps the outputs.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def run(path: Path, write: bool) -> None:
    """One of them."""
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    # The kernel is this environment's Python, whatever kernels the machine has registered.
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    if write:  # keeps the outputs, not the times they were made at
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
    print(f"{path.name}: {len(notebook.cells)} cells in {time.monotonic() - began:.0f} s", flush=True)


def apart(path: Path, *flags: str) -> int:
    """In a process of its own."""
    return subprocess.run([sys.executable, __file__, *flags, "--one", str(path)]).returncode


if __name__ == "__main__":
    flags = [given for given in sys.argv[1:] if given == "--write"]
    names = tuple(given for given in sys.argv[1:] if not given.startswith("--"))
    if "--one" in sys.argv:
        run(Path(names[0]), bool(flags))
    else:
        with ThreadPoolExecutor(2) as two:
            wanted = [path for path in NOTEBOOKS if path.name.startswith(names or "")]
            sys.exit(max(two.map(lambda path: apart(path, *flags), wanted), default=1))

"""What importing costs, and that a file imports only from the layers above it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rnnjax

ROOT = Path(rnnjax.__file__).parent
LAYERS = [
    ["_jax", "_signals", "base", "wording"],
    ["carry_maps", "linear_algebra", "lock"],
    ["protocols"],
    ["engine"],
    ["sequence", "initializers", "activations"],
    ["cells"],
    ["wrappers"],
    ["layers"],
    ["parallel"],
    ["online"],
    ["seq2seq"],
    ["losses", "data"],
    ["train", "diagnostics", "interop", "linen", "metrics", "nnx", "testing", "sharding"],
    ["forecast"],
    ["bench", "tasks"],
    ["cli"],
    ["__main__"],
]
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}


def test_import_loads_neither_flax_nor_torch_nor_matplotlib():
    code = "import sys, rnnjax; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "flax",
        "torch",
        "matplotlib",
        "orbax",
        "optax",
        "keras",
        "haiku",
        "equinox",
        "onnx",
        "rich",
        "scipy.stats",
    }
    assert "jax" in loaded and not heavy & set(loaded)


def part(name):
    """`rnnjax.cells.lstm` belongs to `cells`; None for the package itself and for what is not ours."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "rnnjax" and len(pieces) > 1 else None


def imported(tree):
    """The parts of rnnjax imported when the file is: not inside functions, not for type checkers only."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (part(alias.name) or "*" for alias in node.names if alias.name.split(".")[0] == "rnnjax")
        elif isinstance(node, ast.ImportFrom) and node.module == "rnnjax":
            yield from (alias.name if alias.name in ROW else "*" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and part(node.module or ""):
            yield part(node.module)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _for_types_only(node):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def _for_types_only(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


FILES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_from_layers_above(path):
    mine = path.parts[0].removesuffix(".py")
    assert mine in ROW, f"{mine} has no layer; add it to LAYERS where DESIGN has it"
    for other in imported(ast.parse((ROOT / path).read_text())):
        if other == "*":  # the whole package: for the outermost layers only
            assert ROW[mine] >= ROW["train"], f"{path} imports the whole of rnnjax"
        else:
            assert other == mine or ROW[other] < ROW[mine], f"{path} imports {other}, which is not above {mine}"


def test_modules_that_are_loaded_late_complete_too():
    """In an editor, which reads the imports under TYPE_CHECKING, and in a session, which asks `dir`."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    typed = [node for node in tree.body if isinstance(node, ast.If)]
    names = [alias.name for block in typed for node in block.body for alias in node.names]
    assert sorted(names) == sorted(rnnjax._LAZY) and set(names) <= set(dir(rnnjax))


def test_only_one_file_touches_jax_internals():
    """Its own tests too, and the parameters of its primitives with them: `eqn.params["..."]`."""
    inside = re.compile(r"jax\._src|jax\.extend|jax\.interpreters|\"num_c|\"ft_in|eqn\.params\[|eqn\.params\.")
    named = "axes|axis|dimensions?|permutation|dimension_numbers|padding_config|slice_sizes|branches|cond_jaxpr|jaxpr|sharding"
    named = re.compile(rf"params\[\"({named})\"\]")
    tests = Path(__file__).parent
    for path in [*(ROOT / f for f in FILES), *tests.rglob("*.py")]:
        if path.name not in ("_jax.py", Path(__file__).name):
            assert not inside.search(path.read_text()), path
            assert path.is_relative_to(tests) or not named.search(path.read_text()), (
                path
            )  # a test makes forms of its own

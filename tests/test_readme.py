"""The README keeps its word: its Python runs, its commands are those of .ci/run, its links lead somewhere."""

import re
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_one_after_the_other():
    names = {"__name__": "readme"}
    with jax.numpy_dtype_promotion("standard"):  # as a reader has it
        for block in blocks("python"):
            exec(compile(block, "README.md", "exec"), names)
    assert names["ys"].shape == (20, 4, 5) and names["losses"][-1] < names["losses"][0]
    assert not names["ys"][:, 2].any()  # length 0


def test_the_custom_cell_has_ten_lines():
    cell = blocks("python")[0].split("@rj.cell")[1].strip().splitlines()
    assert 10 <= len(cell) <= 11


def test_two_commands_each_one_line():
    commands = blocks("sh")
    assert [len(block.strip().splitlines()) for block in commands] == [1, 1]
    assert commands[0].strip().endswith("rnnjax train") and "/pytest" in commands[1]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target

"""The metrics file of a run: what a kill or a power cut leaves of it, and what else may have happened to it."""

import json

import pytest

from rnnjax.train import Damaged
from rnnjax.train.metrics import Metrics, read

LINES = [{"step": 10, "loss": 0.5}, {"step": 20, "loss": None}, {"step": 20, "split": "valid", "loss": 0.25}]
WHOLE = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


@pytest.mark.parametrize("left", [b"\n", b"", b'\n{"step": 30, "lo', b'\n{"step": 30}\n{}\n'])
def test_lines_after_the_checkpoint_are_cut_off_and_an_end_torn_off_is_put_back(left, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE[:-1] + left)
    metrics = Metrics.resume(path, 3)
    assert metrics.history == LINES and path.read_bytes() == WHOLE
    metrics.write({"step": 30, "loss": float("inf")})
    metrics.sync()
    assert path.read_bytes() == WHOLE + b'{"step": 30, "loss": null}\n'
    assert read(path) == metrics.history == [*LINES, {"step": 30, "loss": None}]


def test_only_process_0_touches_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + b"{")
    metrics = Metrics.resume(path, 2, write=False)
    metrics.write({"step": 30})
    metrics.sync()
    assert metrics.history == [*LINES[:2], {"step": 30}] and path.read_bytes() == WHOLE + b"{"
    assert read(path) == LINES


@pytest.mark.parametrize(
    "harmed, sentence",
    [
        (WHOLE[:53], "has 2 lines, the checkpoint was written after 3; was it edited"),
        (b"", "has 0 lines"),
        (WHOLE[:60], "line 3 of"),
        (WHOLE.replace(b"null", b"nul"), "line 2 of .* is not what was written; put the file back, or train anew"),
        (WHOLE.replace(b"0.25", b"\xff\xfe"), "line 3 of"),
        (b"\0" * 20 + WHOLE[20:], "line 1 of"),  # a block that the disk never got
        (b"[" * 100_000 + b"\n" + WHOLE, "line 1 of"),
        (b"5\n" + WHOLE, "line 1 of"),
    ],
    ids=["short", "empty", "torn", "no JSON", "no letters", "zeros", "deep", "a number"],
)
def test_a_damaged_file(harmed, sentence, tmp_path):
    """Told in a sentence, and left as it is."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(harmed)
    with pytest.raises(Damaged, match=sentence):
        Metrics.resume(path, 3)
    assert path.read_bytes() == harmed

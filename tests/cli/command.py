"""What the tests of the command share."""

import json

from rnnjax.cli import main


def fails(capsys, *argv):
    """Runs the command, which must end with status 2 and one sentence on standard error, and returns the sentence."""
    capsys.readouterr()
    try:
        status = main([str(a) for a in argv])
    except SystemExit as stop:
        status = stop.code
    sentence = capsys.readouterr().err
    assert status == 2 and sentence.count("\n") == 1 and sentence.startswith("rnnjax"), (status, sentence)
    return sentence


def valid_lines(out):
    """The validation lines of a run."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("split") == "valid"]

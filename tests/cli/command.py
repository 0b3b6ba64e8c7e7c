"""What the tests of the command share."""

import json
import shutil

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


def edited(run, out, **settings):
    """A copy of a run, its settings changed by hand; all that `config.json` says then."""
    shutil.copytree(run, out)
    config = json.loads((out / "config.json").read_text())
    config["settings"] |= settings
    (out / "config.json").write_text(json.dumps(config))
    return config


def turned_round(run, *steps):
    """The largest file of each of these checkpoints is written backwards; the name of the last one."""
    for step in steps:
        files = (path for path in (run / "checkpoints" / step).rglob("*") if path.is_file())
        largest = max(files, key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[::-1])
    return largest.name


def valid_lines(out):
    """The validation lines of a run."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("split") == "valid"]

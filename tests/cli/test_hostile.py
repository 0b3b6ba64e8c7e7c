"""What else a machine or its user does to a run: links, disks that are read only, other places and times, flags that change."""

import ast
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli.command import fails, turned_round
from train import problem

import rnnjax
from rnnjax.cli import explain, launchers, main, parser, train
from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.series import read_sheet
from rnnjax.cli.settings import Settings
from rnnjax.train import Checkpoints

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40
SMALL = "--hidden 4 --batch 4 --time 8 --steps 20 --validate-every 10 --patience 9999".split()


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_and_its_checkpoints_that_are_links(tmp_path):
    """As onto a larger disk: the run is found through them, and replacing it leaves alone what they point to."""
    for name in ("huge", "real"):
        (tmp_path / name).mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "checkpoints").symlink_to(tmp_path / "huge")
    with folders.held(tmp_path / "run"):
        assert (tmp_path / "real" / ".lock").exists()
        checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
        checkpoints.save(1, {"w": problem.X}, {"at": 1})
        checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.restore({"w": problem.X})[1] == {"at": 1}
    checkpoints.close()
    folders.make_folder(tmp_path / "run", {"settings": Settings().asdict()})
    assert os.listdir(tmp_path / "real") == ["config.json"] and os.listdir(tmp_path / "huge") == ["1"]
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="cannot write to .*nowhere: File exists; give another folder by --out"):
        folders.held(tmp_path / "nowhere")


def test_a_file_where_checkpoints_should_be(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(OSError) as found:
        checkpoints.save(1, {"w": problem.X}, {})
    checkpoints.close()
    assert "cannot read or write the run: " in str(explain(found.value)) and not (tmp_path / "checkpoints").read_text()


def test_too_many_open_files(tmp_path):
    """One sentence, nothing left, and when there are fewer again it goes on."""
    checkpoints, limit = Checkpoints(tmp_path), resource.getrlimit(resource.RLIMIT_NOFILE)
    checkpoints.save(1, {"w": problem.X}, {})
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limit[1]))
    opened = []
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(OSError) as found:
            checkpoints.save(2, {"w": problem.X}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for file in opened:
            os.close(file)
    assert "Too many open files" in str(explain(found.value)) and os.listdir(tmp_path) == ["1"]
    checkpoints.save(2, {"w": problem.X}, {})
    assert checkpoints.whole() == 2
    checkpoints.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cat.txt").write_text(TEXT)
    assert main(["train", "--data", str(folder / "cat.txt"), "--out", str(folder / "run"), *SMALL]) == 0
    return folder / "run"


@pytest.mark.slow
def test_what_reads_a_run_reads_no_damaged_checkpoint(trained, tmp_path, capsys):
    """The one before, with a warning that names the file; none, with a sentence, where none is whole."""
    commands = [["eval"], ["sample", "--length", "3"], ["export", "--to", "stablehlo"]]
    for run, steps in (("one", ["20"]), ("both", ["10", "20"])):
        shutil.copytree(trained, tmp_path / run)
        largest = turned_round(tmp_path / run, *steps)
    for command, *flags in commands:
        with pytest.warns(
            RuntimeWarning, match=f"going on from step 10, as .*/20/.*/{largest} is not what was written"
        ):
            assert main([command, str(tmp_path / "one"), *flags]) == 0
        assert "is whole" in fails(capsys, command, tmp_path / "both", *flags)
    assert "is whole" in fails(capsys, "train", "--out", tmp_path / "both", "--resume", "--steps", "30")


@pytest.mark.slow
def test_a_disk_that_is_read_only(trained, tmp_path, capsys):
    """What only reads does; what writes says so."""
    mount = lambda *argv: subprocess.run(["mount", *argv], stderr=subprocess.DEVNULL).returncode
    if mount("--bind", str(trained), str(tmp_path)) or mount("-o", "remount,bind,ro", str(tmp_path)):
        pytest.skip("only root may mount a disk")
    try:
        assert main(["eval", str(tmp_path)]) == main(["sample", str(tmp_path), "--length", "3"]) == 0
        for flags in (["--resume", "--steps", "30"], ["--overwrite", "--data", trained.parent / "cat.txt", *SMALL]):
            assert "Read-only file system" in fails(capsys, "train", "--out", tmp_path, *flags)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# -- places and times --------------------------------------------------------------------------------------------------


def texts_opened(tree):
    """Calls that read or write text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            binary = any("b" in mode and set(mode) <= set("rwabx+") for mode in modes)
            of_files = not isinstance(node.func, ast.Attribute) or "." not in ast.unparse(node.func).removeprefix(
                "self."
            )
            if name in ("read_text", "write_text") or (name == "open" and not binary and of_files):
                yield node


def test_no_file_is_read_or_written_as_the_locale_says():
    """Two hosts, or today and tomorrow, may have another one: each file that holds text says in what."""
    found = 0
    for path in Path(rnnjax.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in texts_opened(ast.parse(source)) if "_text(" in source or "open(" in source else ():
            if ast.unparse(node.func) not in ("read_text", "rj.data.read_text", "os.open", "safe_open", "tarfile.open"):
                found += 1
                assert any(word.arg == "encoding" for word in node.keywords), f"{path}:{node.lineno}"
    assert found >= 10


def test_dates_do_not_hang_on_the_time_zone(tmp_path, monkeypatch):
    """Also across hours that one zone has twice, or not at all."""
    hours = np.arange(np.datetime64("2024-03-30T20"), np.datetime64("2024-04-01T20"))
    (tmp_path / "t.csv").write_text("when,y\n" + "\n".join(f"{hour},{i}" for i, hour in enumerate(hours)) + "\n")
    for zone in ("UTC", "Europe/Berlin", "Asia/Tokyo", "America/St_Johns"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        sheet = read_sheet(Settings(data=str(tmp_path / "t.csv"), horizon=3), str(tmp_path / "t.csv"))
        assert (sheet.blocks[0].dates == hours).all() and sheet.values[:, 0].tolist() == list(range(48)), zone
    monkeypatch.undo()
    time.tzset()


# -- flags -------------------------------------------------------------------------------------------------------------

VALUES = ["7", "0.37", "0.11,0.77", "sqrt", "grud", "recursive", "gaussian", "gru", "other"]
MAY_CHANGE = {
    "steps",
    "patience",
    "out",
    "resume",
    "memory",
    "help",
    "distributed",
    "coordinator",
    "processes",
    "process",
}


def changed(action):
    """A flag of the command with a value that no default has, as words."""
    if action.nargs == 0:
        return [action.option_strings[0]]
    for value in ["addition"] if action.dest == "task" else VALUES:
        with contextlib.suppress(Exception):
            kind = action.type or str
            if (action.choices is None or value in action.choices) and kind(value) is not None:
                return [action.option_strings[0], value]
    raise AssertionError(f"no value for {action.dest}")


def test_every_other_flag_with_resume_is_refused(tmp_path):
    """In a sentence that names it; the run is left as it is."""
    config = {"settings": Settings(data=str(tmp_path / "cat.txt")).asdict()}
    (tmp_path / "run").mkdir()
    folders.write_config(tmp_path / "run", config)
    before, whole = (tmp_path / "run" / "config.json").read_bytes(), parser()
    actions = whole.parse_args(["train"]).parser._actions
    tried = 0
    for action in actions:
        if action.option_strings and action.dest not in MAY_CHANGE:
            args = whole.parse_args(["train", "--out", str(tmp_path / "run"), "--resume", *changed(action)])
            with pytest.raises(BadInput) as found:
                train.run(args)
            assert action.option_strings[0].replace("--task", "--resume") in str(found.value) and "\n" not in str(
                found.value
            ), found.value
            tried += 1
    assert tried >= 35 and (tmp_path / "run" / "config.json").read_bytes() == before


def test_memory_with_resume_is_of_the_run(tmp_path, monkeypatch):
    """Not of a network with the settings by default."""
    folders.write_config(tmp_path, {"settings": Settings(data="cat.txt", hidden=5).asdict()})
    asked = []
    monkeypatch.setattr(train.memory, "tell", lambda settings, budget: asked.append((settings.hidden, budget)) or 0)
    assert main(["train", "--out", str(tmp_path), "--resume", "--memory", "1GB"]) == 0 and asked == [(5, 10**9)]


# -- streams and signals -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", pytest.param("2>&-", marks=pytest.mark.long)])
def test_closed_streams(closed, tmp_path):
    """What is said goes nowhere, above all not into the files that would get their numbers."""
    (tmp_path / "cat.txt").write_text(TEXT)
    argv = f"{sys.executable} -m rnnjax train --data cat.txt --out run {' '.join(SMALL)} {closed}"
    done = subprocess.run(["sh", "-c", argv], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert main(["eval", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 4


# -- launchers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nodes, host",
    [("n1", "n1"), ("n1,n2", "n1"), ("n[001-015],x", "n001"), ("n[07,09-15]", "n07"), ("rack[1-2]n[3-4],x", "rack1n3")],
)
def test_the_first_node_of_slurm(nodes, host):
    step = {"SLURM_JOB_ID": "8199", "SLURM_STEP_NODELIST": nodes, "SLURM_NTASKS": "3", "SLURM_PROCID": "1"}
    assert launchers.place(step) == (f"{host}:61447", 3, 1)
    assert launchers.place(step | {"JAX_COORDINATOR_PORT": "5"}) == (f"{host}:5", 3, 1)
    assert launchers.place(step | {"JAX_COORDINATOR_ADDRESS": "a:6"}) == ("a:6", 3, 1)


@pytest.mark.parametrize(
    "uri, host",
    [
        ("1531576320.0;tcp://10.96.0.1,10.148.0.1:34911", "10.96.0.1"),
        ("1531576320.0;tcp6://[fe80::b9b:1,2620:10d::2]:4", "[fe80::b9b:1]"),
    ],
)
def test_open_mpi(uri, host):
    world = {"OMPI_MCA_orte_hnp_uri": uri, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    assert launchers.place(world) == (f"{host}:{61440 + 1531576320 // 4096 % 4096}", 2, 0)


def test_no_launcher_or_one_that_says_too_little():
    for said in (
        {},
        {"SLURM_JOB_ID": "1"},
        {"SLURM_JOB_ID": "x", "SLURM_STEP_NODELIST": "a"},
        {"OMPI_MCA_orte_hnp_uri": ""},
    ):
        assert launchers.place(said) is None

"""Texts as people have them: several files, standard input, long ones measured in part, another run as the beginning."""

import io
import json
import os
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli.command import edited, fails, valid_lines

import rnnjax as rj
from rnnjax.cli import main, texts
from rnnjax.cli.adopt import symbol_axes
from rnnjax.cli.load import load
from rnnjax.cli.settings import Settings, build
from rnnjax.cli.texts import encode_inputs
from rnnjax.cli.train import rate_of
from rnnjax.cli.work import make_task

CAT = "the cat sat on the mat. the dog sat on the log. a bird sang in the tree! " * 20
SHIP = "THE SHIP WENT OUT; THE SHIP CAME IN?\n" * 40
SMALL = ["--hidden", "8", "--batch", "4", "--time", "8", "--validate-every", "10", "--steps", "20"]


def train(out, *flags):
    return main(["train", "--out", str(out), *map(str, flags)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "cat.txt").write_text(CAT)
    (folder / "ship.txt").write_text(SHIP)
    return folder / "cat.txt", folder / "ship.txt"


@pytest.fixture(scope="module")
def of_two(files, tmp_path_factory):
    """One run on two texts, a quarter of each held out."""
    out, said = tmp_path_factory.mktemp("runs") / "two", io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", said)
        assert train(out, "--data", *files, "--held-out", 0.25, *SMALL) == 0
    return out, said.getvalue()


def test_several_files_each_with_its_end_held_out(files, of_two, capsys):
    out, said = of_two
    cut = lambda text: len(text) - len(text) // 4
    known, held = (
        (CAT + "\n")[: cut(CAT + "\n")] + SHIP[: cut(SHIP)],
        (CAT + "\n")[cut(CAT + "\n") :] + SHIP[cut(SHIP) :],
    )
    assert texts.parted([CAT + "\n", SHIP], 0.25) == (known, held)
    assert f"{len(known) + len(held):,} characters, {len(set(known + held))} symbols" in said
    assert (
        f"model of {files[0]}, {files[1]}:" in said and "on the last 25 %, held out of each (lower is better)" in said
    )
    counts = {symbol: known.count(symbol) + 1 for symbol in set(known + held)}
    bits = np.mean([-np.log2(counts[symbol] / sum(counts.values())) for symbol in held])
    assert re.search(rf"unigram +{bits:.4f}", said)
    capsys.readouterr()
    assert main(["eval", str(out)]) == 0
    assert float(capsys.readouterr().out.split()[1]) == min(line["bits_per_char"] for line in valid_lines(out))


def test_a_table_cut_by_commas_that_is_named_a_text_is_read_as_one_with_a_word(files, tmp_path):
    """A semicolon tells a table from prose, a comma does not; with ``--sep ,`` it is a table."""
    path = tmp_path / "sales.txt"
    path.write_text("day,sold\n" + "".join(f"{i},{i % 7}.5\n" for i in range(60)))
    task = make_task(Settings.of({"data": str(path)}))
    assert task.unit == "bits_per_char" and "--sep , forecasts its columns" in task.remarks[0]
    assert make_task(Settings.of({"data": str(path), "sep": ","})).unit == "mse"
    assert not make_task(Settings.of({"data": str(files[0])})).remarks


def test_texts_that_are_too_short_together_and_tables_among_texts(files, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("too")
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert "they have 8 characters together, at least 300" in fails(
        capsys, "train", "--data", tmp_path / "a.txt", tmp_path / "b.txt", "--out", tmp_path / "run"
    )
    assert "a table is one file, got 2" in fails(
        capsys, "train", "--data", files[0], tmp_path / "t.csv", "--out", tmp_path / "run"
    )
    assert "is a folder" in fails(capsys, "train", "--data", files[0], tmp_path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def piped(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_standard_input_is_kept_with_the_run(tmp_path, monkeypatch, capsys):
    """Trained, measured, gone on with, in a folder that was moved: the text is read once."""
    piped(monkeypatch, CAT)
    assert train(tmp_path / "run", "--data", "-", *SMALL) == 0
    assert "model of standard input: 1,460 characters" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["data"] == "-"
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert main(["eval", str(tmp_path / "moved")]) == 0
    assert train(tmp_path / "moved", "--resume", "--steps", 30) == 0
    assert valid_lines(tmp_path / "moved")[-1]["step"] == 30
    assert (tmp_path / "moved" / "standard-input").read_text() == CAT
    piped(monkeypatch, "")
    assert "standard input is empty" in fails(capsys, "train", "--data", "-", "--out", tmp_path / "none")
    monkeypatch.setattr(sys, "stdin", None)
    assert "nothing is piped in; write cat FILE |" in fails(capsys, "train", "--data", "-", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_pipe_is_not_read_twice(tmp_path, capsys):
    """A shell's ``<(command)`` and a named pipe: their beginning would be lost."""
    read, write = os.pipe()
    os.mkfifo(tmp_path / "named")
    for path in (f"/dev/fd/{read}", tmp_path / "named"):
        if os.path.exists(path):
            sentence = fails(capsys, "train", "--data", path, "--out", tmp_path / "run")
            assert f"{path} is a pipe, which can be read only once; hand it over as standard input" in sentence
    os.close(read), os.close(write)


def test_a_table_on_standard_input(tmp_path, monkeypatch, capsys):
    piped(monkeypatch, "a;b\n" + "1,5;2,5\n" * 9 + "1,5\n")
    assert "standard input, line 11: has 1 fields where" in fails(
        capsys, "train", "--data", "-", "--sep", ";", "--out", tmp_path / "run"
    )


@pytest.mark.slow
def test_a_long_text_is_measured_in_part_and_whole_at_the_end(files, tmp_path, monkeypatch, capsys):
    """The part is the beginnings of evenly spread rows; the whole is what `eval` says, and what the run says at its end."""
    monkeypatch.setattr(texts, "BOUND", 100)
    monkeypatch.setattr(texts, "PART", 90)
    assert train(tmp_path / "run", "--data", files[0], "--held-out", 0.5, *SMALL) == 0
    said = capsys.readouterr().out
    *part, whole = valid_lines(tmp_path / "run")
    assert whole["whole"] is True and whole["step"] == min(part, key=lambda line: line["loss"])["step"]
    assert not any("whole" in line for line in part)
    assert re.search(rf"this network \(step {whole['step']}\) +{whole['bits_per_char']:.4f}", said)
    assert main(["eval", str(tmp_path / "run")]) == 0
    measured = float(capsys.readouterr().out.split()[1])
    np.testing.assert_allclose(measured, whole["bits_per_char"], rtol=1e-6)
    assert train(tmp_path / "run", "--resume", "--steps", 30) == 0
    assert [line["step"] for line in valid_lines(tmp_path / "run") if "whole" not in line] == [10, 20, 30]
    assert sum("whole" in line for line in valid_lines(tmp_path / "run")) == 1


@pytest.mark.slow
def test_more_steps_move_the_learning_rate_and_this_is_said(files, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(out, "--data", files[0], *SMALL) == 0
    capsys.readouterr()
    assert train(out, "--resume", "--steps", 40) == 0
    said = capsys.readouterr().out
    peak, low = 8e-3, 8e-5
    here = low + (peak - low) * (1 + np.cos(np.pi * (20 - 2) / (40 - 2))) / 2
    assert f"with 40 in place of 20 it is {here:.2g} after step 20, where it was {low:.2g}" in said
    np.testing.assert_allclose(float(rate_of(Settings(steps=40))(20)), here, rtol=1e-5)
    assert train(out, "--resume", "--patience", 9) == 0
    assert "learning rate" not in capsys.readouterr().out


def test_a_run_begins_with_the_network_of_another(files, of_two, tmp_path, capsys):
    """Symbols keep their weights under their new places, new ones start fresh: what is predicted among the known is the same."""
    from rnnjax.cli.adopt import adopted
    from rnnjax.cli.train import beginning

    source, text = of_two[0], CAT.replace("!", "é").replace("\n", "")
    (tmp_path / "new.txt").write_text(text)
    out = tmp_path / "run"
    assert train(out, "--data", tmp_path / "new.txt", "--init-from", source, *SMALL[2:]) == 0
    said = capsys.readouterr().out
    old, new = load(source), sorted(set(text))
    gone = [s for s in old.memory["symbols"] if s not in new]
    assert (
        f"(step {old.step}), which knows {len(new) - 1} of {len(new)} symbols; new, starting fresh: 'é'; no longer"
        in said
    )
    assert f"no longer there: {', '.join(map(repr, gone[:10]))} and {len(gone) - 10} more" in said
    settings = load(out).settings
    assert settings.hidden == 8  # taken over
    task = make_task(settings)
    fresh = task.cell.init(jax.random.key(0), jnp.zeros((1, len(new))))
    params, _ = adopted(fresh, task, settings)
    token = lambda symbols: encode_inputs(jnp.array(["".join(symbols).index(s) for s in "the dog"]), len(symbols))
    _, before = rj.unroll(old.cell, old.params, token(old.memory["symbols"]))
    _, after = rj.unroll(task.cell, params, token(new))
    both = [s for s in new if s != "é"]
    pick = lambda logits, symbols: np.asarray(logits)[:, ["".join(symbols).index(s) for s in both]]
    np.testing.assert_allclose(pick(after, new), pick(before, old.memory["symbols"]), rtol=1e-4, atol=1e-5)
    at, _, axes = new.index("é"), *symbol_axes(settings, len(new))
    for leaf, start, axis in zip(
        *(jax.tree.leaves(tree, is_leaf=lambda a: a is None) for tree in (params, fresh, axes))
    ):
        if axis is not None:
            np.testing.assert_array_equal(*(np.take(np.asarray(a), at, axis) for a in (leaf, start)))
    (start, *_), said = beginning(settings, task, going_on=True)
    assert said == ()
    assert train(out, "--resume", "--steps", 25) == 0  # the checkpoint, not the other run


def test_what_a_run_cannot_begin_with(files, of_two, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(60)))
    begin = ["train", "--init-from", of_two[0], "--out", tmp_path / "run"]
    assert "--hidden is 9 here and 8 in" in fails(capsys, *begin, "--data", files[0], "--hidden", 9)
    assert "writes text, and on these data a network forecasts a table" in fails(
        capsys, *begin, "--data", tmp_path / "t.csv"
    )
    assert "holds no run" in fails(
        capsys, "train", "--init-from", tmp_path, "--data", files[0], "--out", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "sru", "scrn", "multiplicativelstm", "mingru", "rhn"])
def test_the_axes_that_go_by_symbol_are_found_by_name(cell):
    """Each array whose shape has the prime number of symbols has it on the axis found, and no other."""
    settings = Settings(cell=cell, hidden=6, layers=2)
    params = jax.eval_shape(lambda: build(settings, 23).init(jax.random.key(0), jnp.zeros((1, 23))))
    inputs, outputs = symbol_axes(settings, 23)
    for leaf, read, said in zip(
        jax.tree.leaves(params),
        jax.tree.leaves(inputs, is_leaf=lambda a: a is None),
        jax.tree.leaves(outputs, is_leaf=lambda a: a is None),
    ):
        found = [axis for axis in (read, said) if axis is not None]
        assert found == [axis for axis, size in enumerate(leaf.shape) if size == 23]


@pytest.mark.slow
def test_bf16_trains_to_nearly_the_same(files, tmp_path):
    """bfloat16 has 8 bits: the numbers differ, by a few in a thousand."""
    losses = []
    for flags in ([], ["--bf16"]):
        out = tmp_path / f"run{len(flags)}"
        assert train(out, "--data", files[0], *SMALL, *flags) == 0
        losses.append(valid_lines(out)[-1]["loss"])
    assert 0 < abs(losses[0] - losses[1]) < 0.03 * losses[0]


def test_a_cell_that_is_not_known_in_a_folder(of_two, tmp_path, capsys):
    out = tmp_path / "run"
    config = edited(of_two[0], out, cell="lstn")
    for argv in (["eval", out], ["sample", out], ["train", "--out", out, "--resume"]):
        assert "there is no cell 'lstn'; did you mean 'lstm'?" in fails(capsys, *argv)
    config["settings"]["cell"], config["memory"] = "lstm", {"classes": ["a", "b"]}
    (out / "config.json").write_text(json.dumps(config))
    assert "does not say what the network saw" in fails(capsys, "eval", out)

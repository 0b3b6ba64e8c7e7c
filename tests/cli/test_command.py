"""The command on real files: a run, its files, sampling, measuring again, going on, and all the bad input."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from cli.command import edited, fails

from rnnjax.cli import folder as folders
from rnnjax.cli import main
from rnnjax.cli.errors import BadInput
from rnnjax.cli.load import load

TEXT = "the cat sat on the mat. the dog sat on the log. a bird sang in the tree! " * 30
SMALL = ["--hidden", "8", "--batch", "4", "--time", "8", "--steps", "60", "--validate-every", "20"]


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cat.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def trained_and_said(text_file, tmp_path_factory):
    """A small run, trained once for all of these tests, and what it printed."""
    out, said = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["train", "--data", str(text_file), "--out", str(out), *SMALL]) == 0
    return out, said.getvalue()


@pytest.fixture
def trained(trained_and_said):
    return trained_and_said[0]


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_train_writes_and_says_everything(trained_and_said):
    out, said = trained_and_said
    for word in ("uniform", "unigram", "bz2 given the rest", "this network", "A sample:", "Written to", str(out)):
        assert word in said, word
    assert {"config.json", "metrics.jsonl", "checkpoints", "sample.txt"} <= {p.name for p in out.iterdir()}
    train = [line for line in lines_of(out) if "split" not in line]
    valid = [line for line in lines_of(out) if line.get("split") == "valid"]
    assert [line["step"] for line in valid if not line.get("kept")] == [20, 40, 60]
    assert all(abs(line["bits_per_char"] - line["loss"] / np.log(2)) < 1e-9 for line in train + valid)
    assert valid[-1]["bits_per_char"] < valid[0]["bits_per_char"]
    assert all("seconds" in json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    pytest.importorskip("matplotlib")
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_eval_reproduces_the_number_of_the_run(trained, capsys):
    capsys.readouterr()
    assert main(["eval", str(trained)]) == 0
    measured = float(capsys.readouterr().out.splitlines()[0].removeprefix("bits_per_char "))
    assert measured == min(line["bits_per_char"] for line in lines_of(trained) if line.get("split") == "valid")


def test_the_number_is_the_cross_entropy_of_every_held_out_character(trained):
    """Against one plain pass over the text in numpy's precision, rows and pieces forgotten: close, since rows start warm."""
    import rnnjax as rj

    loaded = load(trained)
    tokens = rj.data.Vocabulary(loaded.memory["symbols"]).encode(TEXT)
    first = len(TEXT) - len(TEXT) // 10
    xs = jax.nn.one_hot(tokens[:-1], len(loaded.memory["symbols"])) * np.sqrt(len(loaded.memory["symbols"]))
    _, logits = rj.unroll(loaded.cell, loaded.params, xs)
    log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]
    np.testing.assert_allclose(-log_p[first - 1 :].mean(), loaded.loss, rtol=0.02)


def test_sample_streams_the_same_text_for_the_same_seed(trained, capsys):
    def sample(*flags):
        capsys.readouterr()
        assert main(["sample", str(trained), "--length", "40", *flags]) == 0
        return capsys.readouterr().out

    one = sample("--prompt", "the c", "--seed", "1")
    assert one == sample("--prompt", "the c", "--seed", "1")
    assert one.startswith("the c") and len(one) == len("the c") + 40 + 1
    assert one != sample("--prompt", "the c", "--seed", "2")
    greedy = sample("--temperature", "0", "--seed", "1")
    assert greedy == sample("--top-k", "1", "--seed", "7")


def test_sample_draws_what_the_network_predicts(trained):
    """The frequency of first characters after a prompt against the softmax of one unroll."""
    import jax.numpy as jnp

    import rnnjax as rj
    from rnnjax.cli.sample import next_token

    loaded = load(trained)
    symbols = len(loaded.memory["symbols"])
    token = rj.data.Vocabulary(loaded.memory["symbols"]).encode("t")[0]
    x = jax.nn.one_hot(token, symbols) * jnp.sqrt(jnp.float32(symbols))
    carry = loaded.cell.initial_carry(loaded.params, x)
    want = jax.nn.softmax(loaded.cell(loaded.params, carry, x)[1] / 0.5)
    draw = lambda key: next_token(loaded.cell, symbols, 0.5, 0, loaded.params, carry, jnp.asarray(token), key)[1]
    drawn = jax.vmap(draw)(jax.random.split(jax.random.key(3), 4000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=symbols) / 4000, want, atol=0.03)


def command(*argv):
    return [sys.executable, "-m", "rnnjax", *map(str, argv)]


@pytest.fixture(scope="module")
def long_run(text_file, tmp_path_factory):
    """The flags of a run of a few seconds, and the folder of one left alone."""
    flags = ["--data", text_file, *SMALL[:-4], "--steps", 160, "--validate-every", 10, "--dropout", 0.2]
    flags += ["--accumulate", 3, "--average", 0.9]  # stopped in the middle of three batches
    out = tmp_path_factory.mktemp("long") / "alone"
    assert main(["train", "--out", str(out), *map(str, flags)]) == 0
    return flags, out


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_in_the_middle_and_resumed_equals_left_alone(how, long_run, tmp_path, capsys):
    """Metrics but the clock, and every parameter, bit for bit."""
    flags, alone = long_run
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("train", "--out", out, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while (
        not (out / "checkpoints" / "20" / "sha256.txt").exists()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.002)
    process.send_signal(how)
    said, errors = process.communicate(timeout=120)
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, errors
        assert f"Go on with: rnnjax train --out {out} --resume" in said
    assert len(lines_of(out)) < len(lines_of(alone))
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert lines_of(out) == lines_of(alone)
    mine, theirs = load(out), load(alone)
    assert jax.tree.all(jax.tree.map(np.array_equal, mine.params, theirs.params))
    assert (mine.step, mine.loss) == (theirs.step, theirs.loss)


def flip_a_byte(checkpoint):
    """In the middle of the largest file."""
    path = max(checkpoint.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("argv", [["eval"], ["sample", "--length", "3"], ["export", "--to", "stablehlo"]])
def test_a_damaged_checkpoint_is_never_used(argv, trained, tmp_path, capsys):
    """The one before is, with a warning that names the file; where none is whole, a sentence."""
    shutil.copytree(trained, tmp_path / "run")
    argv = [argv[0], str(tmp_path / "run"), *argv[1:]]
    path = flip_a_byte(tmp_path / "run" / "checkpoints" / "60")
    with pytest.warns(RuntimeWarning, match=f"going on from step 40, as .*{path.name} is not what was written"):
        assert main(argv) == 0
    path = flip_a_byte(tmp_path / "run" / "checkpoints" / "40")
    assert "is whole: " in fails(capsys, *argv)


@pytest.mark.slow
def test_a_warning_is_one_line(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    flip_a_byte(tmp_path / "run" / "checkpoints" / "60")
    done = subprocess.run(command("eval", tmp_path / "run"), capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("rnnjax: going on from step 40, as "), done.stderr
    assert done.stderr.count("\n") == 1


def test_default_folders_are_fresh_and_more_steps_go_on(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(text_file, "cat.txt")
    for n in (1, 2):
        assert main(["train", "--data", "cat.txt", *SMALL, "--steps", "5"]) == 0
        assert f"cat-lstm-{n}" in capsys.readouterr().out
    out = tmp_path / "rnnjax-runs" / "cat-lstm-2"
    monkeypatch.chdir(out)  # the data are found from anywhere
    assert main(["train", "--out", str(out), "--resume", "--steps", "12"]) == 0
    assert lines_of(out)[-1]["step"] == 12
    assert json.loads((out / "config.json").read_text())["settings"]["steps"] == 12


def test_a_run_that_stopped_early_goes_on_with_more_patience(tmp_path, capsys):
    """On a table that never changes nothing gets better, so that patience decides; the command says what to type next."""
    (tmp_path / "flat.csv").write_text("a,b\n" + "1,2\n" * 100)
    out = tmp_path / "run"
    flags = ["--hidden", "4", "--cell", "elman", "--steps", "40", "--validate-every", "2", "--patience", "2"]
    assert main(["train", "--data", str(tmp_path / "flat.csv"), "--out", str(out), *flags]) == 0
    said = capsys.readouterr().out
    assert re.search(r"this network \(step \d\) +0\.0000", said)  # a loss of exactly zero is a number like others
    stopped = int(re.search(r"Stopped at step (\d+): no better for a while", said)[1])
    assert stopped < 40 and "--resume --patience 4" in said
    assert main(["train", "--out", str(out), "--resume", "--patience", "4"]) == 0
    assert f"Stopped at step {stopped + 4}: no better for a while" in capsys.readouterr().out


# -- tables ------------------------------------------------------------------------------------------------------------


def write_table(path, rows=300, extra=""):
    t = np.arange(rows)
    wave, ramp = np.sin(2 * np.pi * t / 12), 0.01 * t
    lines = [f"2024-{i},{a:.6f},{b:.6f}" for i, (a, b) in enumerate(zip(wave, ramp))]
    path.write_text("day,wave,ramp\n" + "\n".join(lines) + "\n" + extra)
    return path


def test_table(tmp_path, capsys):
    """Numeric columns forecast, dates left out, baselines as computed here, a forecast in the columns' units."""
    path, out = write_table(tmp_path / "wave.csv"), tmp_path / "run"
    flags = ["--hidden", "16", "--steps", "200", "--validate-every", "50", "--cell", "gru"]
    assert main(["train", "--data", str(path), "--out", str(out), *flags]) == 0
    said = capsys.readouterr().out
    assert "left out as no numbers: day" in said and "season 12" in said
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 2))
    scaled = (values - values[:270].mean(0)) / values[:270].std(0)
    persistence = np.mean((scaled[270:] - scaled[269:-1]) ** 2)
    seasonal = np.mean((scaled[270:] - scaled[258:-12]) ** 2)
    assert f"{persistence:.4f}" in said and f"{seasonal:.4f}" in said
    best = min(line["mse"] for line in lines_of(out) if line.get("split") == "valid")
    assert best < persistence / 2
    assert main(["eval", str(out)]) == 0
    assert float(capsys.readouterr().out.split()[1]) == best
    assert main(["sample", str(out), "--length", "12"]) == 0
    header, *rows = capsys.readouterr().out.split()
    assert header == "wave,ramp" and len(rows) == 12
    ahead = np.array([[float(v) for v in row.split(",")] for row in rows])
    np.testing.assert_allclose(ahead[0], [0.0, 3.0], atol=0.4)  # the next values of wave and ramp
    assert "--prompt is for language models" in fails(capsys, "sample", out, "--prompt", "x")


def train_table(path, out, *flags):
    return main(["train", "--data", str(path), "--out", str(out), *flags])


QUICK = ["--hidden", "8", "--steps", "20", "--validate-every", "10", "--cell", "gru"]


def test_a_table_with_gaps_is_masked_and_counted(tmp_path, capsys):
    """What stands in place of a missing value changes no number; the baselines count what is there alone."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 2)).cumsum(0).round(2)
    gaps = rng.random((300, 2)) < 0.1
    cell = lambda v, gone: "" if gone else f"{v:.2f}"
    lines = [f"2024-{i},{cell(a, g)},{cell(b, h)}" for i, ((a, b), (g, h)) in enumerate(zip(values, gaps))]
    (tmp_path / "t.csv").write_text("day,a,b\n" + "\n".join(lines) + "\n")
    out = tmp_path / "run"
    assert train_table(tmp_path / "t.csv", out, *QUICK) == 0
    said = capsys.readouterr().out
    first = f"300 rows of a, b, left out as no numbers: day, {gaps.sum()} missing values masked"
    assert said.splitlines()[0] == first
    known = np.where(gaps, np.nan, values)
    scaled = (known - np.nanmean(known[:270], 0)) / np.nanstd(known[:270], 0)
    errors, last = [], np.zeros(2)
    for t, row in enumerate(scaled):
        if t >= 270:
            errors += list((row - last)[~np.isnan(row)] ** 2)
        last = np.where(np.isnan(row), last, row)
    assert f"persistence  {np.mean(errors):.4f}" in re.sub(r"persistence +", "persistence  ", said)
    assert main(["sample", str(out), "--length", "3"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "a,b" and len(rows) == 3 and all(re.fullmatch(r"-?\d+\.\d\d,-?\d+\.\d\d", row) for row in rows)


def test_missing_values_are_masked_in_input_and_loss():
    """By the loss itself: a gap's target has no weight, and junk in its place reaches neither loss nor gradient."""
    from rnnjax.cli.tables import scaled
    from rnnjax.data import Table

    values, missing = np.arange(40.0).reshape(20, 2) ** 1.5, np.zeros((20, 2), bool)
    missing[[3, 7, 8], [0, 1, 1]] = True
    table = lambda junk: Table(("a", "b"), np.where(missing, junk, values), missing, ())
    one, two = (scaled(table(junk), 18) for junk in (0.0, 100.0))
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_array_equal(one.inputs[:, 4:], missing)
    assert one.inputs[3, 0] == 0 and one.inputs[3, 2] == 0 and one.change[4, 0] > 0


def test_columns_that_do_not_change_and_large_ones(tmp_path, capsys):
    """A column constant in training keeps its own size; near 1e302 nothing overflows."""
    t = np.arange(300)
    still = np.where(t < 290, 0.1, 0.2)
    lines = [f"{s},{1e302 * (1 + np.sin(i / 5) / 2):.5e},{i % 12}" for i, s in zip(t, still)]
    (tmp_path / "t.csv").write_text("still,large,x\n" + "\n".join(lines) + "\n")
    assert train_table(tmp_path / "t.csv", tmp_path / "run", *QUICK) == 0
    valid = [line["mse"] for line in lines_of(tmp_path / "run") if line.get("split") == "valid"]
    assert all(np.isfinite(valid)) and min(valid) < 10
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "run"), "--length", "2"]) == 0
    first = [float(v) for v in capsys.readouterr().out.splitlines()[1].split(",")]
    assert 1e301 < first[1] < 1e303 and abs(first[0] - 0.2) < 0.1


def test_columns_that_do_not_change_leave_the_others_their_share_of_the_loss():
    """Beside three constants an error of half a step of x counts as much as the same of a constant, by the loss as it is defined."""
    from rnnjax.cli.tables import scaled
    from rnnjax.data import Table

    x = np.sin(np.arange(60.0) / 9)
    values = np.stack([x, *[np.full(60, c) for c in (7.0, 0.0, 1e6)]], 1)
    one = scaled(Table(("x", "a", "b", "c"), values, np.zeros((60, 4), bool), ()), 54)
    steps = np.diff((x - x[:54].mean()) / x[:54].std(), prepend=0)[1:54]
    np.testing.assert_allclose(one.step, np.sqrt(np.sum(steps**2) / 54), rtol=1e-12)
    assert (one.change[:, 1:] == 0).all()


def test_names_with_commas_are_quoted_and_options_reach_the_reader(tmp_path, capsys):
    """Thousands, percent, a header of years, a ``sep=`` line, UTF-16 and gz, a semicolon table named .txt."""
    import gzip

    rows = [f"{i}.000,5;{i % 12},25 %" for i in range(1, 61)]
    text = 'sep=;\n"a, b";share\n' + "\n".join(rows) + "\n"
    (tmp_path / "t.txt").write_bytes(gzip.compress(text.encode("utf-16")))
    flags = ["--thousands", ".", "--percent", "--sep", ";", *QUICK]
    assert train_table(tmp_path / "t.txt", tmp_path / "run", *flags) == 0
    assert capsys.readouterr().out.startswith("60 rows of a, b, share\n")
    assert main(["eval", str(tmp_path / "run")]) == 0
    assert main(["sample", str(tmp_path / "run"), "--length", "1"]) == 0
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert header == '"a, b",share' and re.fullmatch(r"\d+\.\d,\d+\.\d\d", row)
    (tmp_path / "years.txt").write_text("2019;2020\n" + "".join(f"{i},5;{i % 7}\n" for i in range(60)))
    assert train_table(tmp_path / "years.txt", tmp_path / "years", *QUICK) == 0
    assert capsys.readouterr().out.startswith("60 rows of 2019, 2020\n")


def test_a_text_in_another_encoding(tmp_path, capsys):
    import gzip

    text = "Grüße aus Köln, schön wär's. " * 40
    for name, raw in {
        "a.txt": text.encode("utf-16"),
        "b.txt.gz": gzip.compress(text.encode()),
        "c.txt": text.encode("cp1252"),
    }.items():
        (tmp_path / name).write_bytes(raw)
        encoding = ["--encoding", "cp1252"] if name == "c.txt" else []
        flags = [
            "--data",
            str(tmp_path / name),
            "--out",
            str(tmp_path / name[0]),
            *SMALL[:-4],
            "--steps",
            "2",
            *encoding,
        ]
        assert main(["train", *flags]) == 0
        assert f"{len(text):,} characters" in capsys.readouterr().out


def test_without_pandas_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    path = write_table(tmp_path / "wave.csv")
    assert 'pip install "rnnjax[data]"' in fails(capsys, "train", "--data", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def numbers_of(out):
    """The best held-out error of a run, and what the baselines and the forecast say."""
    return min(line["mse"] for line in lines_of(out) if line.get("split") == "valid")


def test_a_line_beats_persistence_and_goes_on(tmp_path, capsys):
    """``0, 1000, 2000, ...`` by the default command (fewer steps): nothing wraps from the end to the beginning."""
    (tmp_path / "line.csv").write_text("x\n" + "".join(f"{1000 * i}\n" for i in range(1000)))
    assert train_table(tmp_path / "line.csv", tmp_path / "run", "--steps", "300") == 0
    values = np.arange(1000.0)
    persistence = np.mean((1 / values[:900].std()) ** 2)
    assert numbers_of(tmp_path / "run") < persistence / 20
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "run"), "--length", "10"]) == 0
    ahead = [float(v) for v in capsys.readouterr().out.splitlines()[1:]]
    np.testing.assert_allclose(ahead, 1000 * np.arange(1000, 1010), rtol=3e-3)


@pytest.mark.slow
def test_trend_and_season_beat_persistence(tmp_path, capsys):
    """240 rows, a season of 12 beside a trend, the default command."""
    t = np.arange(240)
    (tmp_path / "t.csv").write_text("x\n" + "".join(f"{v:.4f}\n" for v in 0.05 * t + np.sin(2 * np.pi * t / 12)))
    assert train_table(tmp_path / "t.csv", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "season 12" in said
    persistence = float(re.search(r"persistence +([\d.]+)", said)[1])
    assert numbers_of(tmp_path / "run") < min(persistence / 10, 0.002)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"  \n \n", "is empty"),
        (b"a\0b" * 400, "is a binary file"),
        (b"\xfe\xfd" + b"abc" * 400, r"is not text in UTF-8 (byte 0xfe at place 0)"),
        (b"\x1f\x8b" + b"abc" * 400, "is a broken gzip file"),
        (b"too short", "is too short: it has 9 characters, at least 300 are needed"),
    ],
)
def test_bad_text(content, message, tmp_path, capsys):
    path = tmp_path / "data.txt"
    if content is not None:
        path.write_bytes(content)
    assert message in fails(capsys, "train", "--data", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "has a header and no rows"),
        ("a,b\n1,2\n", "is too short: it has 1 row of numbers"),
        ("a,b\n" + "x,y\n" * 50, "has no numeric column; its columns are a, b"),
        ("a,b\n" + "1,2\n" * 40 + "1,oops\n" + "1,2\n" * 40, "line 42: column 'b' is 'oops'"),
        ("a,b\n" + "1,2\n" * 40 + "1,inf\n", "line 42: column 'b' is 'inf'"),
        ("a,a\n" + "1,2\n" * 40, "has two columns named 'a'"),
        ("a,b\n" + "1,1\n" * 90 + "1,1e30\n", "column 'b' ends with values of another size than it begins with"),
        ("a,b\n" + "1,2\n" * 40 + "1\n", "line 42: has 1 fields where the first line has 2"),
        ("a\0,b\n" * 40, "is a binary file"),
    ],
)
def test_bad_table(content, message, tmp_path, capsys):
    path = tmp_path / "data.csv"
    path.write_text(content)
    assert message in fails(capsys, "train", "--data", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cell", "lstn"], "there is no cell 'lstn'; did you mean 'lstm'?"),
        (["--cell", "convlstm"], "--cell convlstm cannot be used on these data: ConvLSTM(256): x must be"),
        (["--hidden", "-3"], "argument --hidden: must be at least 1"),
        (["--layers", "0"], "argument --layers: must be at least 1"),
        (["--steps", "many"], "argument --steps: must be a whole number, got 'many'"),
        (["--seed", "-1"], "argument --seed: must be at least 0"),
        (["--rate", "nan"], "argument --rate: must be a positive number"),
        (["--dropout", "1"], "argument --dropout: must be a number of at least 0 and below 1"),
        (["--average", "1"], "argument --average: must be a number between 0 and 1, such as 0.999"),
        (["--accumulate", "3", "--steps", "2"], "--accumulate 3 makes no update in --steps 2; give more steps"),
        (["--members", "3"], "--members 3 networks vote on labels; it goes with --label"),
        (["--resume"], "--resume needs --out"),
        (["--cell", "nosuch"], "there is no cell 'nosuch'; the cells are antisymmetricrnn, atr,"),
        (["--bogus"], "rnnjax train: unrecognized arguments: --bogus (see rnnjax train --help)"),
        (
            ["--data", "https://example.com/book.txt"],
            "nothing is downloaded; save https://example.com/book.txt to a file",
        ),
    ],
)
def test_bad_flags(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "train", *flags)
    assert not list(tmp_path.iterdir())


def test_a_file_without_its_flag(text_file, capsys):
    assert f"data are given as --data {text_file} (see" in fails(capsys, "train", text_file)
    assert "--data" not in fails(capsys, "sample", "x", text_file)


def test_folders_are_not_harmed(trained, text_file, tmp_path, capsys):
    """An existing run needs a word, another one's folder is left alone, settings may not change under a run."""
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    assert "exists already; go on with it by --resume" in fails(capsys, "train", "--out", trained)
    assert "--hidden is 9 here and 8 in" in fails(capsys, "train", "--out", trained, "--resume", "--hidden", 9)
    assert "exclude each other" in fails(capsys, "train", "--out", trained, "--resume", "--overwrite")
    assert "does not exist" in fails(capsys, "train", "--out", trained, "--overwrite", "--data", tmp_path / "no.txt")
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert "--steps 5 is less than the 60 steps that" in fails(
        capsys, "train", "--out", trained, "--resume", "--steps", 5
    )
    for flags in ([], ["--overwrite"]):
        sentence = fails(capsys, "train", "--out", tmp_path / "mine", *flags)
        assert "'thesis.tex', which no run wrote" in sentence and "--resume" not in sentence
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"
    assert "is a file; give --out a folder" in fails(capsys, "train", "--out", text_file)
    for verb in ("sample", "eval"):
        assert "holds no run" in fails(capsys, verb, tmp_path)
    assert "holds no run" in fails(capsys, "train", "--out", tmp_path / "none", "--resume")
    assert "the model knows no 'Q'" in fails(capsys, "sample", trained, "--prompt", "Q")


def test_overwrite_replaces_a_run(trained, text_file, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    flags = [*SMALL, "--steps", "10", "--seed", "5", "--overwrite"]
    assert main(["train", "--data", str(text_file), "--out", str(out), *flags]) == 0
    assert [line["step"] for line in lines_of(out)] == [10, 10]


def test_a_checkpoint_of_another_shape(trained, tmp_path, capsys):
    """The settings say 12 features, the checkpoint has 8."""
    out = tmp_path / "run"
    edited(trained, out, hidden=12)
    for argv in (["sample", out], ["eval", out], ["train", "--out", out, "--resume"]):
        assert "of another shape" in fails(capsys, *argv)
    (out / "config.json").write_text("{")
    assert "cannot be read as the settings of a run" in fails(capsys, "eval", out)


def test_no_flip_in_the_settings_is_silent(trained, tmp_path, capsys):
    """Each is told, by whoever reads the file or once the command has done its work; or it changed no value."""
    whole, seen = (trained / "config.json").read_bytes(), {"refused": 0, "doubted": 0, "the same": 0}
    values = lambda content: [*json.loads(content).items()][1:]  # the digest comes first
    for at in range(0, len(whole), 7):
        (tmp_path / "config.json").write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 7]) + whole[at + 1 :])
        try:
            folders.read_config(tmp_path)
        except BadInput:
            seen["refused"] += 1
            continue
        told = folders.doubt(tmp_path)
        seen["doubted" if told else "the same"] += 1
        assert told or values((tmp_path / "config.json").read_bytes()) == values(whole)
    assert min(seen.values()) > 0 and seen["doubted"] > 20


def test_settings_that_were_edited(trained, tmp_path, capsys):
    """Told, with what to do, after all went well; without a digest, as of earlier versions, they are taken as they are."""
    out = tmp_path / "run"
    config = edited(trained, out, seed=7)
    assert main(["sample", str(out), "--length", "5"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and 'if you edited it and mean it, delete its line "sha256"' in said
    del config["sha256"]
    (out / "config.json").write_text(json.dumps(config))
    assert main(["sample", str(out), "--length", "5"]) == 0 and not capsys.readouterr().err


def test_changed_data_are_noticed(trained, tmp_path, capsys):
    out, path = tmp_path / "run", tmp_path / "cat.txt"
    path.write_text(TEXT.replace("cat", "cow"))
    edited(trained, out, data=str(path))
    for argv in (["eval", out], ["train", "--out", out, "--resume"]):
        assert "are not those that" in fails(capsys, *argv)


def test_unreadable_file_and_unwritable_folder(tmp_path, capsys):
    """Where even root may not: a folder as the file, and /proc as the place to write."""
    assert "is a folder" in fails(capsys, "train", "--data", tmp_path, "--out", tmp_path / "run")
    if Path("/proc/self").exists():
        assert "give another folder by --out" in fails(capsys, "train", "--out", "/proc/rnnjax-run")
    if os.geteuid() != 0:
        (tmp_path / "secret.txt").write_text(TEXT)
        (tmp_path / "secret.txt").chmod(0)
        assert "cannot be read" in fails(capsys, "train", "--data", tmp_path / "secret.txt")


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle(text_file, tmp_path, capsys):
    """File sizes limited while the run goes stand for a full disk: status 2, one sentence, and the run can go on."""
    out = tmp_path / "run"
    flags = ["train", "--data", str(text_file), "--out", str(out), *SMALL, "--validate-every", "5", "--hidden", "64"]
    script = f"""
import resource, sys
import rnnjax as rj
from rnnjax.cli import main, work
make = work.windows
def windows(*args):
    window = make(*args)
    def at(step):
        if step == 23:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        return window(step)
    at.fresh = window.fresh
    return at
work.windows = windows
sys.exit(main({flags!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rnnjax: cannot write the run: the disk is full; what was written before is kept"), last
    assert main(["train", "--out", str(out), "--resume"]) == 0
    steps = [line["step"] for line in lines_of(out) if "split" not in line]
    assert steps == [10, 20, 30, 40, 50, 60]


def test_help_suffices(capsys, monkeypatch):
    """Every command says what it takes, within the 80 columns of a plain terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    for argv in (["--help"], ["train", "--help"], ["sample", "--help"], ["eval", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        said = capsys.readouterr().out
        assert "usage: rnnjax" in said
        assert max(map(len, said.splitlines())) <= 80
        assert argv != ["--help"] or "rnnjax train --data book.txt" in said
    assert main([]) == 2  # the name alone: the same help
    assert "rnnjax train --data book.txt" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"rnnjax \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_bench_says_what_its_numbers_are(monkeypatch, capsys):
    """With one small cell in place of the three; equal gradients are asserted before anything is timed."""
    from rnnjax import bench

    rows, run = [], bench.run
    small = lambda **options: rows.extend(run(("elman",), ((4, 1, 2, 3),), **options))
    monkeypatch.setattr(bench, "run", small)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["bench", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    assert "Shape: time, batch, inputs, hidden" in said and max(map(len, said.splitlines())) <= 80
    (row,) = rows
    assert row["ratio"] == row["lax.scan"] / row["rnnjax"] and "4, 1, 2, 3" in said


def test_a_terminal_of_few_letters(trained, tmp_path, monkeypatch):
    """Letters that the output cannot show become ``?``."""
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    config = json.loads((out / "config.json").read_text())
    symbols = config["memory"]["symbols"]
    config["memory"]["symbols"] = symbols.replace("t", "\N{SNOWMAN}")
    (out / "config.json").write_text(json.dumps(config))
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["sample", str(out), "--length", "40"]) == 0
    assert b"?" in shown.buffer.getvalue()


@pytest.mark.slow
def test_the_default_run_reaches_its_target(tmp_path):
    """``rnnjax train`` alone: at most 1.9 bits per character within 120 seconds on two cores."""
    began = time.monotonic()
    subprocess.run(command("train", "--out", tmp_path / "run"), check=True)
    assert time.monotonic() - began < 120
    assert load(tmp_path / "run").loss / np.log(2) < 1.9

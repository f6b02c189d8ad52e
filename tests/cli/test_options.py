"""Every number on the command line is compared with its bounds; the list of options comes from the commands themselves."""

import dataclasses
import importlib
import os
import subprocess
import sys
import typing

import numpy as np
import pytest
from typer.testing import CliRunner

import steerax as sx
from steerax._bounds import Range
from steerax.cli import main as cli
from steerax.cli.answers import say
from steerax.cli.inputs import read_codes
from steerax.experiments.compare.config import Config
from steerax.transformer.tokenizer import CharTokenizer

TEXT = "the cat sat on the mat " * 30
BAD = ("nan", "inf", "-inf", "-1", "0", str(2**63), "1e400", "x", "")
# what must stand before the options of a command; none of these places is written
ARGUMENTS = {
    "compare": ["text.txt", "--out", "out"],
    "fit": ["text.txt", "--out", "out"],
    "predict": ["model", "text.txt"],
    "explain": ["model", "text.txt"],
    "forecast": ["model", "text.txt"],
    "train": ["text.txt", "--out", "out"],
    "sample": ["gpt"],
    "analyse": ["gpt", "--data", "text.txt", "--out", "out.html"],
    "beliefs": ["gpt", "mess3", "--out", "out.html"],
    "solve": ["parity", "--out", "out"],
    "classify": ["table.csv", "--out", "out"],
    "check": ["certificate"],
    "reproduce": ["layers", "--out", "out"],
}


def numbers_of(name):
    """(option, its bounds, whole) of every number of a command."""
    function = getattr(importlib.import_module(f"steerax.cli.{name}"), name)
    for kind in typing.get_type_hints(function.__wrapped__).values():
        if dataclasses.is_dataclass(kind):
            for field, hint in typing.get_type_hints(kind, include_extras=True).items():
                inner = [*typing.get_args(hint.__origin__), hint.__origin__] if hasattr(hint, "__origin__") else []
                if int in inner or float in inner:
                    bounds = [m for m in hint.__metadata__ if isinstance(m, Range)]
                    yield f"--{field.replace('_', '-')}", bounds, int in inner


OPTIONS = [(name, *rest) for name in ARGUMENTS for rest in numbers_of(name)]


def test_every_command_and_number_is_in_the_list():
    assert set(ARGUMENTS) == set(cli._COMMANDS)
    assert len(OPTIONS) > 50
    assert {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(Config) if "[int" in str(f.type)} <= {
        option for name, option, _, _ in OPTIONS if name == "compare"
    }
    assert not [(name, option) for name, option, bounds, _ in OPTIONS if len(bounds) != 1]


def _inside(bounds, text, whole):
    try:
        bounds.check("", int(text) if whole else float(text))
    except ValueError:
        return False
    return True


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize("name", ARGUMENTS)
def test_numbers_out_of_bounds_are_one_sentence_and_nothing_is_written(place, name, monkeypatch, capsys):
    tried = 0
    for command, option, (bounds,), whole in OPTIONS:
        for value in BAD if command == name else ():
            if not _inside(bounds, value, whole):
                monkeypatch.setattr(sys, "argv", ["steerax", name, *ARGUMENTS[name], option, value])
                with pytest.raises(SystemExit) as stopped:
                    cli.main()
                told = capsys.readouterr()
                assert stopped.value.code == 2, (option, value)
                assert option in told.err, (option, value, told.err)
                assert "Traceback" not in told.err
                assert not told.out
                tried += 1
    assert tried > 5
    assert [p.name for p in place.iterdir()] == ["text.txt"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_largest_numbers_that_are_allowed_are_an_answer_or_one_sentence(place):
    """In a process of its own with limited memory: a size of 10⁹ may be too much for the machine, and that is said."""
    sx.save(sx.models.random_hmm(0, 2, 30), "model")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2); from steerax.cli.main import main; main()"
    told = {}
    for name, option, (bounds,), whole in OPTIONS:
        if name in ("fit", "predict", "forecast", "explain") and option not in ("--iterations", "--seed"):
            value = str(int(bounds.high) if bounds.high < float("inf") else 2**62) if whole else "1e300"
            if not _inside(bounds, value, whole):
                continue
            more = ["--iterations", "1", "--overwrite"] if name == "fit" else []
            run = [sys.executable, "-c", limit, name, *ARGUMENTS[name], *more, option, value]
            done = subprocess.run(
                run, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            if done.returncode not in (0, 2) and not (
                done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("steerax: ")
            ):
                told[name, option, value] = done.returncode, done.stderr[-300:]
    assert not told


def test_what_would_control_a_terminal_is_shown(capsys):
    say("a\x1b]0;title\x07\x9b2J\u202eb\tc\nd\r")
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07\\x9b2J\\u202eb\tc\nd\\r\n"


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (OSError(28, "No space left on device", "/place"), 1, "/place: No space left"),
        (PermissionError(13, "Permission denied", b"caf\xe9"), 1, "Permission denied"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes."), 1, "not enough memory"),
        (UnicodeEncodeError("utf-8", "a", 0, 1, "surrogates not allowed"), 1, "encoding"),
        (
            sx.ConfigurationError('pass resume=True or on_impossible="skip".'),
            2,
            "pass --resume or --on-impossible skip.",
        ),
    ],
)
def test_what_fails_on_the_way_is_one_sentence(monkeypatch, capsys, error, code, part):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr().err
    assert stopped.value.code == code
    assert part in told
    assert told.count("\n") == 1
    monkeypatch.setenv("STEERAX_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main()


def test_a_fault_of_the_software_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_consoles_of_another_encoding_get_escapes():
    run = [
        sys.executable,
        "-c",
        "from steerax.cli.main import main; main()",
        "solve",
        "parity",
        "--n",
        "2",
        "--depth",
        "1",
    ]
    done = subprocess.run(run, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0, done.stderr
    assert rb"\u2264 errors" in done.stdout


def test_finished_work_is_not_replaced_unasked(place, monkeypatch, capsys):
    runs = CliRunner()
    fit = ["fit", "text.txt", "--states", "2", "--iterations", "2", "--restarts", "1", "--out", "m"]
    table = ["predict", "m", "text.txt", "--out", "t.csv"]
    solve = ["solve", "parity", "--n", "2", "--depth", "1", "--out", "s"]
    for line in (fit, table, solve):
        assert runs.invoke(cli.app, line).exit_code == 0
        before = {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()}
        again = runs.invoke(cli.app, line)
        assert isinstance(again.exception, sx.ConfigurationError)
        assert "exists already" in str(again.exception)
        assert {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()} == before
        assert runs.invoke(cli.app, [*line, "--overwrite"]).exit_code == 0


def test_a_folder_is_replaced_only_by_what_it_holds(place):
    """What is no part of an earlier solution or model is never removed, and the folder that one is in never replaced."""
    runs = CliRunner()
    solve = ["solve", "parity", "--n", "2", "--depth", "1", "--overwrite", "--out"]
    fit = ["fit", "text.txt", "--states", "2", "--iterations", "1", "--restarts", "1", "--overwrite", "--out"]
    (place / "mine").mkdir()
    (place / "mine" / "thesis.tex").write_text("years of work")
    for line in (solve, fit):
        for out, words in (("mine", "choose another place"), (".", "folder")):
            refused = runs.invoke(cli.app, [*line, out])
            assert isinstance(refused.exception, sx.SteeraxError)
            assert words in str(refused.exception)
    assert sorted(p.name for p in place.iterdir()) == ["mine", "text.txt"]
    assert [p.name for p in (place / "mine").iterdir()] == ["thesis.tex"]


def test_how_a_file_was_read_is_remembered_exactly(place, monkeypatch, capsys):
    """Also that nothing marks a gap; for a file of another kind, only what applies to it."""
    (place / "t.csv").write_text("s;token\n" + "x;NA\nx;b\ny;b\ny;NA\n" * 5)
    runs = CliRunner()
    fit = [
        "fit",
        "t.csv",
        "--states",
        "2",
        "--sequence",
        "s",
        "--missing",
        "",
        "--iterations",
        "2",
        "--restarts",
        "1",
        "--out",
        "m",
    ]
    assert runs.invoke(cli.app, fit).exit_code == 0
    assert sx.load("m").vocabulary.symbols == ("NA", "b")
    told = runs.invoke(cli.app, ["predict", "m", "t.csv"])
    assert told.exit_code == 0
    assert "2 sequences" in told.output
    assert "missing" not in told.output
    (place / "t.txt").write_text("bbb")
    assert runs.invoke(cli.app, ["predict", "m", "t.txt"]).exit_code == 0


def test_a_run_is_not_discarded_for_a_command_that_cannot_work(place):
    runs = CliRunner()
    line = [
        "train",
        "text.txt",
        "--steps",
        "2",
        "--layers",
        "1",
        "--heads",
        "1",
        "--width",
        "8",
        "--block",
        "8",
        "--batch",
        "2",
    ]
    assert runs.invoke(cli.app, [*line, "--out", "r"]).exit_code == 0
    kept = sorted(p.name for p in (place / "r").rglob("*"))
    (place / "empty.txt").write_text("")
    wrong = runs.invoke(cli.app, ["train", "empty.txt", "--out", "r", "--overwrite"])
    assert isinstance(wrong.exception, sx.SteeraxError)
    assert sorted(p.name for p in (place / "r").rglob("*")) == kept
    assert runs.invoke(cli.app, [*line, "--out", "r", "--overwrite"]).exit_code == 0


def test_texts_of_other_encodings_and_files_of_other_numbers(place):
    runs = CliRunner()
    for encoding in ("utf-8-sig", "utf-16"):
        (place / "o.txt").write_bytes(TEXT.encode(encoding))
        tokens, tokenizer = read_codes("o.txt", CharTokenizer.of)
        assert tokenizer.decode(tokens.tolist()) == TEXT
    for array in (np.zeros(50), np.array(["a"] * 50), np.zeros((), int)):
        np.save(place / "c.npy", array)
        wrong = runs.invoke(cli.app, ["train", "c.npy", "--vocabulary", "3", "--out", "r"])
        assert isinstance(wrong.exception, sx.DataError)
        assert "whole numbers" in str(wrong.exception)

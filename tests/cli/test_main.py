"""The command line answers misuse with one sentence and leaves nothing behind."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from steerax.cli.main import main


def call(monkeypatch, capsys, *arguments):
    """(exit code, stdout, stderr) of one command, in this process."""
    monkeypatch.setattr(sys, "argv", ["steerax", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    text = capsys.readouterr()
    return code, text.out, text.err


def write_inputs(folder):
    """Files that nobody can compare anything on."""
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin.txt").write_bytes("déjà vu ".encode("latin-1") * 50)
    (folder / "single.txt").write_text("a")
    (folder / "gaps.csv").write_text("token,s\n" + "a,1\nb,1\n" * 30 + ",2\n,2\n")
    np.save(folder / "negative.npy", np.array([0, 1, -5, 1]))
    (folder / "real.csv").write_text("token\n0.5\n1.5\n")
    (folder / "folder.txt").mkdir()


BAD = [
    (["nowhere.txt"], "no file"),
    (["empty.txt"], "empty"),
    (["latin.txt"], "UTF-8"),
    (["single.txt"], "two tokens"),
    (["gaps.csv", "--sequence", "s"], "sequence 2 has no observed"),
    (["negative.npy"], "-5"),
    (["real.csv"], "0.5"),
    (["gaps.csv", "--tokens", "word"], "no column 'word'"),
    (["folder.txt"], "directory"),
    (["two-cycles"], "not a known source"),
    (["two-cycle", "--states", "0"], "--states is 0; it must be a whole number from 1"),
    (["two-cycle", "--length", "1"], "--length"),
    (["two-cycle", "--held-out", "1.5"], "--held-out"),
    (["two-cycle", "--reference", "bigram"], "--reference"),
    (["two-cycle", "--width", "7", "--heads", "2"], "multiple"),
    (["two-cycle", "--report-only"], "no unfinished"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_rejects_bad_input_with_one_sentence_and_no_file(arguments, words, tmp_path, monkeypatch, capsys):
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, err = call(monkeypatch, capsys, "compare", *arguments, "--out", "result")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "result").exists()


def test_misuse_ends_with_exit_code_two(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "compare", "--no-such-option")[0] == 2
    assert call(monkeypatch, capsys, "no-such-command")[0] == 2


def test_every_command_has_help_with_an_example(monkeypatch, capsys):
    _, out, _ = call(monkeypatch, capsys, "--help")
    commands = [
        line.split()[0] for line in out.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "
    ]
    assert "compare" in commands
    for command in commands:
        code, out, _ = call(monkeypatch, capsys, command, "--help")
        assert code == 0
        assert f"steerax {command}" in out.replace("\n", " "), command
        assert "Example" in out or "example" in out, command


def test_help_answers_without_importing_jax():
    code = "import sys; sys.argv = ['steerax', '--help']\nfrom steerax.cli.main import main\ntry:\n main()\nexcept SystemExit: pass\nassert 'jax' not in sys.modules"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert time.perf_counter() - started < 5  # 0.3 s on an idle machine


def test_compiled_functions_are_kept_where_that_is_possible(tmp_path, monkeypatch):
    from steerax.cli.main import _keep_compiled

    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    _keep_compiled()
    assert not any(name in os.environ for name in names)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _keep_compiled()
    assert os.environ[names[0]] == str(tmp_path / "steerax" / "compiled")
    monkeypatch.setenv(names[0], "chosen by the user")
    _keep_compiled()
    assert os.environ[names[0]] == "chosen by the user"


def test_a_cache_that_has_grown_large_is_emptied(tmp_path, monkeypatch):
    from steerax.cli.main import _keep_compiled

    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "steerax" / "compiled"
    folder.mkdir(parents=True)
    for size, left in ((9 * 10**8, True), (2 * 10**9, False)):
        with open(folder / "large", "wb") as file:
            file.truncate(size)  # sparse
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        _keep_compiled()
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        assert (folder / "large").exists() == left

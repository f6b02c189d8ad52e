"""What the documentation and the help texts show can be typed: code runs in order and twice, commands parse and run."""

import ast
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import gpt_twin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

import steerax as sx
from steerax.cli.main import _COMMANDS, app, main

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
TEXT = "The import statement: a cat sat on the mat. A dog ran to the cat, and the cat ran.\n" * 50


def fenced(page):
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands_of(page):
    lines = [line for language, text in fenced(page) if language != "python" for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("steerax ")]


def examples():
    """The commands after "Example:" in the help texts."""
    texts = [getattr(importlib.import_module(f"steerax.cli.{name}"), name).__doc__ or "" for name in _COMMANDS]
    return [line for text in texts for line in re.findall(r"`(steerax [^`]*)`", text.split("Example:")[-1])]


COMMANDS = sorted({*(c for page in PAGES for c in commands_of(page)), *examples()})


# what makes a command small enough for a test; those without an entry run as they stand
SMALL = {
    "train": ["--steps", "2", "--layers", "1", "--heads", "1", "--width", "8", "--block", "8", "--batch", "2"],
    "compare": ["--quick", "--samples", "8"],
    "reproduce": ["--quick"],
    "fit": ["--iterations", "3"],
}
# every one of these takes minutes even so; experiments and data of this size have tests of their own
ONLY_PARSED = (
    "pydoc --states",
    "reproduce all",
    "steerax train pydoc",
    "reproduce weights",
    "--tokenizer bpe",
    "'sns(0.5",
    "compare two-cycle",
)


def run(line, monkeypatch, *more):
    words = shlex.split(line, comments=True)
    options = {option for p in typer.main.get_command(app).commands[words[1]].params for option in p.opts}
    # the commands of all pages run in one folder
    monkeypatch.setattr(sys, "argv", [*words, *more, *(["--overwrite"] if "--overwrite" in options else [])])
    monkeypatch.setattr(sys, "exit", lambda code=0: pytest.fail(f"{line}: exit code {code}") if code else None)
    main()


def write_files(folder, monkeypatch):
    """What pages and examples speak of, in small."""
    for name in ("text.txt", "book.txt", "corpus.txt"):
        (folder / name).write_text(TEXT)
    labels = "".join(f"s{i % 3},p{i // 40},{i % 2},{'xy'[i % 2]},{1 + i % 4}\n" for i in range(120))
    (folder / "returns.csv").write_text(
        "close\n" + "".join(f"{x:.4f}\n" for x in np.random.default_rng(1).normal(size=80))
    )
    (folder / "table.csv").write_text("state,patient,a,class,count\n" + labels)
    (folder / "process.json").write_text(
        '{"transition": [[0.9, 0.1], [0.2, 0.8]], "emission": [[0.7, 0.3], [0.1, 0.9]]}'
    )
    for place, V in (("runs/mine/model", 2), ("compare/rrxor/gpt", 2), ("compare/mess3/gpt", 3)):
        sx.save_gpt(sx.GPT(sx.GPTConfig(V, 32, 1, 1, 8), key=0), folder / place)
    strings = np.asarray(sx.sample(sx.models.mess3(), 0, 8, number=64)[1])
    np.save(folder / "strings.npy", strings)
    np.savez(folder / "captured.npz", layer=np.random.default_rng(0).normal(size=(*strings.shape, 4)))
    np.arange(4000, dtype="<u2").__mod__(27).tofile(folder / "tokens.bin")
    run("steerax train text.txt --layers 6 --heads 2 --width 64 --block 16 --steps 2 --out runs/pydoc", monkeypatch)
    run("steerax fit text.txt --states 2 --iterations 3 --out runs/text-hmm", monkeypatch)


def given(page):
    """The names and files that a page takes as given."""
    rows = np.random.default_rng(0).integers(0, 10, (16, 16))
    if page.name == "README.md":
        return {"sunspots": _sunspots()}
    if page.name == "depth.md":
        import optax

        key = jax.random.key(0)
        return {
            "tokens": rows,
            "rows": rows,
            "probe": rows,
            "data": rows.ravel(),
            "steps": 2,
            "key": key,
            "optimizer": optax.adamw(1e-3),
        }
    if page.name == "transformer.md":
        state = gpt_twin.random_state(V=27, T=16, dtype=np.float32)
        gpt_twin.write_hugging_face(Path("gpt2"), state)
        save_file(state, "ckpt.safetensors")
        return {"reference_logits": 0.0}
    return {}


def _sunspots():
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels (extra `bench`) is absent")
    return np.asarray(sm.datasets.sunspots.load_pandas().data.SUNACTIVITY, float)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(lang == "python" for lang, _ in fenced(p))], ids=lambda p: p.stem
)
def test_code_of_a_page_runs_in_order_and_twice(page, tmp_path, monkeypatch):
    first, second = (run_code(page, tmp_path / name, monkeypatch) for name in ("first", "second"))
    assert first
    assert first.keys() == second.keys()
    for name, numbers in first.items():
        np.testing.assert_array_equal(numbers, second[name], err_msg=name)


def run_code(page, folder, monkeypatch):
    """The numbers of every value that the page shows or names, after its code has run; those that are shown are finite."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_files(folder, monkeypatch)
    names, kept = given(page), {}
    for language, text in fenced(page):
        if language == "python":
            if importlib.util.find_spec("torch") is None:
                text = "".join(line for line in text.splitlines(True) if "needs torch" not in line)
            for statement in ast.parse(text).body:
                source = ast.unparse(statement)
                if isinstance(statement, ast.Expr):
                    shown = names["_"] = eval(source, names)
                    kept[source] = numbers_of(shown)
                    assert np.isfinite(kept[source]).all(), source
                else:
                    exec(source, names)
    return kept | {name: numbers_of(value) for name, value in names.items() if name != "__builtins__"}


def numbers_of(value):
    """Leaves that are numbers, end to end; those of seconds and bytes are not the same twice."""
    leaves = [
        np.asarray(leaf) for leaf in jax.tree.leaves(value) if isinstance(leaf, float | np.ndarray) or _is_array(leaf)
    ]
    return np.concatenate([np.ravel(a) for a in leaves if a.dtype.kind in "fiu"] or [np.zeros(0)])


def _is_array(leaf):
    """Whether a leaf is an array of JAX, other than keys."""
    return isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_that_are_shown_parse(line):
    _, name, *arguments = shlex.split(line, comments=True)
    group = typer.main.get_command(app)
    command = group.commands[name]
    context = command.make_context(name, list(arguments))
    for option in command.params:
        if isinstance(option, typer.core.TyperOption) and set(option.opts) & set(arguments):
            assert context.get_parameter_source(option.name).name == "COMMANDLINE", option.name
            if not option.is_flag and not option.multiple:
                at = max(arguments.index(o) for o in option.opts if o in arguments) + 1
                text, value = arguments[at], context.params[option.name]
                if option.nargs > 1:
                    assert value == tuple(arguments[at : at + option.nargs]), option.name
                    continue
                assert str(value) == text or float(value) == float(text), option.name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_that_are_shown_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, monkeypatch)
    lines = [line for page in PAGES for line in commands_of(page)] + examples()
    # each once, in the order of the pages, whatever its comment
    for words in dict.fromkeys(tuple(shlex.split(line, comments=True)) for line in lines):
        line = shlex.join(words)
        if not any(part in line for part in ONLY_PARSED):
            run(line, monkeypatch, *SMALL.get(words[1], []))
            assert capsys.readouterr().out, line

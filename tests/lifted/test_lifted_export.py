"""Exported networks run without the library and agree with it; the command line."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mutants import changed_json, refusal
from typer.testing import CliRunner

from steerax import ConfigurationError, DataError
from steerax.lifted import R1, Certificate, alphabet, check, classes, read_table, solve, tasks
from steerax.lifted.certificate.export import (
    RUNNER,
    c_header,
    pack_trits,
    unpack_trits,
    weights_from_bytes,
    weights_to_bytes,
    write_network,
)
from steerax.lifted.problem.r1 import Layer
from steerax.transformer.quantized import QuantizedNetwork


def general_network(causal, weights):
    """Two heads and a neuron, position-wise labels."""
    C = 2
    stages = [*classes.attention_stages(C, weights, heads=2, causal=causal), classes.neuron_stage(C)]
    steps = tuple(s for stage, a in zip(stages, (8, 2, 25), strict=True) for s in stage[a].steps)
    return QuantizedNetwork(classes.embed_levels(4, 3, C), steps, np.array([1, 0, 2, 1, 0]), "all", "general")


@pytest.fixture(scope="module")
def networks():
    return [
        (solve(tasks.palindrome(4), 1).network, tasks.all_strings(4)),
        (general_network(True, alphabet.softmax_attention(1.0, 8)), np.random.default_rng(0).integers(0, 3, (40, 4))),
        (general_network(False, None), np.random.default_rng(1).integers(0, 3, (40, 4))),
    ]


def lines(labels):
    return [[int(v) for v in np.atleast_1d(row)] for row in labels]


def test_the_runner_needs_numpy_only_and_agrees(networks, tmp_path):
    for number, (network, tokens) in enumerate(networks):
        folder = tmp_path / str(number)
        write_network(network, folder)
        source = "\n".join(" ".join(map(str, row)) for row in tokens.tolist())
        done = subprocess.run(
            [sys.executable, "-I", folder / "run_network.py"], input=source, capture_output=True, text=True, check=True
        )
        assert [[int(v) for v in line.split()] for line in done.stdout.splitlines()] == lines(network(tokens))
        assert "steerax" not in (folder / "run_network.py").read_text()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_header_agrees(networks, tmp_path):
    for network, tokens in networks:
        n, count = tokens.shape[1], 1 if network.reads == "first" else tokens.shape[1]
        (tmp_path / "network.h").write_text(c_header(network))
        (tmp_path / "main.c").write_text(
            '#include <stdio.h>\n#include "network.h"\n'
            f"int main(void) {{ int t[{n}], y[{count}];\n"
            f'  for (;;) {{ for (int i = 0; i < {n}; i++) if (scanf("%d", t + i) != 1) return 0;\n'
            f'    steerax_labels(t, y); for (int i = 0; i < {count}; i++) printf("%d ", y[i]); printf("\\n"); }} }}\n'
        )
        command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "main.c", "-o", "main"]
        subprocess.run(command, cwd=tmp_path, check=True)
        source = " ".join(map(str, tokens.ravel().tolist()))
        done = subprocess.run([tmp_path / "main"], input=source, capture_output=True, text=True, check=True)
        assert [[int(v) for v in line.split()] for line in done.stdout.splitlines()] == lines(network(tokens))


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A network of a table with names, and the folder of its files."""
    folder = tmp_path_factory.mktemp("named")
    rows = [f"{a},{b},{'yes' if a == b else 'no'}" for a in ("hi", "lo", 'é"x') for b in ("hi", "lo", 'é"x')]
    (folder / "t.csv").write_text("a;b;label\n" + "\n".join(rows).replace(",", ";").replace('é"x', '"é""x"') + "\n")
    solution = solve(read_table(folder / "t.csv"), 1)
    solution.save(folder / "certificate")
    network = Certificate.load(folder / "certificate").network
    write_network(network, folder)
    return network, folder


def test_names_go_with_the_network(named):
    network, folder = named
    assert network.symbols == ("hi", "lo", 'é"x')
    assert network.classes == ("no", "yes")
    again = QuantizedNetwork.from_dict(json.loads((folder / "network.json").read_text()))
    assert (again.symbols, again.classes) == (network.symbols, network.classes)
    run = lambda text: subprocess.run(
        [sys.executable, "-I", folder / "run_network.py"], input=text, capture_output=True, text=True
    )
    right = [network.classes[label] for label in network(np.array([[0, 0], [0, 2], [2, 1]]))]
    assert run('hi hi\n\nhi é"x\né"x,lo\n').stdout.split() == right
    assert run("hi, lo\n").stdout.split() == run("hi lo\n").stdout.split() != []
    for text in ("hi 1\n", "hi\n", "hi hi hi\n", "-1 hi\n"):
        done = run(text)
        assert done.returncode == 1
        assert done.stderr.startswith("line 1 has")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("token", [-1, 3, 2**31, -(2**40), 1.5])
def test_exported_networks_refuse_unknown_tokens(named, token):
    runner = {}
    exec(RUNNER.split("if __name__")[0], runner)
    with pytest.raises(ValueError, match=r"knows the tokens|whole numbers"):
        runner["run"](json.loads((named[1] / "network.json").read_text()), np.array([[0, token]]))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_header_refuses_unknown_tokens_and_has_names(named):
    network, folder = named
    (folder / "main.c").write_text(
        '#include <stdio.h>\n#include "network.h"\nint main(void) { int y[1] = {7}, bad[4] = {-1, 3, 2147483647, -2147483647 - 1};\n'
        "  for (int i = 0; i < 4; i++) { int t[2] = {0, bad[i]}; if (steerax_labels(t, y) != 2 || y[0] != 7) return 1; }\n"
        "  int t[2] = {0, 2}; if (steerax_labels(t, y) != 0) return 2; puts(steerax_class(y[0])); puts(steerax_symbol(2)); return 0; }\n"
    )
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "main.c", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run([folder / "main"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.split("\n")[:2] == [network.classes[network(np.array([[0, 2]]))[0]], 'é"x']


def test_names_that_are_too_few_are_refused_and_a_single_one_is_none(named, tmp_path):
    network, _ = named
    for few in ({"symbols": ("hi",)}, {"classes": ("no",)}):
        with pytest.raises(ConfigurationError, match="where it needs"):
            dataclasses.replace(network, **few)
    (tmp_path / "t.csv").write_text("a,b,label\nx,x,yes\n")
    problem = read_table(tmp_path / "t.csv")
    assert (problem.symbols, problem.classes) == (None, None)
    assert solve(problem, 1).network(np.array([[0, 0]])).shape == (1,)


@pytest.mark.filterwarnings("ignore")
def test_network_files_that_were_changed_are_read_or_refused(named):
    rng, content = np.random.default_rng(0), (named[1] / "network.json").read_text()
    told = [refusal(QuantizedNetwork.from_dict, changed_json(json.loads(content), rng)) for _ in range(400)]
    assert sum(sentence is not None for sentence in told) > 150


def test_trits_round_trip_to_the_same_function():
    rng = np.random.default_rng(0)
    for k in range(12):
        trits = rng.integers(-1, 2, k)
        assert unpack_trits(pack_trits(trits), k).tolist() == trits.tolist()
        assert len(pack_trits(trits)) == -(-k // 5)
    solution = solve(tasks.parity(4), 2)
    packed = weights_to_bytes(R1(4), solution.weights)
    assert len(packed) == 15  # 26 trits in six bytes, behind a head of nine
    model, weights = weights_from_bytes(packed)
    tokens = tasks.all_strings(4)
    assert (model.network(weights)(tokens) == solution.network(tokens)).all()


def test_rejects_foreign_bytes_and_matrices():
    weights = solve(tasks.parity(2), 1).weights
    packed = weights_to_bytes(R1(2), weights)
    for damaged in (b"no", packed[:-1], packed + b"x"):
        with pytest.raises(DataError, match="packed ternary"):
            weights_from_bytes(damaged)
    foreign = weights._replace(layers=(Layer(((7, 1), (1, 3)), weights.layers[0].V),))
    with pytest.raises(ConfigurationError, match="no product"):
        weights_to_bytes(R1(2), foreign)


def invoke(*arguments):
    import typer

    from steerax.cli.solve import solve as command

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_solves_checks_and_writes(tmp_path):
    done = invoke("parity", "--n", "3", "--depth", "1", "--check", "full", "--json", "--out", str(tmp_path / "o"))
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["status"] == "proven"
    certificate = Certificate.load(tmp_path / "o" / "certificate")
    assert check(certificate).level == "full"
    assert check(certificate, "witness").level == "witness"
    text = invoke("parity", "--n", "3", "--depth", "1").stdout
    assert f"{record['value']} of 8 wrong (proven)" in text
    assert "Example: `steerax solve parity" in invoke("--help").stdout


def test_the_command_reads_tables_and_refuses_nonsense(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n0,1,1\n1,0,0\n")
    assert "0 of 2 wrong (proven)" in invoke(str(path), "--depth", "1").stdout
    assert isinstance(invoke("nonsense").exception, ConfigurationError)

"""What ships computes what was searched: every test as integer tables, exports in NumPy and C99, certificates."""

import functools
import json
import shutil
import subprocess
import sys

import attention_twin as twin
import numpy as np
import pytest
from test_classifier_search import problem_of, random_problem, sequences

import steerax as sx
from steerax import CheckpointError
from steerax.lifted.classifier.certificate import (
    ClassifierCertificate,
    ClassifierCertificateError,
    enumerate_in_c,
)
from steerax.lifted.classifier.contexts import KINDS, Context, contexts_of
from steerax.lifted.classifier.heads import FAMILIES, Shape, Sight, column
from steerax.lifted.classifier.heads import tests_of as heads_of
from steerax.lifted.classifier.network import build_network, with_reader
from steerax.lifted.classifier.problem import labels_of
from steerax.lifted.classifier.search import search
from steerax.transformer.quantized import QuantizedNetwork

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def ragged_codes(V=2, n=3):
    rows = [row[:m] for m in range(n + 1) for row in twin.all_rows(V, m)]
    return np.array([[*row, *[V] * (n - len(row))] for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_every_test_is_a_network_of_integer_tables(kind):
    V, n = 2, 3
    codes = ragged_codes(V, n)
    codes = np.concatenate([codes, np.where(codes == 1, V + 1, codes)])  # a name that training did not show
    shape = Shape(n, V, True, False, FAMILIES)
    for context in contexts_of([kind], n, V, False):
        sight = Sight(context, V, codes)
        for head in heads_of(context, shape)[:: 3 if kind == "pair" else 1]:
            network = build_network(context, (head, 1, 0), shape)
            assert (network(with_reader(codes, V)) == column(head, sight)).all(), head


def random_tree(rng, heads, depth, K):
    if depth == 0 or rng.random() < 0.15:
        return int(rng.integers(K))
    head = heads[rng.integers(len(heads))]
    return head, random_tree(rng, heads, depth - 1, K), random_tree(rng, heads, depth - 1, K)


def test_whole_networks_answer_as_their_trees():
    rng, V, n = np.random.default_rng(0), 2, 3
    codes, shape = ragged_codes(V, n), Shape(n, V, True, False, FAMILIES)
    for context in contexts_of("all", n, V, False):
        heads = [*heads_of(Context("none"), shape), *heads_of(context, shape)]
        for _ in range(6):
            tree = random_tree(rng, heads, 3, 4)
            network = build_network(context, tree, shape)
            again = QuantizedNetwork.from_dict(json.loads(json.dumps(network.to_dict())))
            expected = labels_of(tree, Sight(context, V, codes))
            assert (network(with_reader(codes, V)) == expected).all()
            assert (again(with_reader(codes, V)) == expected).all()


def fitted(**arguments):
    X, y = sequences(200, 3, 6)
    rows = [[f"t{v}" for v in row[: 6 if i % 3 else 4]] for i, row in enumerate(X)]
    return sx.OptimalAttentionClassifier(**arguments).fit(rows, np.array(["no", "yes"])[y]), rows


@needs_compiler
def test_exported_files_answer_alike(tmp_path):
    model, rows = fitted(contexts=["last", "back:1"])
    model.export(tmp_path / "out")
    names = model.network_.symbols
    lines = [",".join(["<read>", *row, *["<nothing>"] * (6 - len(row))]) for row in rows]
    command = [sys.executable, "-I", tmp_path / "out" / "run_network.py"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    assert done.stdout.split() == model.predict(rows).tolist()
    (tmp_path / "out" / "main.c").write_text(
        '#include <stdio.h>\n#include "network.h"\nint main(void) { int t[7], y = 0; for (;;) {\n'
        '  for (int i = 0; i < 7; i++) if (scanf("%d", t + i) != 1) return 0;\n'
        '  steerax_labels(t, &y); printf("%s\\n", steerax_class(y)); } }\n'
    )
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror", "-O1", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path / "out", check=True)
    source = " ".join(map(str, model.tokens(rows).ravel().tolist()))
    done = subprocess.run([tmp_path / "out" / "main"], input=source, capture_output=True, text=True, check=True)
    assert done.stdout.split() == model.predict(rows).tolist()
    assert (tmp_path / "out" / "rule.txt").read_text() == model.rule_ + "\n"
    assert names[-3:] == ("<nothing>", "<other>", "<read>")


@needs_compiler
def test_the_program_in_c_gives_the_optimum_of_plain_enumeration():
    for seed in range(6):
        problem = random_problem(np.random.default_rng(seed), 1 + seed % 3, 10)
        assert enumerate_in_c(problem) == twin.optimum(problem, functools.partial(heads_of, shape=problem.shape)), seed


@needs_compiler
def test_the_program_in_c_agrees_with_the_search():
    for contexts in ("all", "auto"):
        problem = problem_of(*sequences(150, 3, 6), 2, contexts=contexts, sample_weight=np.arange(150) % 4 + 1)
        assert enumerate_in_c(problem) == search(problem).upper


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("seed", range(12))
def test_the_program_in_c_agrees_with_the_search_at_depth_three(seed):
    rng = np.random.default_rng(seed)
    X, y = sequences(80, 2 + seed % 2, 4, noise=(0.05, 0.3, 1)[seed % 3], seed=seed)
    y = y + (X[:, 0] == 1) * (seed % 4 == 1)  # three classes
    weights = rng.integers(1, 9, 80) if seed % 2 else None
    problem = problem_of(X, y, 3, (0, 0.01, 0.03)[seed % 3], contexts=["last", "repeat"], sample_weight=weights)
    assert enumerate_in_c(problem) == search(problem).upper


@needs_compiler
def test_a_certificate_is_claimed_until_it_is_checked(tmp_path):
    model, _ = fitted()
    certificate = model.certificate_
    assert certificate.status == "proven"
    certificate.save(tmp_path / "c")
    read = ClassifierCertificate.load(tmp_path / "c")
    assert read.status == "claimed"
    assert "was not checked" in read.check("witness").statement
    assert read.status == "claimed"
    assert f"below {read.lower}; the least is {read.lower}" in read.check().statement
    assert read.status == "proven"


def forge(folder, **changes):
    """A certificate with other fields and a hash that fits."""
    from steerax.runs.files import content_hash

    record = json.loads((folder / "certificate.json").read_text()) | changes
    record["record"] = content_hash({name: value for name, value in record.items() if name != "record"})
    (folder / "certificate.json").write_text(json.dumps(record))


@needs_compiler
def test_forged_certificates_are_refused(tmp_path):
    model, _ = fitted()
    model.certificate_.save(tmp_path / "c")
    original = json.loads((tmp_path / "c" / "certificate.json").read_text())
    upper = original["upper"]
    forge(tmp_path / "c", upper=upper - 1, lower=upper - 1)
    with pytest.raises(ClassifierCertificateError, match=f"has the objective {upper}, and not"):
        ClassifierCertificate.load(tmp_path / "c").check("witness")
    totals = np.array(original["costs"]).sum(0)
    tree, total = int(totals.argmin()), int(totals.min())
    forge(tmp_path / "c", tree=tree, context=["none", 0, 0], upper=total, lower=total)
    ClassifierCertificate.load(tmp_path / "c").check("witness")  # a worse network, and a lower bound that is too high
    with pytest.raises(ClassifierCertificateError, match="do not hold the least objective"):
        ClassifierCertificate.load(tmp_path / "c").check("full")


def test_altered_and_malformed_certificates_are_refused(tmp_path):
    model, _ = fitted()
    for number, changes in enumerate(
        [
            {"depth": 4}, {"upper": -1}, {"price": "1"}, {"codes": [[0]]}, {"context": ["back", 9, 0]}, {"tree": 7},
            {"tree": [["count", ["token", 9, 0], 1], 0, 1]}, {"lower": 10**9}, {"shape": [1, 2]}, {"kind": "other"},
        ]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        model.certificate_.save(folder)
        forge(folder, **changes)
        with pytest.raises(CheckpointError):
            ClassifierCertificate.load(folder)
    model.certificate_.save(tmp_path / "c")
    text = (tmp_path / "c" / "certificate.json").read_text()
    (tmp_path / "c" / "certificate.json").write_text(text.replace('"lower": ', '"lower": 1', 1))
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        ClassifierCertificate.load(tmp_path / "c")

"""Certificates survive files and checks; altered ones do not."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from lifted_oracles import best_last_layer

from steerax import CheckpointError, ConfigurationError
from steerax.lifted import R1, Certificate, CertificateError, Problem, check, solve, tasks
from steerax.lifted.certificate.check import _closed_under_swap, embedded, exact_label, is_quick
from steerax.lifted.certificate.exhaustive import fewest_errors
from steerax.lifted.problem.alphabet import score_matrices, ternary
from steerax.lifted.problem.r1 import Layer, Readout, Weights
from steerax.lifted.search.tables import closed_under_swap
from steerax.runs.files import content_hash


def small(task, depth, number=150):
    problem = task(4)
    model = R1(4, matrices=score_matrices()[::number], rows=ternary(2)[::2])
    return solve(dataclasses.replace(problem, model=model), depth, backend="numpy")


@pytest.fixture(scope="module")
def certificates():
    return [small(tasks.parity, depth) for depth in (1, 2, 3)]


@pytest.mark.parametrize("level", ["witness", "sample", "full"])
def test_certificates_pass_all_levels_after_a_round_trip(certificates, level, tmp_path):
    for certificate in certificates:
        certificate.save(tmp_path / "c", overwrite=True)
        loaded = Certificate.load(tmp_path / "c")
        assert loaded.weights == certificate.weights
        assert (loaded.lower, loaded.upper, loaded.status) == (certificate.lower, certificate.upper, "claimed")
        assert certificate.status == "proven"
        assert check(loaded, level, samples=20).level == level
        what = {1: "", 2: "listed bounds", 3: "networks behind"}[certificate.depth] if level == "sample" else ""
        assert what in check(loaded, level, samples=20).statement
        covered = level == "full" or (level == "sample" and certificate.depth == 1)
        assert loaded.status == ("proven" if covered else "claimed")


def test_the_checkers_last_layer_equals_the_search(certificates):
    assert best_last_layer(embedded(certificates[0].problem), certificates[0].problem) == certificates[0].upper


def altered(certificate, **changes):
    return dataclasses.replace(certificate, **changes)


def test_a_wrong_number_of_errors_is_found(certificates):
    with pytest.raises(CertificateError, match="errors, not"):
        check(altered(certificates[1], upper=certificates[1].upper + 1))
    with pytest.raises(CertificateError, match="exceeds"):
        check(altered(certificates[1], lower=certificates[1].upper + 1))


@pytest.mark.parametrize("number", [0, 1])
def test_a_lower_bound_that_is_too_high_is_found(certificates, number):
    """The complement of the best network, claimed to be the best."""
    certificate = certificates[number]
    readout = certificate.weights.readout
    weights = certificate.weights._replace(readout=readout._replace(flipped=not readout.flipped))
    worse = certificate.problem.total - certificate.upper
    with pytest.raises(CertificateError, match="exists"):
        check(altered(certificate, weights=weights, upper=worse, lower=worse), "full")


def test_missing_nodes_and_wrong_bounds_are_found(certificates):
    two = certificates[1]
    with pytest.raises(CertificateError, match="not listed"):
        check(altered(two, nodes=two.nodes[:2], node_bounds=two.node_bounds[:2]), "sample")
    with pytest.raises(CertificateError, match="errors, not"):
        check(altered(two, node_bounds=two.node_bounds + 4), "sample")
    with pytest.raises(CertificateError, match="below the lower bound"):
        check(
            altered(two, node_bounds=np.where(np.arange(len(two.nodes)) == 1, two.lower - 1, two.node_bounds)), "sample"
        )
    with pytest.raises(CertificateError, match="lists no states"):
        check(altered(two, nodes=two.nodes[:0], node_bounds=two.node_bounds[:0]), "sample")


def test_foreign_weights_are_found(certificates):
    one = certificates[0]
    layer = one.weights.layers[0]
    for changed, where in (
        (layer._replace(B=((7, 0), (0, 0))), "B of layer 1"),
        (layer._replace(V=((7, 0), (0, 0))), "V of"),
    ):
        with pytest.raises(CertificateError, match=where):
            check(altered(one, weights=one.weights._replace(layers=(changed,))))
    with pytest.raises(CertificateError, match="2 layers"):
        check(altered(one, weights=one.weights._replace(layers=(layer, layer))))
    with pytest.raises(CertificateError, match="read-out"):
        check(altered(one, weights=one.weights._replace(readout=one.weights.readout._replace(w=(3, 1)))))


def test_rejects_torn_and_newer_files(certificates, tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(CheckpointError, match="no file"):
        Certificate.load(folder)
    certificates[1].save(folder)
    record = json.loads((folder / "certificate.json").read_text())
    (folder / "certificate.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        Certificate.load(folder)
    mixed = record | {"arrays": "0"}
    del mixed["record"]
    (folder / "certificate.json").write_text(json.dumps(mixed | {"record": content_hash(mixed)}))
    with pytest.raises(CheckpointError, match="not those"):
        Certificate.load(folder)
    (folder / "certificate.json").write_text(json.dumps({k: v for k, v in record.items() if k != "record"}))
    with pytest.raises(CheckpointError, match="readable certificate"):
        Certificate.load(folder)
    (folder / "certificate.json").write_text(json.dumps(record))
    content = (folder / "certificate.npz").read_bytes()
    (folder / "certificate.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        Certificate.load(folder)


def test_rejects_unknown_levels_and_empty_samples(certificates):
    with pytest.raises(ConfigurationError, match="level"):
        check(certificates[0], "thorough")
    with pytest.raises(ConfigurationError, match="samples"):
        check(certificates[0], "sample", samples=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_check_of_four_bits_in_a_whole_class():
    labels = np.random.default_rng(0).integers(0, 2, 16)
    certificate = solve(Problem.create(tasks.all_strings(4), labels, model=R1(4, 1)), 2, backend="numpy")
    assert certificate.lower == 1  # no two sequences of one string differ in their label, so this takes the enumeration
    assert check(certificate, "full").examined > 1000


@pytest.mark.slow
def test_the_exhaustive_count_is_that_of_networks_in_exact_fractions():
    # every network of one layer of tiny classes, with weights; and the NumPy twin on random states
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n, V = int(rng.integers(2, 5)), int(rng.integers(2, 4))
        tokens = rng.integers(0, V, (7, n))
        model = R1(
            n, vocabulary=V, matrices=rng.permutation(score_matrices())[:2], rows=rng.permutation(ternary(2))[:2]
        )
        problem = Problem.create(tokens, rng.integers(0, 2, 7), rng.integers(1, 9, 7), model)
        best = problem.total
        for B in model.matrices.tolist():
            for v0, v1 in itertools.product(model.rows.tolist(), repeat=2):
                layer = Layer(tuple(map(tuple, B)), (tuple(v0), tuple(v1)))
                for w, threshold, flipped in itertools.product(
                    model.directions.tolist(), range(-2 * model.levels, 2 * model.levels + 2), (False, True)
                ):
                    network = Weights((layer,), Readout(tuple(w), threshold, flipped))
                    predicted = np.array([exact_label(model, network, row) for row in problem.tokens.tolist()])
                    best = min(best, problem.errors(predicted))
        assert fewest_errors(embedded(problem), model, problem.labels, problem.weights) == best
        state = rng.integers(-model.levels, model.levels + 1, (len(problem.labels), n, 2))
        twin = best_last_layer(state, problem)
        assert fewest_errors(state, model, problem.labels, problem.weights) == twin
        for w in ((1, 0), (0, 1), (1, -1)):  # read-outs of one row, and of two
            alone = dataclasses.replace(problem, model=dataclasses.replace(model, directions=np.array([w])))
            twin = best_last_layer(state, alone)
            assert fewest_errors(state, alone.model, problem.labels, problem.weights) == twin


def test_both_programs_agree_on_whether_a_class_is_closed_under_swap():
    full = R1(3)
    for change in (
        {},
        {"directions": np.array([(1, 0), (1, 1)])},
        {"rows": full.rows[:4]},
        {"matrices": full.matrices[:9]},
    ):
        model = dataclasses.replace(full, **change)
        assert _closed_under_swap(model) == closed_under_swap(model) == (not change)


def test_a_certificate_says_of_what_class_and_data_it_speaks(certificates):
    said = check(certificates[1], "full").statement
    assert "thinned to 2 of 273 B, 5 of 9 rows of V" in said
    assert "parity" in said
    assert certificates[0].about.split("data ")[1] == certificates[1].about.split("data ")[1]
    assert "not checked" in check(certificates[1], "witness").statement


def test_a_complete_check_is_the_default_up_to_five_bits_and_two_layers(certificates):
    def quick(n, depth, lower=1):
        return is_quick(dataclasses.replace(certificates[1], problem=tasks.parity(n), depth=depth, lower=lower))

    assert quick(5, 2)
    assert quick(8, 1)
    assert quick(8, 3, lower=0)
    assert not quick(6, 2)
    assert not quick(4, 3)
    seen = []
    assert check(certificates[1], progress=lambda done, states: seen.append((done, states))).level == "full"
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))


def forged(certificate, folder, arrays=None, **record):
    """The files with some entries changed and every hash made right again."""
    certificate.save(folder)
    written = json.loads((folder / "certificate.json").read_text())
    with np.load(folder / "certificate.npz") as file:
        kept = dict(file) | (arrays or {})
    np.savez_compressed(folder / "certificate.npz", **kept)
    written |= record | {"arrays": content_hash(*(kept[name] for name in sorted(kept)))}
    written["record"] = content_hash({name: value for name, value in written.items() if name != "record"})
    (folder / "certificate.json").write_text(json.dumps(written))
    return folder


def test_the_whole_record_is_under_a_hash(certificates, tmp_path):
    certificates[1].save(tmp_path)
    written = json.loads((tmp_path / "certificate.json").read_text())
    for name, value in {"lower": 0, "upper": 9, "depth": 1, "statistics": {}, "problem": {}, "network": {}}.items():
        (tmp_path / "certificate.json").write_text(json.dumps(written | {name: value}))
        with pytest.raises(CheckpointError, match="changed after"):
            Certificate.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"lower": "3"}, {"lower": None}, {"lower": 1.5}, {"lower": True}, {"lower": -1}, {"upper": 10**9},
        {"depth": 0}, {"depth": "two"}, {"depth": 1.0}, {"statistics": []}, {"problem": {"name": 3}}, {"network": {}},
        {"network": {"layers": [{"B": [[1, 0]], "V": [[1, 0], [0, 1]]}], "readout": {}}}, {"problem": []},
        {"arrays": {"nodes": np.zeros((3, 7), int)}}, {"arrays": {"node_bounds": np.zeros(1, int)}},
        {"arrays": {"nodes": np.zeros((3, 8))}}, {"arrays": {"labels": np.array([2])}}, {"arrays": {"rows": np.zeros(3)}},
        {"arrays": {"tokens": np.array([["a"]])}}, {"arrays": {"matrices": np.zeros((0, 2, 2), int)}},
        {"arrays": {"directions": np.array([[3, 1]])}}, {"arrays": {"weights": np.array([-1])}},
    ],
    ids=str,
)  # fmt: skip
def test_every_field_is_validated_before_use(certificates, tmp_path, change):
    with pytest.raises(CheckpointError):
        Certificate.load(forged(certificates[1], tmp_path / "c", **change))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_complete_check_of_five_bits_refuses_a_claim_that_is_one_too_high(tmp_path):
    # parity(5) at depth 2: a network with 4 errors, bounds raised to 4 and every hash right; the optimum is 3
    proven = solve(tasks.parity(5), 2)
    assert (proven.lower, proven.upper) == (3, 3)
    assert check(proven).level == "full"
    one = solve(tasks.parity(5), 1)
    worse = next(w for w in _neighbours(proven) if _errors(proven, w) == 4)
    raised = np.maximum(proven.node_bounds, 4)
    lie = dataclasses.replace(proven, lower=4, upper=4, weights=worse, node_bounds=raised, trusted=False)
    lie.save(tmp_path)
    loaded = Certificate.load(tmp_path)
    assert loaded.status == "claimed"
    check(loaded, "witness")
    with pytest.raises(CertificateError, match="a network with 3 errors exists"):
        check(loaded)
    assert loaded.status == "claimed"
    assert check(one).level == "full"


def _errors(certificate, weights):
    rows = certificate.problem.tokens.tolist()
    return certificate.problem.errors(np.array([exact_label(certificate.problem.model, weights, row) for row in rows]))


def _neighbours(certificate):
    """Networks that differ from the best one in a layer or in the read-out."""
    weights, model = certificate.weights, certificate.problem.model
    for w, threshold, flipped in itertools.product(model.directions.tolist(), range(-4, 6), (False, True)):
        yield weights._replace(readout=Readout(tuple(w), threshold, flipped))
    for layer, B in itertools.product((0, 1), model.matrices.tolist()):
        layers = list(weights.layers)
        layers[layer] = layers[layer]._replace(B=tuple(map(tuple, B)))
        yield weights._replace(layers=tuple(layers))

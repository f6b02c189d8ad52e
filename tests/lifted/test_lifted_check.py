"""Certificates survive files and checks; altered ones do not."""

import dataclasses
import json

import numpy as np
import pytest

from steerax import CheckpointError, ConfigurationError
from steerax.lifted import R1, Certificate, CertificateError, Problem, check, solve, tasks
from steerax.lifted.certificate.check import best_last_layers, embedded
from steerax.lifted.problem.alphabet import score_matrices, ternary


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
        certificate.save(tmp_path / "c")
        loaded = Certificate.load(tmp_path / "c")
        assert loaded.weights == certificate.weights
        assert (loaded.lower, loaded.upper, loaded.status) == (certificate.lower, certificate.upper, "proven")
        assert check(loaded, level, samples=20).level == level


def test_the_checkers_last_layer_equals_the_search(certificates):
    assert (
        best_last_layers(embedded(certificates[0].problem)[None], certificates[0].problem)[0] == certificates[0].upper
    )


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
    (folder / "certificate.json").write_text(json.dumps(record | {"arrays": "0"}))
    with pytest.raises(CheckpointError, match="not those"):
        Certificate.load(folder)
    (folder / "certificate.json").write_text(json.dumps({k: v for k, v in record.items() if k != "depth"}))
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
def test_full_check_of_three_bits_in_the_whole_class():
    parity = tasks.parity(3)
    tokens = np.concatenate([parity.tokens, parity.tokens[:1]])  # one string with both labels: 1 error at least
    problem = Problem.create(tokens, np.append(parity.labels, 1 - parity.labels[0]), model=parity.model)
    certificate = solve(problem, 2, backend="numpy")
    assert certificate.lower == 1
    assert check(certificate, "full").examined > 1000

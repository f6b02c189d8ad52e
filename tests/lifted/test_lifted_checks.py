"""One check for both kinds of certificates, in memory and from a folder."""

import json

import numpy as np
import pytest

import steerax as sx
from steerax import CheckpointError, ConfigurationError
from steerax.lifted import CertificateError, check, solve, tasks
from steerax.lifted.classifier.certificate import ClassifierCertificateError


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders as `steerax solve` and `steerax classify` write them."""
    top = tmp_path_factory.mktemp("certificates")
    solution = solve(tasks.parity(3), 1)
    X = np.random.default_rng(0).integers(0, 2, (40, 3))
    model = sx.OptimalAttentionClassifier(1).fit(X, X[:, 0] ^ X[:, 1])
    for name, certificate in (("solve", solution), ("classify", model.certificate_)):
        (top / name).mkdir()
        certificate.save(top / name / "certificate")
    return top, {"solve": solution, "classify": model.certificate_}


@pytest.mark.parametrize("kind", ["solve", "classify"])
def test_an_object_a_folder_and_a_folder_around_it(places, kind):
    top, certificates = places
    for level in ("witness", "full"):
        said = [check(certificates[kind], level)]
        said += [check(top / kind / rest, level) for rest in ("", "certificate", "certificate/certificate.json")]
        said += [check(str(top / kind), level)]
        assert {(one.level, one.statement) for one in said} == {(level, said[0].statement)}


def test_a_wrong_claim_of_either_kind_is_refused(places, tmp_path):
    from dataclasses import replace

    _, certificates = places
    with pytest.raises(CertificateError):
        check(replace(certificates["solve"], upper=certificates["solve"].upper + 1), "witness")
    with pytest.raises(ClassifierCertificateError):
        check(replace(certificates["classify"], upper=certificates["classify"].upper + 1), "witness")


def test_what_is_no_certificate_is_one_sentence(places, tmp_path):
    _, certificates = places
    with pytest.raises(CheckpointError, match="There is no file"):
        check(tmp_path / "nothing")
    for content in ({}, {"kind": "other"}, {"kind": ["steerax lifted certificate"]}):
        (tmp_path / "certificate.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="holds no certificate of steerax"):
            check(tmp_path)
    with pytest.raises(ConfigurationError, match="A dict is not a certificate"):
        check({})
    with pytest.raises(ConfigurationError, match="level='sample'"):
        check(certificates["classify"], "sample")

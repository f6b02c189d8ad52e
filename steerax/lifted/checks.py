"""One check for certificates of both kinds: networks of class R1 (`solve`) and classifiers of tables (`OptimalAttentionClassifier`)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._errors import CheckpointError, ConfigurationError
from ..runs.files import read_json, recover
from .certificate import check as of_networks
from .certificate.certificate import Certificate
from .classifier import certificate as of_classifiers
from .classifier.certificate import ClassifierCertificate

_KINDS = {"steerax lifted certificate": Certificate, "steerax classifier certificate": ClassifierCertificate}
Checked = of_networks.Checked | of_classifiers.Checked


def check(
    certificate: Any,
    level: str | None = None,
    *,
    samples: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Checked:
    """Check a certificate, or the one in a folder. What comes back has the `level` and a `statement` in words.

    **Arguments:** `certificate`, of either kind, or its folder (or a folder that holds it as `certificate`, as the command line writes them);
    `level`, "witness" or "full", for networks of class R1 also "sample"; by default "full" where that takes about a minute at
    most, and "witness" beyond; `samples`, `seed`, of level "sample"; `progress(done, states)`, called by level "full" of class R1.

    **Raises:** `CertificateError` or `ClassifierCertificateError` with the reason if it is wrong; `CheckpointError` for a folder without a
    readable one. A certificate that passes "full" is `trusted` from then on.
    """
    if isinstance(certificate, (str, os.PathLike)):
        certificate = read_certificate(certificate)
    if isinstance(certificate, ClassifierCertificate):
        return certificate.check(level)
    if not isinstance(certificate, Certificate):
        raise ConfigurationError(
            f"A {type(certificate).__name__} is not a certificate; pass what lifted.solve returns, model.certificate_, or a folder."
        )
    return of_networks.check(certificate, level, samples=samples, seed=seed, progress=progress)


def read_certificate(folder: str | os.PathLike) -> Certificate | ClassifierCertificate:
    """The certificate in a folder, whichever its kind. **Raises:** `CheckpointError`."""
    place = Path(folder)
    if place.name == "certificate.json":
        place = place.parent
    if not (place / "certificate.json").exists() and (place / "certificate").is_dir():
        place = place / "certificate"
    recover(place)
    kind = read_json(place / "certificate.json").get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CheckpointError(f"{place} holds no certificate of steerax (its kind is {kind!r}).")
    return _KINDS[kind].load(place)

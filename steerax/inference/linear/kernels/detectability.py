"""Does every unstable mode leave a trace in the observations?"""

import numpy as np
from jaxtyping import Float

from ....models.linear_gaussian import LinearGaussianModel

LARGEST = 256  # order times dimension up to which eigenvalues are computed


def is_undetectable(model: LinearGaussianModel) -> bool:
    r"""True if a mode $\lambda$ with $|\lambda|\ge1$ is invisible: the Hautus test on the polynomial matrix,

    $$\mathrm{rank}\begin{pmatrix}\lambda^mI-\sum_jA_j\lambda^{m-1-j}\\H\end{pmatrix}<d.$$

    Roots of multiplicity two are known to the square root of the precision only, and so is the test. Processes whose
    taps have norms that sum to less than one are stable and pass at once; others with $md$ above 256 are not tested.
    """
    taps, H = np.asarray(model.transition, float), np.asarray(model.observation, float)
    m, d, _ = taps.shape
    if m * d > LARGEST or np.linalg.norm(taps, 2, axis=(1, 2)).sum() < 1:
        return False
    slack = np.sqrt(np.finfo(np.float64).eps) * 10
    scale = max(1.0, np.linalg.norm(H, 2))
    for root in np.linalg.eigvals(companion_matrix(taps)):
        if abs(root) >= 1 - slack:
            polynomial = np.eye(d) - np.einsum("j,jde->de", root ** -np.arange(1.0, m + 1), taps)
            if np.linalg.svd(np.vstack([polynomial, H]), compute_uv=False)[-1] <= slack * scale:
                return True
    return False


def spectral_radius(taps: Float[np.ndarray, "m d d"]) -> float:
    r"""The largest modulus of a root of $\det(\lambda^mI-\sum_jA_j\lambda^{m-1-j})$."""
    return float(np.abs(np.linalg.eigvals(companion_matrix(np.asarray(taps, float)))).max())


def companion_matrix(taps: Float[np.ndarray, "m d d"]) -> Float[np.ndarray, "n n"]:
    r"""The transition of $(X_t,\dots,X_{t-m+1})$."""
    m, d, _ = taps.shape
    F = np.eye(m * d, k=-d)
    F[:d] = np.concatenate(list(taps), axis=1)
    return F

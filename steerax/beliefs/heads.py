"""How many heads a linear filter needs: softmax weights cannot change sign, and one head has one profile over lags."""

import numpy as np
from jaxtyping import Float


def missed_by_heads(
    lags: Float[np.ndarray, "T d V"], p: Float[np.ndarray, " V"], heads: int, tries: int = 6, sweeps: int = 200
) -> float:
    r"""Share of the weights at lags $\ge1$ that so many non-negative lag profiles cannot express.

    $$\min_{a\ge0,\,M}\ \sum_{k\ge1}\Big\|h_k\,\mathrm{diag}(\sqrt p)-\sum_{h}a_{kh}M_h\Big\|^2\Big/\sum_{k\ge1}\|h_k\,\mathrm{diag}(\sqrt p)\|^2,$$

    a semi-non-negative factorisation by alternating least squares from several starts. The lag 0 is left out: the token
    itself also reaches the residual stream by the skip connection.
    """
    from scipy.optimize import nnls

    Y = (lags * np.sqrt(p)).reshape(len(lags), -1)[1:]
    size = (Y**2).sum()
    if size < 1e-20:
        return 0.0
    if Y.shape[1] > len(Y):
        Y = np.asarray(np.linalg.qr(Y.T, mode="r")).T  # the same distances in as many columns as there are lags
    best = 1.0
    for seed in range(tries):
        a = np.random.default_rng(seed).random((len(Y), heads))
        before = np.inf
        for _ in range(sweeps):
            M = np.linalg.lstsq(a, Y, rcond=None)[0]
            a = np.stack([nnls(M.T, y)[0] for y in Y])
            missed = float(((Y - a @ M) ** 2).sum() / size)
            if not missed < before - 1e-9:
                break
            before = missed
        best = min(best, missed)
        if best < 1e-9:
            break
    return best

"""How many free parameters a model has, and which of the equivalent bases of its state is shown."""

import jax.numpy as jnp
import numpy as np

from ...models.linear_gaussian import LinearGaussianModel


def n_parameters(m: int, d: int, p: int, q: int, start: int) -> int:
    """The number of free parameters of order `m`, `d` states, `p` channels and `q` inputs, a change of basis of the state not
    counted twice; `start`, how many of them describe the first state."""
    return m * d * d + p * d + d * (d + 1) // 2 + p * (p + 1) // 2 + p + p * q + start - d * d


def canonical(model: LinearGaussianModel) -> LinearGaussianModel:
    r"""The same distribution of observations in a fixed basis of the state.

    With at least as many states as channels, $H=[I\ 0]$ and the noise of the remaining states white and independent
    of the others (which leaves a rotation of them); with fewer, $Q=I$ and $H$ lower-triangular. A model whose $H$ or
    $Q$ is singular is returned as it is.
    """
    H, Q = np.asarray(model.observation, float), np.asarray(model.process_noise, float)
    p, d = H.shape
    if np.linalg.matrix_rank(H) < min(p, d) or np.linalg.matrix_rank(Q) < d:
        return model
    if d < p:
        root = np.linalg.cholesky(Q)
        rotation, triangle = np.linalg.qr((H[:d] @ root).T)
        signs = np.where(np.diag(triangle) < 0, -1.0, 1.0)
        basis = (rotation * signs).T @ np.linalg.inv(root)
    else:
        rest = np.linalg.svd(H)[2][p:]
        basis = np.concatenate([H, rest])
        Q = basis @ Q @ basis.T
        slope = Q[p:, :p] @ np.linalg.inv(Q[:p, :p])
        white = np.linalg.inv(np.linalg.cholesky(Q[p:, p:] - slope @ Q[:p, p:]))
        basis[p:] = white @ (basis[p:] - slope @ basis[:p])
    return model.change_basis(jnp.asarray(basis, model.observation.dtype))

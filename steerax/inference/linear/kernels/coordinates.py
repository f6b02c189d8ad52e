r"""Unconstrained coordinates of linear-Gaussian models: of all of them (`Free`), or of the stable ones (`Stable`)."""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ....models.linear_gaussian import LinearGaussianModel
from .detectability import companion_matrix

SMALLEST_ROOT = -11.5  # logarithm of the smallest diagonal entry of a root of a covariance of standardised data


class Parameters(NamedTuple):
    """Coordinates: covariances by Cholesky factors with logarithms on the diagonal, `taps` as the kind of coordinates
    has them, and the weights of `inputs`."""

    mean: Float[Array, " d"]
    start: Float[Array, "d d"]
    taps: Float[Array, "m d d"]
    observation: Float[Array, "p d"]
    offset: Float[Array, " p"]
    process: Float[Array, "d d"]
    noise: Float[Array, "p p"]
    inputs: Float[Array, "p q"]


@dataclasses.dataclass(frozen=True)
class Free:
    """Coordinates of all models: taps as they are."""

    def taps(self, free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]) -> Float[Array, "m d d"]:
        """The taps of given coordinates."""
        return free

    def free(self, taps: Float[np.ndarray, "m d d"], L_Q: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "m d d"]:
        """The coordinates of given taps."""
        return taps

    def to_model(self, theta: Parameters) -> LinearGaussianModel:
        """The model of given coordinates."""
        L_0, L_Q, L_R = (_triangle(a) for a in (theta.start, theta.process, theta.noise))
        taps = self.taps(theta.taps, L_Q)
        noises = L_Q @ L_Q.T, L_R @ L_R.T
        return LinearGaussianModel(theta.mean, L_0 @ L_0.T, taps, theta.observation, *noises, theta.offset)

    def from_model(self, model: LinearGaussianModel, D: Float[Array, "p q"]) -> Parameters:
        """Coordinates of a model and the weights of inputs; singular covariances become regular."""
        covariances = (np.asarray(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise))
        L_0, L_Q, L_R = (np.linalg.cholesky(S + np.exp(2 * SMALLEST_ROOT) * np.eye(len(S))) for S in covariances)
        roots = [jnp.asarray(np.tril(L, -1) + np.diag(np.log(np.diag(L)))) for L in (L_0, L_Q, L_R)]
        taps = jnp.asarray(self.free(np.asarray(model.transition), L_Q))
        observed = model.observation, model.observation_offset
        return Parameters(model.initial_mean, roots[0], taps, *observed, roots[1], roots[2], D)


@dataclasses.dataclass(frozen=True)
class Stable(Free):
    """Coordinates of all stable models and no others: taps by their partial autocorrelations (see `stable_taps`)."""

    def taps(self, free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]) -> Float[Array, "m d d"]:
        return stable_taps(free, L_Q)

    def free(self, taps: Float[np.ndarray, "m d d"], L_Q: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "m d d"]:
        return _partial_autocorrelations(taps, L_Q)


def _triangle(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return jnp.tril(a, -1) + jnp.diag(jnp.exp(jnp.diag(a)))


class _Whittle(NamedTuple):
    """Coefficients of the regressions on `s` later and earlier values, and Cholesky factors of their error covariances."""

    ahead: Any
    back: Any
    V: Any
    V_back: Any

    @classmethod
    def start(cls, root: Any, xp: ModuleType) -> "_Whittle":
        none, identity = xp.zeros((0, *root.shape), root.dtype), xp.eye(len(root), dtype=root.dtype)
        return cls(none, none, identity, identity)

    def longer(self, P: Any, rest: Any, xp: ModuleType) -> "_Whittle":
        r"""One lag more, with partial autocorrelation $P$ and `rest` the Cholesky factor of $I-PP^\top$; `xp` is the array
        module, NumPy or `jax.numpy`."""
        ahead, back, V, V_back = self
        last, last_back = V @ P @ xp.linalg.inv(V_back), V_back @ P.T @ xp.linalg.inv(V)
        return _Whittle(
            xp.concatenate([ahead - last @ back[::-1], last[None]]),
            xp.concatenate([back - last_back @ ahead[::-1], last_back[None]]),
            V @ rest,
            V_back @ xp.linalg.cholesky(xp.eye(len(P), dtype=P.dtype) - P.T @ P),
        )


def stable_taps(free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]) -> Float[Array, "m d d"]:
    r"""All stable taps, from any matrices $A_1\dots A_m$ ([AnsleyKohn1986]).

    $P_s=B^{-1}A_s$ with $BB^\top=I+A_sA_s^\top$ has norm below one and is taken as the partial autocorrelation of lag $s$ of
    a process with unit variance; Whittle's recursion (and its mirror image, backward in time and marked by a star)

    $$\phi_{s,s}=V^{1/2}P_sV^{*-1/2},\qquad\phi_{s,i}=\phi_{s-1,i}-\phi_{s,s}\phi^*_{s-1,s-i},\qquad
    V\leftarrow V^{1/2}(I-P_sP_s^\top)V^{\top/2}$$

    turns them into the coefficients $\phi_m$ of a stable autoregression with innovation covariance $V$, and the change of
    basis $T=L_QV^{-1/2}$ into taps $T\phi T^{-1}$ whose innovations have covariance $L_QL_Q^\top$.
    """
    state, identity = _Whittle.start(L_Q, jnp), jnp.eye(len(L_Q), dtype=L_Q.dtype)
    for A in free:
        B = jnp.linalg.cholesky(identity + A @ A.T)
        state = state.longer(jnp.linalg.solve(B, A), jnp.linalg.inv(B), jnp)
    basis = L_Q @ jnp.linalg.inv(state.V)
    return basis @ state.ahead @ jnp.linalg.inv(basis)


def _partial_autocorrelations(
    taps: Float[np.ndarray, "m d d"], L_Q: Float[np.ndarray, "d d"]
) -> Float[np.ndarray, "m d d"]:
    r"""The matrices $A_1\dots A_m$ that `stable_taps` turns into these taps, which must be stable."""
    m, d, _ = taps.shape
    F, S = companion_matrix(taps), np.zeros((m * d, m * d))
    S[:d, :d] = L_Q @ L_Q.T
    for _ in range(60):  # Σ_k F^k S F^kᵀ, the stationary covariance, by doubling
        S, F = S + F @ S @ F.T, F @ F
    white = np.linalg.inv(L_Q)
    basis = L_Q @ np.linalg.cholesky(white @ S[:d, :d] @ white.T)
    unit = np.linalg.inv(basis)
    moments = [unit @ S[:d, j * d : (j + 1) * d] @ unit.T for j in range(m)]  # E X_t X_{t-j}ᵀ of unit variance
    moments.append(sum((unit @ A @ basis @ moments[m - 1 - j] for j, A in enumerate(taps)), np.zeros((d, d))))
    state, free = _Whittle.start(L_Q, np), []
    for s in range(m):
        left = moments[s + 1] - sum((A @ moments[s - i] for i, A in enumerate(state.ahead)), np.zeros((d, d)))
        P = np.linalg.solve(state.V, left) @ np.linalg.inv(state.V_back).T
        rest = np.linalg.cholesky(np.eye(d) - P @ P.T)
        free.append(np.linalg.solve(rest, P))
        state = state.longer(P, rest, np)
    return np.stack(free)

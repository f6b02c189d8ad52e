r"""Unconstrained coordinates of linear-Gaussian models: of all of them, of the stable, of the stationary ones."""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ....models.linear_gaussian import LinearGaussianModel
from ...kinds import Start
from .detectability import companion_matrix

DIFFUSE = 1e6  # variance that a diffuse start gives to the first observations, in units of the data's
SMALLEST_VARIANCE = 1e-8  # of a noise, in units of the data's


class Parameters(NamedTuple):
    r"""Coordinates. A covariance is $BDB^\top$ with $B$ unit lower-triangular and the logarithms of the roots of $D$ on its
    diagonal; `observation`, `offset` and the weights of `inputs` are multiplied by the $B$ of the `noise`, so that they
    speak of channels whose noises are independent; `taps` are as the kind of coordinates has them."""

    mean: Float[Array, " d"]
    start: Float[Array, "d d"]
    taps: Float[Array, "m d d"]
    observation: Float[Array, "p d"]
    offset: Float[Array, " p"]
    process: Float[Array, "d d"]
    noise: Float[Array, "p p"]
    inputs: Float[Array, "p q"]


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """Coordinates of all models, or of the `stable` ones, whose first state has the distribution `start` (see
    `LinearGaussian`)."""

    stable: bool = False
    start: Start = "free"

    def to_model(self, theta: Parameters) -> tuple[LinearGaussianModel, Float[Array, "p q"]]:
        """The model of given coordinates, and the weights of inputs."""
        L_0, L_Q, L_R = (_triangle(a) for a in (theta.start, theta.process, theta.noise))
        B, identity = _unit_triangle(theta.noise), jnp.eye(len(L_Q), dtype=L_Q.dtype)
        H, taps, mean, first = B @ theta.observation, theta.taps, theta.mean, L_0 @ L_0.T
        if self.stable:
            taps, root = stable_taps(theta.taps, L_Q)
            first = root @ root.T if self.start == "stationary" else first
        if self.start == "diffuse":
            first = DIFFUSE * jnp.linalg.inv(_seen_of_start(taps, H) + SMALLEST_VARIANCE * identity)
        if self.start != "free":
            mean = jnp.zeros_like(mean)
        Q, R = (L @ L.T + SMALLEST_VARIANCE * jnp.eye(len(L), dtype=L.dtype) for L in (L_Q, L_R))
        return LinearGaussianModel(mean, first, taps, H, Q, R, B @ theta.offset), B @ theta.inputs

    def from_model(self, model: LinearGaussianModel, D: Float[Array, "p q"]) -> Parameters:
        """Coordinates of a model and the weights of inputs; singular covariances become regular."""
        covariances = (np.asarray(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise))
        L_0, L_Q, L_R = (np.linalg.cholesky(S + SMALLEST_VARIANCE * np.eye(len(S))) for S in covariances)
        roots = [jnp.asarray(np.tril(L / np.diag(L), -1) + np.diag(np.log(np.diag(L)))) for L in (L_0, L_Q, L_R)]
        taps, B = np.asarray(model.transition), _unit_triangle(roots[2])
        taps = jnp.asarray(_partial_autocorrelations(taps, L_Q) if self.stable else taps)
        H, c, D = (
            jnp.linalg.solve(B, jnp.asarray(a, B.dtype)) for a in (model.observation, model.observation_offset, D)
        )
        return Parameters(model.initial_mean, roots[0], taps, H, c, roots[1], roots[2], D)


def _seen_of_start(taps: Float[Array, "m d d"], H: Float[Array, "p d"]) -> Float[Array, "d d"]:
    r"""$\sum_k(H\Phi_k)^\top H\Phi_k$, $k<d$, with $\Phi_k$ the effect of $X_0$ on $X_k$: how the start shows in the first
    observations. Its inverse is a covariance of starts that means the same in every basis of the state."""
    m, d, _ = taps.shape
    effects = [jnp.eye(d, dtype=taps.dtype)]
    for k in range(d - 1):
        effects.append(sum((taps[j] @ effects[k - j] for j in range(min(m, k + 1))), jnp.zeros_like(effects[0])))
    seen = H @ jnp.stack(effects)
    return jnp.einsum("kpd,kpe->de", seen, seen)


def _unit_triangle(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return jnp.tril(a, -1) + jnp.eye(len(a), dtype=a.dtype)


def _triangle(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return _unit_triangle(a) * jnp.exp(jnp.diag(a))[None]


class _Whittle(NamedTuple):
    """Coefficients of the regressions on `s` later and earlier values, zero beyond them, and Cholesky factors of their error
    covariances. `xp` is the array module, NumPy or `jax.numpy`."""

    ahead: Any
    back: Any
    V: Any
    V_back: Any

    @classmethod
    def start(cls, m: int, root: Any, xp: ModuleType) -> "_Whittle":
        none, identity = xp.zeros((m, *root.shape), root.dtype), xp.eye(len(root), dtype=root.dtype)
        return cls(none, none, identity, identity)

    def longer(self, s: Any, P: Any, rest: Any, xp: ModuleType) -> "_Whittle":
        r"""Lag `s` more, counted from 0, with partial autocorrelation $P$ and `rest` the Cholesky factor of $I-PP^\top$."""
        ahead, back, V, V_back = self
        last, last_back = V @ P @ xp.linalg.inv(V_back), V_back @ P.T @ xp.linalg.inv(V)
        lag = xp.arange(len(ahead))[:, None, None]
        mirror = xp.maximum(s - 1 - lag[:, 0, 0], 0)
        return _Whittle(
            xp.where(lag == s, last, xp.where(lag < s, ahead - last @ back[mirror], 0)),
            xp.where(lag == s, last_back, xp.where(lag < s, back - last_back @ ahead[mirror], 0)),
            V @ rest,
            V_back @ xp.linalg.cholesky(xp.eye(len(P), dtype=P.dtype) - P.T @ P),
        )


def stable_taps(
    free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]
) -> tuple[Float[Array, "m d d"], Float[Array, "d d"]]:
    r"""All stable taps, from any matrices $A_1\dots A_m$ ([AnsleyKohn1986]), and a root $T$ of the stationary covariance
    $TT^\top$ of $X_t$.

    $P_s=B^{-1}A_s$ with $BB^\top=I+A_sA_s^\top$ has norm below one and is taken as the partial autocorrelation of lag $s$ of
    a process with unit variance; Whittle's recursion (and its mirror image, backward in time and marked by a star)

    $$\phi_{s,s}=V^{1/2}P_sV^{*-1/2},\qquad\phi_{s,i}=\phi_{s-1,i}-\phi_{s,s}\phi^*_{s-1,s-i},\qquad
    V\leftarrow V^{1/2}(I-P_sP_s^\top)V^{\top/2}$$

    turns them into the coefficients $\phi_m$ of a stable autoregression with innovation covariance $V$, and the change of
    basis $T=L_QV^{-1/2}$ into taps $T\phi T^{-1}$ whose innovations have covariance $L_QL_Q^\top$.
    """
    identity = jnp.eye(len(L_Q), dtype=L_Q.dtype)

    def step(state, inputs):
        s, A = inputs
        B = jnp.linalg.cholesky(identity + A @ A.T)
        return state.longer(s, jnp.linalg.solve(B, A), jnp.linalg.inv(B), jnp), None

    state, _ = jax.lax.scan(step, _Whittle.start(len(free), L_Q, jnp), (jnp.arange(len(free)), free))
    basis = L_Q @ jnp.linalg.inv(state.V)
    return basis @ state.ahead @ jnp.linalg.inv(basis), basis


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
    state, free = _Whittle.start(m, L_Q, np), []
    for s in range(m):
        left = moments[s + 1] - sum((A @ moments[s - i] for i, A in enumerate(state.ahead[:s])), np.zeros((d, d)))
        P = np.linalg.solve(state.V, left) @ np.linalg.inv(state.V_back).T
        rest = np.linalg.cholesky(np.eye(d) - P @ P.T)
        free.append(np.linalg.solve(rest, P))
        state = state.longer(s, P, rest, np)
    return np.stack(free)

r"""What one attention layer can know of a process: its Wiener filter, computed from second moments alone.

The best predictor of the belief that is *linear* in the one-hot history of a stationary process needs only $F=A^\top$,
$H_{z\cdot}=T^zw$, $p=H\pi$, $G_{\cdot z}=\pi T^z-p_z\pi$ and $\Lambda_0=\mathrm{diag}(p)-pp^\top$, the covariances of belief and tokens. With
$\Sigma_0=0$ and the covariance $\Sigma_t$ of the estimate,

$$K_t=(G-F\Sigma_tH^\top)(\Lambda_0-H\Sigma_tH^\top)^+,\qquad
\Sigma_{t+1}=F\Sigma_tF^\top+K_t(\Lambda_0-H\Sigma_tH^\top)K_t^\top,\qquad
m_{t+1}=Fm_t+K_t(e_{z_t}-Hm_t),\quad m_0=\pi .$$

This is the innovations form of the Kalman filter [AndersonMoore1979, Sec. 9.3]; it holds for edge-emitting and quantum processes
too, whose states have no covariance of their own. The control of the dual filter of the linear-Gaussian model with the same
second moments is the same array of weights. Attention with fixed weights is linear in the history, so this is the most that one
attention layer can know; the remainder, exact belief − Wiener belief, is uncorrelated with every linear function of the history.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Int

from .._bounds import COUNT, Range, bounded
from .._errors import ConfigurationError, DataError
from ..inference.verbs import filter as exact_filter
from ..models.generalised import GeneralisedHMM, as_generalised
from ..models.linear_gaussian import LinearGaussianModel
from ..models.sampling import sample_sequences
from .heads import missed_by_heads
from .identifiable import identifiable_rates

_BLIND = 0.3  # of the variance of the belief beyond every linear filter
_DRAWS = 8192  # strings on which the share of the exact belief is measured
_NAT = 1e-4  # a loss that nobody can tell from none


@dataclasses.dataclass(frozen=True)
class WienerFilter:
    r"""What `wiener` returns.

    **Attributes:** `model`, the process from its stationary belief; `length`, T; `gains` `[T d V]`, $K_t$; `closed_loop` `[d d]`,
    $F-K_\infty H$; `rates`, its eigenvalues without the one that belongs to the mass, largest first: the decay per lag of
    attention; `eigenvalues`, those of the transition, the limit of `rates` for uninformative tokens; `lags` `[T d V]`, the weights
    $h_k$ of the tokens before the last query, newest first; `missed` `[4]`, the share of the weights at lags of one and more that
    1, 2, 3, 4 non-negative lag profiles cannot express (for a process without hidden states: weights and variances are those of
    the next tokens); `heads`, of the network that is asked about; `r2`, share of the variance
    of the exact belief that the Wiener belief explains, and its standard error; `draws`, strings on which `interval` is found.
    """

    model: GeneralisedHMM
    length: int
    heads: int
    gains: Float[np.ndarray, "T d V"]
    closed_loop: Float[np.ndarray, "d d"]
    rates: Complex[np.ndarray, " n"]
    eigenvalues: Complex[np.ndarray, " n"]
    lags: Float[np.ndarray, "T d V"]
    missed: Float[np.ndarray, " 4"]
    r2: float
    r2_error: float
    draws: int = 120_000

    @property
    def beyond(self) -> float:
        """Share of the variance of the exact belief that is beyond every linear filter."""
        return 1 - self.r2

    @property
    def rate(self) -> float:
        """The rate that decides: the largest one if it is real; NaN for none or a complex one."""
        if len(self.rates) == 0 or abs(self.rates[0].imag) > 1e-9:
            return float("nan")
        return float(self.rates[0].real)

    @property
    def outside(self) -> str | None:
        """Why nothing is predicted for this process, or `None`."""
        if self.beyond > _BLIND:
            return (
                f"Second moments are blind here: {self.beyond:.0%} of the variance of the belief is beyond every linear "
                "filter, so they say nothing about attention."
            )
        emission = np.einsum("zij,j->iz", *map(np.asarray, self.model.arrays[1:]))
        if self.model.is_classical and (np.isclose(emission, 0) | np.isclose(emission, 1)).all():
            return "The hidden state determines its token, so a network can count positions; no prediction is made."
        return None

    @functools.cached_property
    def controls(self) -> Float[np.ndarray, "T T d V"]:
        r"""`controls[q, s]`: the weights of the token $Z_s$ in the Wiener belief after $Z_0\dots Z_q$; zero for $s>q$."""
        T, F, H = self.length, *_moments(self.model)[:2]
        out = np.zeros((T, T, *self.gains.shape[1:]))
        for q in range(T):
            if q:
                out[q, :q] = np.einsum("ij,sjz->siz", F - self.gains[q] @ H, out[q - 1, :q])
            out[q, q] = self.gains[q]
        return out

    def belief(self, tokens: Int[Any, "*B T"]) -> Float[np.ndarray, "*B T1 d"]:
        r"""The Wiener belief $m_0\dots m_T$ along token strings of at most `length` tokens; −1 is a missing token, after which the
        gains are still those of strings without gaps, so that the belief is no longer the very best."""
        z = np.asarray(tokens)
        F, H = _moments(self.model)[:2]
        if z.shape[-1] > self.length:
            raise DataError(
                f"The strings have {z.shape[-1]} tokens, the filter {self.length}; pass length={z.shape[-1]}."
            )
        m = np.broadcast_to(np.asarray(self.model.initial, np.float64), (*z.shape[:-1], self.model.n_states))
        out = [m]
        for t in range(z.shape[-1]):
            seen = np.eye(self.model.n_tokens)[np.maximum(z[..., t], 0)] - m @ H.T
            m = m @ F.T + np.where(z[..., t, None] >= 0, seen @ self.gains[t].T, 0)
            out.append(m)
        return np.stack(out, -2)

    @functools.cached_property
    def interval(self) -> tuple[float, float] | None:
        """The interval of rates that lose less than 1e-4 nats as predictors, see `identifiable_rates`; `None` where no
        single rate is meant (a complex one, or lag profiles that one rate does not describe)."""
        if not np.isfinite(self.rate) or self.missed[0] > 0.01 or self.length < 2:
            return None
        return identifiable_rates(self.model, self.lags[1], -1.0 if self.rate < 0 else 1.0, _NAT, self.draws)

    @property
    def is_identifiable(self) -> bool:
        """Whether data could tell the rate: the interval is at most 0.2 wide and does not hold the eigenvalue too."""
        if self.interval is None:
            return False
        low, high = self.interval
        return high - low <= 0.2 and not (len(self.eigenvalues) > 0 and low <= self.eigenvalues[0].real <= high)


@bounded(length=COUNT, heads=Range(1, 4, whole=True), draws=Range(100, 10**9, whole=True))
def wiener(model: Any, length: int = 16, heads: int = 1, *, draws: int = 120_000, key: Any = 0) -> WienerFilter:
    """The Wiener filter of a process along strings of a length: what one attention layer of so many heads can know.

    **Arguments:** `model`, a `HiddenMarkovModel` or `GeneralisedHMM`, taken from its stationary belief; `length`, T; `heads`, at
    most 4; `draws`, strings on which the interval of rates is found when it is asked for; `key`, of the strings on which the share
    of the exact belief is measured.

    $O(T(d^3+V^3))$ and one exact filter of 8192 strings; the closed loop is iterated until it settles, at most 10,000 times (a
    process with a mode that never fades, such as `even`, takes them all and its rate is that close to one). **Raises:** `ConfigurationError` for another model; `DataError` if no
    single belief is stationary.
    """
    process = stationary_process(model)
    F, H, G, first = _moments(process)
    room, nothing = 1e-12 * np.abs(first).max(), 1e-24 * np.abs(np.asarray(process.initial)).max() ** 2
    gains, sigma = [], np.zeros_like(F)
    for _ in range(length):
        K, sigma = _step(F, H, G, first, sigma, room)
        gains.append(K)
    K, settled = gains[-1], sigma
    for _ in range(10_000):
        K, new = _step(F, H, G, first, settled, room)
        if np.abs(new - settled).max() <= 1e-15 * np.abs(new).max() + nothing:
            break
        settled = new
    w = np.asarray(process.evaluation, np.float64)
    plane = np.linalg.svd(w[None])[2][1:].T
    spectrum = lambda M: np.array(sorted(np.linalg.eigvals(plane.T @ M @ plane), key=lambda x: -abs(x)), complex)
    lags, M = np.zeros((length, *gains[0].shape)), np.eye(len(F))
    for k in range(length):
        lags[k] = M @ gains[-1 - k]
        M = M @ (F - gains[-1 - k] @ H)
    p = H @ np.asarray(process.initial, np.float64)
    seen = np.einsum("ki,tiv->tkv", _view(process), lags)
    missed = np.array([missed_by_heads(seen, p, n) for n in range(1, 5)])
    found = WienerFilter(process, length, heads, np.stack(gains), F - K @ H, spectrum(F - K @ H), spectrum(F), lags, missed, 0.0, 0.0, draws)  # fmt: skip
    r2, error = _share_of_exact(found, key)
    return dataclasses.replace(found, r2=r2, r2_error=error)


def stationary_process(model: Any) -> GeneralisedHMM:
    """The process with operators, in float64, from a belief that it keeps: its own initial one if it does, else the stationary."""
    process = as_generalised(model)
    p0, T, w = (np.asarray(a, np.float64) for a in process.arrays)
    if np.abs(p0 @ T.sum(0) - p0).max() > 1e-9 * np.abs(p0).max():
        p0 = None
    return GeneralisedHMM(p0, T, evaluation=w, vocabulary=process.vocabulary)


def second_order(model: Any) -> LinearGaussianModel:
    r"""The linear-Gaussian model with the second moments of a classical process, state and one-hot tokens without the last
    (they sum to one): $\Sigma_0=D-\pi\pi^\top$, $Q=D-A^\top DA$, $R=\mathrm{diag}(p)-C^\top DC$, $D=\mathrm{diag}(\pi)$.

    An edge-emitting chain is first written on its pairs (state, token that it emits next), whose noise $R$ is zero.

    **Raises:** `ConfigurationError` for a process with negative entries.
    """
    process = stationary_process(model)
    if not process.is_classical:
        raise ConfigurationError("Only a process without negative entries has hidden states with second moments.")
    pi, T, _ = (np.asarray(a, np.float64) for a in process.arrays)
    emitted = T.sum(2).T
    pairs = np.argwhere((emitted > 0) & (pi[:, None] > 0))
    i, z = pairs.T
    A = T[z[:, None], i[:, None], i[None]] / emitted[i, z][:, None] * emitted[i, z][None]
    start, H = pi[i] * emitted[i, z], np.eye(process.n_tokens)[z].T[:-1]
    D = np.diag(start)
    return LinearGaussianModel(start, D - np.outer(start, start), A.T, H, D - A.T @ D @ A, np.zeros((len(H), len(H))))


def _moments(process: GeneralisedHMM) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    r"""$F$ `[d d]`, $H$ `[V d]`, $G$ `[d V]`, $\Lambda_0$ `[V V]`."""
    pi, T, w = (np.asarray(a, np.float64) for a in process.arrays)
    H = T @ w
    p = H @ pi
    return T.sum(0).T, H, np.einsum("i,zij->jz", pi, T) - np.outer(pi, p), np.diag(p) - np.outer(p, p)


def _step(F, H, G, first, sigma, room) -> tuple[np.ndarray, np.ndarray]:
    """$(K_t,\\Sigma_{t+1})$; directions of innovations without variance get no gain."""
    S = first - H @ sigma @ H.T
    values, vectors = np.linalg.eigh((S + S.T) / 2)
    kept = values > room
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    cross = G - F @ sigma @ H.T
    K = cross @ inverse
    new = F @ sigma @ F.T + K @ cross.T
    return K, (new + new.T) / 2


def _view(process: GeneralisedHMM) -> Float[np.ndarray, "k d"]:
    """The coordinates in which beliefs are compared: states where there are some, else the distributions of the next tokens one to d
    steps ahead, which no change of basis changes."""
    if process.is_classical:
        return np.eye(process.n_states)
    F, H = _moments(process)[:2]
    return np.concatenate([H @ np.linalg.matrix_power(F, k) for k in range(process.n_states)])


def _share_of_exact(found: WienerFilter, key: Any) -> tuple[float, float]:
    """Share of the variance of the exact belief after `length` tokens that the Wiener belief explains, with its error."""
    tokens = sample_sequences(found.model, key, _DRAWS, found.length)
    exact = np.asarray(exact_filter(found.model, tokens).predicted, np.float64)[:, -1]
    view = _view(found.model)
    lost = (((exact - found.belief(tokens.values)[:, -1]) @ view.T) ** 2).sum(1)
    spread = (((exact - np.asarray(found.model.initial)) @ view.T) ** 2).sum(1)
    if spread.mean() < 1e-12:  # independent tokens: there is nothing to know
        return 1.0, 0.0
    ratio = lost.mean() / spread.mean()
    return float(1 - ratio), float((lost - ratio * spread).std() / np.sqrt(len(lost)) / spread.mean())

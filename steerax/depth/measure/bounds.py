r"""What a training loss says about the population: sampling bounds with both sides shown.

With probability at least $1-\delta$, |empirical − population| cross-entropy ≤ `right` [HuanYuan2026]. The bounds are
honest about what they need: $N$ counts independent documents; the control is independent of the sample ("fixed",
"bernstein") or every control of a class fixed in advance is counted ("finite", "entropy", "realisable"); the range of
the loss is a certified number or the bound is not.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..._bounds import COUNT, NOT_NEGATIVE, SHARE, Range, bounded
from ..._errors import ConfigurationError
from ...maths import concentration
from ...maths.lipschitz import Bound, Certified, Estimated
from ...transformer.gpt import GPT
from .scoring import check_architecture

_Kind = Literal["fixed", "bernstein", "finite", "entropy", "realisable"]


@dataclass(frozen=True)
class RiskBound:
    """One inequality, `left` ≤ `right` with probability ≥ 1 − `delta`.

    **Attributes:** `kind`; `left`, the measured deviation in nats, or None where the population is unknown; `right`,
    the bound; `sampling` and `depth`, the two terms of `right`; `number`, `delta`; `certified`, whether every constant
    in it is proven; `trivial`, the deviation known without any data; `source`, where the constants come from.
    """

    kind: str
    left: float | None
    right: float
    sampling: float
    depth: float
    number: int
    delta: float
    certified: bool
    trivial: float
    source: str

    @property
    def vacuous(self) -> bool:
        """True if the bound says no more than was known without data."""
        return self.right >= self.trivial

    @property
    def looseness(self) -> float | None:
        """`right / left`, or None if the deviation is unknown or zero."""
        return self.right / self.left if self.left else None


@bounded(number=COUNT, delta=SHARE)
def risk_bound(
    kind: _Kind,
    *,
    number: int,
    range_: Bound | float,
    delta: float = 0.05,
    left: float | None = None,
    trivial: float | None = None,
    variance: float | None = None,
    log_size: float | None = None,
    lipschitz: Bound | float | None = None,
    log_covering: Callable[[float], float] | None = None,
    radii: Sequence[float] = tuple(10.0**k for k in np.arange(-12, 3.01, 0.25)),
    depth_error: Bound | float = 0.0,
) -> RiskBound:
    r"""A sampling bound on the cross-entropy (or any loss in an interval of length `range_`).

    | kind | right side | needs |
    |---|---|---|
    | "fixed" | $B\sqrt{\log(2/\delta)/2N}$ | |
    | "bernstein" | $\sqrt{2\hat\sigma^2\log(4/\delta)/N}+7B\log(4/\delta)/3(N-1)$ | `variance` |
    | "finite" | $B\sqrt{(\log M+\log(2/\delta))/2N}$ | `log_size` $=\log M$ |
    | "entropy" | $\inf_\eta2L_\theta\eta+B\sqrt{(\log\mathcal N(\eta)+\log(2/\delta))/2N}$ | `lipschitz`, `log_covering` |
    | "realisable" | $(\log M+\log(1/\delta))/N$, error of a member with no mistake | `log_size` |

    plus `depth_error`, $\mathrm{Lip}(\ell)C\varepsilon$, when the population risk is that of the flow and not of the
    network.

    **Arguments:** `number` $N$ of independent documents; `range_` $B$, from `loss_range` for a GPT; a plain number
    counts as certified by the caller; `left`, the measured deviation if known; `trivial`, default `range_` (1 if
    realisable): pass $\log K$ to call a bound vacuous that could not tell a model from guessing.

    **Raises:** `ConfigurationError` for an unknown kind or a missing ingredient.
    """
    _check(range_=range_, variance=variance, log_size=log_size, lipschitz=lipschitz, depth_error=depth_error)
    _check(Range(-math.inf), left=left, trivial=trivial)
    B = float(range_)
    constants = [c for c in (range_, depth_error, lipschitz) if isinstance(c, Certified | Estimated)]
    if kind == "fixed":
        sampling = concentration.hoeffding(B, number, delta)
    elif kind == "bernstein":
        sampling = concentration.empirical_bernstein(needed(kind, "variance", variance), B, number, delta)
    elif kind == "finite":
        sampling = concentration.finite_class(B, number, delta, needed(kind, "log_size", log_size))
    elif kind == "entropy":
        slope = float(needed(kind, "lipschitz", lipschitz))
        covering = needed(kind, "log_covering", log_covering)
        sampling, _ = concentration.metric_entropy(B, number, delta, slope, covering, radii)
    elif kind == "realisable":
        sampling = concentration.realisable(number, delta, needed(kind, "log_size", log_size))
    else:
        raise ConfigurationError(
            f"There is no bound of kind {kind!r}; choose fixed, bernstein, finite, entropy or realisable."
        )
    if trivial is None:
        trivial = 1.0 if kind == "realisable" else B
    certified = not any(isinstance(c, Estimated) for c in constants)
    source, extra = "; ".join(c.source for c in constants) or "range given by the caller", float(depth_error)
    return RiskBound(kind, left, sampling + extra, sampling, extra, number, delta, certified, trivial, source)


def _check(bounds: Range = NOT_NEGATIVE, **given: Bound | float | None) -> None:
    """Raises `ConfigurationError` for a plain number out of bounds."""
    for name, value in given.items():
        if value is not None and not isinstance(value, Certified | Estimated):
            bounds.check(name, value)


def needed(kind: str, name: str, value):
    """The value. Raises `ConfigurationError` if it was not given."""
    if value is None:
        raise ConfigurationError(f"A bound of kind {kind!r} needs the argument {name}.")
    return value


def loss_range(gpt: GPT, limit: int = 8192) -> Certified:
    r"""The largest cross-entropy of one token that any input can cause, $B$ with $0\le\ell\le B$.

    $\ell=\log\sum_k e^{z_k-z_y}\le\log K+\max_{j,k}\sup\langle w_j-w_k,\mathrm{LN}_f(x)\rangle$. With gain $g$ and shift
    $b$, $\mathrm{LN}_f(x)=g\odot u+b$ where $\sum u=0$ and $|u|\le\sqrt D$, so the supremum is
    $\sqrt D\,|\Pi(g\odot(w_j-w_k))|+\langle w_j-w_k,b\rangle$, Π the projection on zero sum. The bound through norms of
    the unembedding is several times larger. Vocabularies above `limit` use the triangle inequality around the mean
    row instead of all pairs: $O(VD)$, at most twice as large.
    """
    check_architecture(gpt)
    W = np.asarray(gpt.token_embedding if gpt.unembedding is None else gpt.unembedding, np.float64)
    V, D = W.shape
    scaled = W * np.asarray(gpt.ln_final.weight, np.float64)
    scaled -= scaled.mean(1, keepdims=True)
    shift = W @ np.asarray(gpt.ln_final.bias, np.float64) if gpt.ln_final.bias is not None else np.zeros(V)
    if limit < V:
        radius = np.linalg.norm(scaled - scaled.mean(0), axis=1) * math.sqrt(D)
        largest, source = (radius + shift).max() + (radius - shift).max(), "LayerNorm sphere, rows around their mean"
    else:
        largest, source = _largest_pair(scaled, shift), "LayerNorm sphere, all pairs of tokens"
    return Certified(math.log(V) + float(largest), f"range of the loss: {source}")


def _largest_pair(a: Float[np.ndarray, "V D"], s: Float[np.ndarray, " V"], chunk: int = 512) -> float:
    r"""$\max_{j,k}\sqrt D|a_j-a_k|+s_j-s_k$, in blocks of rows."""
    squares, best = (a**2).sum(1), 0.0
    for i in range(0, len(a), chunk):
        rows = slice(i, i + chunk)
        gaps = squares[rows, None] + squares[None] - 2 * a[rows] @ a.T
        # Cancellation can leave a small negative square; adding its size back keeps the result an upper bound.
        slack = 64 * np.finfo(a.dtype).eps * squares.max()
        best = max(best, float((np.sqrt(a.shape[1] * np.maximum(gaps + slack, 0)) + s[rows, None] - s[None]).max()))
    return best


@dataclass(frozen=True)
class Coverage:
    """A bound against repeated samples of known losses.

    `covered`, the share of samples whose deviation stays within the bound; `quantile`, the (1−δ)-quantile of the
    deviation; `width`, the mean bound; `looseness`, width over quantile.
    """

    covered: float
    quantile: float
    width: float

    @property
    def looseness(self) -> float:
        """Width of the bound over the actual (1−δ)-quantile of the deviation."""
        return self.width / self.quantile


def coverage(
    losses: Float[np.ndarray, " n"],
    number: int,
    range_: float,
    delta: float = 0.05,
    kind: Literal["fixed", "bernstein"] = "fixed",
    resamples: int = 1000,
    seed: int = 0,
) -> Coverage:
    """Resample a finite population of losses with replacement and count how often a bound holds.

    The population is `losses` (one number per document), so the deviation is known exactly for every sample.
    """
    draws = np.random.default_rng(seed).choice(losses, (resamples, number))
    deviation = np.abs(draws.mean(1) - losses.mean())
    if kind == "fixed":
        widths = np.full(resamples, concentration.hoeffding(range_, number, delta))
    elif kind == "bernstein":
        variances = draws.var(1, ddof=1)
        widths = np.asarray([concentration.empirical_bernstein(float(v), range_, number, delta) for v in variances])
    else:
        raise ConfigurationError(f"Coverage is counted for 'fixed' and 'bernstein' bounds, not {kind!r}.")
    quantile = float(np.quantile(deviation, 1 - delta, method="higher"))
    return Coverage(float((deviation <= widths).mean()), quantile, float(widths.mean()))

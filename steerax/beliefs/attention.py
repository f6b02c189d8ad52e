"""What the first attention layer of a trained network does, beside what was predicted before it was trained."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..data.chunks import chunks
from ..maths.keys import as_key, generator
from ..models.generalised import as_generalised
from .readout import CUTOFF_OF_WEIGHTS, fit_map, folds_of, held_out, score_of
from .second_moments import WienerFilter, wiener
from .streams import untrained
from .targets import strings_of, targets_of

_AT_ONCE = 512
_PER_COEFFICIENT = 4  # strings for each coefficient of a regression on the history, half of which fit
_FITTED_LAGS = 12  # the rate is fitted on lags 1 … 11


class Row(NamedTuple):
    """A row of the verdict: what was tested, the sentence with its numbers, and `"holds"`, `"does not hold"`, `"flat"` or
    `"outside"`."""

    name: str
    text: str
    verdict: str


@dataclasses.dataclass(frozen=True)
class AttentionReport:
    r"""What `attention_report` returns, at the last position of the strings, for the first layer.

    **Attributes:** `filter`, the prediction; `coefficients` `[T D V]`, the residual stream after attention regressed on the one-hot
    history, newest token first, and `linear_r2` of that regression; `variation`, the coefficient of variation of the attention
    weight at lag 1 over strings (0: attention does not look at content); `rate`, of the coefficients, lag by lag;
    `contributions` `[T d V]`, value × weight of every token through the read-out of the Wiener belief, by lag and token; `slope`
    and `contributions_r2` of them on the controls, lags ≥ 1; `profile` `[H T]`, mean attention of each head by lag; `wiener_r2`,
    `remainder_r2` (after attention and after the MLP): held-out probes, with those of an untrained network; `verdict`, rows.
    """

    filter: WienerFilter
    coefficients: Float[np.ndarray, "T D V"]
    linear_r2: float
    variation: float
    rate: float
    contributions: Float[np.ndarray, "T d V"]
    slope: float
    contributions_r2: float
    profile: Float[np.ndarray, "H T"]
    wiener_r2: tuple[float, float]
    wiener_r2_untrained: tuple[float, float]
    remainder_r2: tuple[float, float]
    remainder_r2_untrained: tuple[float, float]
    verdict: tuple[Row, ...]

    def summary(self) -> str:
        """The verdict in lines of text."""
        width = max(len(row.verdict) for row in self.verdict)
        return "\n".join(f"{row.verdict:<{width}}  {row.text}" for row in self.verdict)


def attention_report(
    network: Any, model: Any, tokens: Any, *, filter: WienerFilter | None = None, key: Any = 0
) -> AttentionReport:
    """Measure the first attention layer of a network on strings of a process, and set it beside the Wiener filter.

    **Arguments:** `network`, of the house (`hidden_states`, `block(0)`, `config`); `model`, the process; `tokens`, strings of one
    length without gaps, some thousands; `filter`, `wiener(model, T, heads)` if it is there already; `key`, of the halves and of the
    untrained network that is the null.

    **Raises:** `ConfigurationError` for a network without blocks; `DataError` for strings that do not fit, or are too few.
    """
    if not all(hasattr(network, name) for name in ("embed", "block", "config")):
        raise ConfigurationError(f"attention_report reads a network of the house, not a {type(network).__name__}.")
    process = as_generalised(model)
    strings = strings_of(tokens, process)
    n, T = strings.shape
    if T < 3:
        raise DataError("An attention report needs strings of at least three tokens.")
    if n < _PER_COEFFICIENT * T * process.n_tokens:
        raise DataError(
            f"The history of {T} tokens out of {process.n_tokens} has {T * process.n_tokens} coefficients; {n} strings are too few, "
            f"{_PER_COEFFICIENT * T * process.n_tokens} are needed."
        )
    rng = generator(key)
    filter = wiener(process, T, min(4, network.config.n_head)) if filter is None else filter
    targets = targets_of(process, strings, filter)
    last = {name: values[:, -1:] for name, values in targets.items()}
    twin = untrained(network, as_key(int(rng.integers(2**31))))
    half, ones = folds_of(strings, int(rng.integers(2**31))), np.ones((n, 1))
    p = np.asarray(filter.model.operators) @ np.asarray(filter.model.evaluation) @ np.asarray(filter.model.initial)
    seen = np.eye(len(p))[strings[:, ::-1]] - p
    of = lambda X, target: score_of(held_out(X[:, None], last[target], ones, half), last[target], ones).r2
    parts = _first_layer(network, strings)
    bare = _first_layer(twin, strings)
    pair = lambda which, target: (of(which["attention"], target), of(which["MLP"], target))
    coefficients, linear_r2 = _history(parts["attention"], seen, half)
    to_wiener = fit_map(parts["attention"].astype(np.float64), last["wiener"][:, 0], np.ones(n), CUTOFF_OF_WEIGHTS)
    contributions = _by_lag_and_token(parts["written"] @ to_wiener.weight, strings, p)
    slope, r2 = _on_controls(contributions, filter.lags, p)
    weights = parts["weights"][:, :, ::-1]  # [n H T], newest first
    lag_1 = weights[:, :, 1].sum(1)
    found = AttentionReport(
        filter, coefficients, linear_r2, float(lag_1.std() / lag_1.mean()), _rate(coefficients, p),
        contributions, slope, r2, weights.mean(0), pair(parts, "wiener"), pair(bare, "wiener"),
        pair(parts, "remainder"), pair(bare, "remainder"), (),
    )  # fmt: skip
    return dataclasses.replace(found, verdict=tuple(_verdict(found)))


def _first_layer(network: Any, strings: Int[np.ndarray, "n T"]) -> dict[str, np.ndarray]:
    """Of the last position: the stream after attention and MLP `[n D]`, attention `[n H T]`, and what each token writes
    `[n T D]`."""
    parts = [jax.tree.map(np.asarray, _layer_parts(network, jnp.asarray(strings[rows]))) for rows in chunks(len(strings), _AT_ONCE)]  # fmt: skip
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@eqx.filter_jit
def _layer_parts(network: Any, strings: Int[Array, "n T"]) -> dict[str, Array]:
    block = network.block(0)

    def one(z):
        x = network.embed(z)
        weights = block.attention(x)[:, -1]  # [H T]
        after = x + block.attention_increment(x)
        written = jnp.einsum("ht,htd->td", weights, block.offered(x))
        return {
            "attention": after[-1],
            "MLP": (after + block.mlp_increment(after))[-1],
            "weights": weights,
            "written": written,
        }

    return jax.vmap(one)(strings)


def _history(X: Float[np.ndarray, "n D"], seen: Float[np.ndarray, "n T V"], half) -> tuple[np.ndarray, float]:
    """Coefficients `[T D V]` of `X` on the one-hot history, tokens centred, and the held-out share that it explains."""
    n, T, V = seen.shape
    flat, ones = seen.reshape(n, 1, -1), np.ones((n, 1))
    X = X.astype(np.float64)[:, None]
    r2 = score_of(held_out(flat, X, ones, half, 1e-6), X, ones).r2
    weight = fit_map(flat[:, 0], X[:, 0], np.ones(n), 1e-6).weight
    return weight.reshape(T, V, -1).transpose(0, 2, 1), r2


def _rate(coefficients: Float[np.ndarray, "T D V"], p: Float[np.ndarray, " V"]) -> float:
    """$r$ of the best fit $B_k=r^{k-1}M$ over lags of one and more; NaN where there is nothing to fit."""
    from scipy.optimize import minimize_scalar

    B = coefficients - (coefficients @ p)[..., None]
    Y = (B[1:_FITTED_LAGS] * np.sqrt(p)).reshape(len(B[1:_FITTED_LAGS]), -1)
    if len(Y) < 2 or not (Y**2).sum() > 0:
        return float("nan")

    def missed(r):
        a = r ** np.arange(len(Y))
        return ((Y - np.outer(a, a @ Y / (a @ a))) ** 2).sum() / (Y**2).sum()

    start = min(np.linspace(-0.98, 0.98, 99), key=missed)
    found: Any = minimize_scalar(missed, bounds=(start - 0.03, start + 0.03), method="bounded")
    return float(found.x)


def _by_lag_and_token(
    written: Float[np.ndarray, "n T d"], strings: Int[np.ndarray, "n T"], p: Float[np.ndarray, " V"]
) -> Float[np.ndarray, "T d V"]:
    """Means of what tokens write by lag and token, centred over tokens."""
    T, d, V = strings.shape[1], written.shape[2], len(p)
    out = np.zeros((T, d, V))
    for k in range(T):
        z, value = strings[:, T - 1 - k], written[:, T - 1 - k]
        n = np.bincount(z, minlength=V)
        for i in range(d):
            out[k, i] = np.bincount(z, value[:, i], V) / np.maximum(n, 1)
    return out - (out @ p)[..., None]


def _on_controls(contributions, lags, p) -> tuple[float, float]:
    """Slope and R² of measured contributions on the centred controls over lags of one and more, tokens weighted by `p`."""
    controls = lags - (lags @ p)[..., None]
    x, y = (np.ravel(a[1:] * np.sqrt(p)) for a in (controls, contributions))
    if not (x @ x > 0 and y @ y > 0):
        return float("nan"), float("nan")
    slope = (x @ y) / (x @ x)
    return float(slope), float(1 - ((y - slope * x) ** 2).sum() / (y @ y))


def _verdict(r: AttentionReport):
    """The rows of the verdict table: a prediction, its threshold and its null."""
    w = r.filter
    if w.outside:
        yield Row("process", w.outside, "outside")
        return
    said = lambda ok: "holds" if ok else "does not hold"
    missed = w.missed[w.heads - 1]
    enough = missed <= 0.01
    note = "" if enough else "; the other rows are expected to fail"
    heads = f"{w.heads} non-negative lag profile{'s' * (w.heads > 1)} miss{'es' * (w.heads == 1)} {missed:.1%} of the Wiener weights (at most 1 %){note}"
    yield Row("heads", heads, said(enough))
    text = f"attention is linear in the history: R² {r.linear_r2:.4f} (at least .99), variation of its weight at lag 1 {r.variation:.3f} (at most .1)"
    yield Row("linear", text, said(r.linear_r2 >= 0.99 and r.variation <= 0.1))
    missing, before = 1 - r.wiener_r2[0], 1 - r.wiener_r2_untrained[0]
    text = f"the Wiener belief is read after attention: R² {r.wiener_r2[0]:.4f} (at least .99), untrained {r.wiener_r2_untrained[0]:.4f}, what is missing is {before / max(missing, 1e-12):.0f} times smaller (at least 10)"
    yield Row("wiener", text, said(r.wiener_r2[0] >= 0.99 and before >= 10 * missing))
    after, mlp = r.remainder_r2
    text = f"the remainder is not read after attention, R² {after:.3f} (at most .05), but after the MLP, {mlp:.3f} (at least .5); untrained {r.remainder_r2_untrained[1]:.3f} (at most .2)"
    yield Row("remainder", text, said(after <= 0.05 and mlp >= 0.5 and r.remainder_r2_untrained[1] <= 0.2))
    yield _rate_row(r)
    text = f"contributions of tokens on the Wiener weights: slope {r.slope:.3f} (.9 to 1.1), R² {r.contributions_r2:.4f} (at least .98)"
    yield Row("contributions", text, said(0.9 <= r.slope <= 1.1 and r.contributions_r2 >= 0.98))


def _rate_row(r: AttentionReport) -> Row:
    w = r.filter
    if not np.isfinite(w.rate):
        return Row("rate", "the process has no single real rate", "flat")
    eigenvalue = float(w.eigenvalues[0].real)
    off, off_eigenvalue = abs(r.rate - w.rate), abs(r.rate - eigenvalue)
    text = f"attention decays by {r.rate:.3f} per lag; Wiener {w.rate:.3f}, transition eigenvalue {eigenvalue:.3f}"
    if not w.is_identifiable:
        between = (
            ""
            if w.interval is None
            else f": all rates from {w.interval[0]:.2f} to {w.interval[1]:.2f} lose less than 1e-4 nats"
        )
        return Row("rate", f"{text}; not identifiable{between}", "flat")
    held = off <= 0.08 and 2 * off <= off_eigenvalue
    return Row(
        "rate", text + " (within .08, and twice as near as the eigenvalue)", "holds" if held else "does not hold"
    )

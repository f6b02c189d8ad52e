"""What `explain` returns: a prediction as a sum of terms, by span, and drawn on the observations."""

import dataclasses
import itertools
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError
from .._results import RESULTS
from ..data.vocabulary import Vocabulary

_MOST_FRAMED = 100_000  # weights in the frame of a notebook


class Explanation(eqx.Module):
    r"""What `explain` returns: `prior[q] + weights[q].sum(0) + remainder[q]` is the prediction at query `q`.

    `weights[q, s]` belongs to the observation $Z_s$ and is zero for $s\ge q$ and where nothing was observed. A batch axis comes first
    for a `Sequences`. Of the methods `deletion` alone does not add up: its `remainder` is what observations say together. That of the
    others is rounding.

    **Attributes:** `queries` `[q]`, times; `prior` `[q k]`, the prediction from no observation (of `control` the term of the first
    belief); `weights` `[q T k]` (`None` from `explain_norms`); `norms` `[q T]`, sums over the `k` columns of the target of absolute
    weights; `remainder` `[q k]`; `errors` `[q T k]`, standard errors of the weights where they were sampled (`shapley` of many
    observations); `method`; `columns`, the names of the k columns; `observations` `[T]` or `[T p]` and their `vocabulary`; `spans`
    `[S 2]`, first and last plus one, of `grouped` weights. Of a linear model also `controls` `[q T p k]`, the coefficients $u_t$ in
    `weights` $=-u_t^\top(Z_t-c)$, and `covariance` `[q k k]` of the error, by the methods that find them (`control`, `integrated`).
    `result`.
    """

    queries: Int[np.ndarray, "*batch q"]
    prior: Float[Array, "*batch q k"]
    weights: Float[Array, "*batch q T k"] | None
    norms: Float[Array, "*batch q T"]
    controls: Float[Array, "*batch q T p k"] | None = None
    covariance: Float[Array, "*batch q k k"] | None = None
    result: RESULTS | None = eqx.field(default=None, kw_only=True)
    remainder: Float[Array, "*batch q k"] | None = eqx.field(default=None, kw_only=True)
    errors: Float[Array, "*batch q T k"] | None = eqx.field(default=None, kw_only=True)
    observations: Any = eqx.field(default=None, kw_only=True)
    spans: Int[np.ndarray, "T 2"] | None = eqx.field(default=None, kw_only=True)
    method: str = eqx.field(static=True, default="control", kw_only=True)
    columns: tuple[str, ...] = eqx.field(static=True, default=(), kw_only=True)
    vocabulary: Vocabulary | None = eqx.field(static=True, default=None, kw_only=True)

    @property
    def prediction(self) -> Float[Array, "*batch q k"]:
        """What is explained. **Raises:** `ConfigurationError` without weights (`explain_norms`)."""
        weights = self._weights("prediction")
        return self.prior + weights.sum(-2) + (0 if self.remainder is None else self.remainder)

    @property
    def labels(self) -> list[str]:
        """The observations of one sequence as texts, one for each weight."""
        self._alone("labels")
        values = np.asarray(self.observations)
        texts = _symbols(values, self.vocabulary) if self.of_tokens else _rows(values)
        if self.spans is None:
            return texts
        between = "" if self.of_characters else " "
        return [between.join(texts[start:stop]) for start, stop in self.spans]

    @property
    def of_tokens(self) -> bool:
        """Whether the observations are tokens, not numbers."""
        return np.asarray(self.observations).dtype.kind in "iu"

    @property
    def of_characters(self) -> bool:
        """Whether the symbols are single characters, which read as a text without gaps."""
        return self.vocabulary is not None and all(len(symbol) == 1 for symbol in self.vocabulary.symbols)

    def grouped(self, spans: Sequence[tuple[int, int]] | Callable[[str], Any] | Any) -> "Explanation":
        """The same explanation with one term per span of observations, the sum of theirs; what lies in no span keeps its own.

        **Arguments:** `spans`, pairs `(start, stop)` that do not overlap; or a function of the symbol of a token: neighbours of equal
        value are one span, so `str.isspace` on characters gives words and the blanks between them.

        `errors` of a span are sums too, an upper bound. **Raises:** `ConfigurationError` for spans that overlap or lie outside, for
        several sequences, and without weights, and for what are no pairs of whole numbers.
        """
        weights = self._weights("grouped")
        self._alone("grouped")
        if self.spans is not None:
            raise ConfigurationError("These weights are grouped already; group those that explain returned.")
        where = _pieces(spans, self.labels)
        first = jnp.asarray(where[:, 0])
        weights = _sums(weights, first)
        return dataclasses.replace(
            self, weights=weights, norms=jnp.abs(weights).sum(-1), spans=where, controls=None,
            errors=None if self.errors is None else _sums(self.errors, first),
        )  # fmt: skip

    def to_html(self, path: str | os.PathLike | None = None, *, overwrite: bool = False) -> str:
        """The observations drawn with their weights, as the text of one HTML page that needs nothing else; written to `path` if given.

        **Raises:** `ConfigurationError` if there is something at `path` and `overwrite` is false, without weights, and for more
        numbers than a page holds (a million).
        """
        from .explanation_page import page_text, write_html

        self._weights("to_html")
        return page_text(self) if path is None else write_html(self, path, overwrite)

    def _repr_html_(self) -> str | None:
        """For a notebook: the page in a frame, unless it would be too large for one."""
        import html

        if self.weights is None or self.observations is None or self.weights.size > _MOST_FRAMED:
            return None
        return f'<iframe width="100%" height="420" style="border:0" srcdoc="{html.escape(self.to_html())}"></iframe>'

    def _weights(self, what: str) -> Float[Array, "*batch q T k"]:
        if self.weights is None:
            raise ConfigurationError(f"{what} needs weights, which explain_norms does not keep; use explain.")
        return self.weights

    def _alone(self, what: str) -> None:
        if self.prior.ndim != 2 or self.observations is None:
            raise ConfigurationError(f"{what} is of the explanation of one sequence; explain data[i].")


def _symbols(tokens: np.ndarray, vocabulary: Vocabulary | None) -> list[str]:
    """Tokens as texts."""
    symbols = (vocabulary or Vocabulary.of_codes(int(tokens.max(initial=0)) + 1)).decode(tokens)
    missing = "□" if vocabulary is not None else "(missing)"
    return [missing if symbol is None else symbol for symbol in symbols]


def _rows(values: np.ndarray) -> list[str]:
    """Rows of numbers as texts."""
    rows = [", ".join("–" if np.isnan(x) else f"{x:.4g}" for x in row) for row in values]
    return rows if values.shape[1] == 1 else [f"({row})" for row in rows]


def _several(spans: Any) -> list:
    if isinstance(spans, str) or not isinstance(spans, Iterable):
        raise ConfigurationError(f"grouped takes pairs (start, stop) or a function of a symbol, not {spans!r}.")
    return list(spans)


def _span(span: Any) -> tuple[int, int]:
    try:
        start, stop = span
        return operator.index(start), operator.index(stop)
    except (TypeError, ValueError):
        raise ConfigurationError(f"A span is a pair of whole numbers (start, stop), not {span!r}.") from None


def _sums(x: Float[Array, "q T k"], first: Int[Array, " S"]) -> Float[Array, "q S k"]:
    """Sums over the spans that begin at `first`."""
    span = jnp.searchsorted(first, jnp.arange(x.shape[1]), side="right") - 1
    return jnp.zeros((x.shape[0], len(first), x.shape[2]), x.dtype).at[:, span].add(x)


def _pieces(spans: Any, labels: list[str]) -> Int[np.ndarray, "S 2"]:
    """Spans that cover everything, in order. **Raises:** `ConfigurationError` if they overlap or lie outside."""
    if callable(spans):
        sizes = [len(list(group)) for _, group in itertools.groupby(labels, spans)]
        ends = np.cumsum(sizes, dtype=int)
        return np.stack([ends - sizes, ends], 1).astype(int).reshape(-1, 2)
    given, pieces, at, T = sorted(map(_span, _several(spans))), [], 0, len(labels)
    for start, stop in [*given, (T, T)]:
        if not (at <= start <= stop <= T) or (start == stop and start < T):
            raise ConfigurationError(
                f"The span ({start}, {stop}) is empty, overlaps another or leaves the observations 0 … {T}."
            )
        pieces += [(i, i + 1) for i in range(at, start)] + ([(start, stop)] if stop > start else [])
        at = stop
    return np.array(pieces, dtype=int).reshape(-1, 2)

"""`OptimalAttentionClassifier`: the best attention network for a table of categorical sequences, with a proof."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ..._bounds import COUNT, COUNT_OR_ZERO, POSITIVE, SEED, Range
from ..._errors import ConfigurationError, DataError
from ...runs.files import free_place, write_whole
from ...transformer.quantized import QuantizedNetwork
from ..certificate.export import write_network
from .alternatives import Alternatives, alternatives
from .attention import Attention, TestAttention, attended, draw
from .certificate import ClassifierCertificate
from .choice import choose_by_bound, choose_by_folds, table_rows
from .contexts import Context, contexts_of
from .conventions import Estimator
from .costs import exact, integer_costs
from .description import bits, error_bound
from .heads import LARGEST_BY_DEFAULT, Shape, Sight, columns, families_of, number_of_tests, tests_of
from .library import library
from .network import build_network, with_reader
from .problem import Problem, heads_in, labels_of, leaf_numbers, leaves_in
from .rivals import contestants
from .search import SearchProgress, search
from .table import Alphabet, alphabet_of
from .words import head_in_words, rule_in_words


class OptimalAttentionClassifier(Estimator):
    r"""The network of class CAT(`depth`) with the least cost of wrong labels plus price of tests, and a proof that it is.

    One head gives every token a fact about the others; a read-out token then walks through `depth` attention tests, each chosen by the
    outcomes before; a table answers. The conventions are those of scikit-learn.

    **Arguments:**

    - `depth`, 1, 2 or 3 tests in a row; "cv" or "bound" choose it by cross-validation or by `generalisation_bound`.
    - `sparsity` λ, the price of a test and of a context, as a share of the largest possible cost (of all rows, without weights).
    - `contexts`, "auto" (those with few tests, without mirror), "all", or some of none, back, back:k, first, last, repeat, balance,
      mirror, pair; `certificate_.problem.contexts` lists them.
    - `tests`, "auto", "all", or some of place, count, compare, selection, odd.
    - `time_limit`, seconds, kept within a tenth, or None (the loops are compiled once per installation, which is not counted); `memory_limit`, bytes of the tests, or None.
    - `length`, of the longest row that will be read; `vocabulary`, "auto", "shared" or "columns"; `unknown`, "error" or "other": what a name
      is that training did not show (see `table.alphabet_of`).
    - `class_weight`, None, "balanced" or a dictionary; `cost_matrix [K K]`, the cost of answering column k for class y, in the
      order of `classes_`. Weights and costs become exact integers, or are refused.
    - `folds`, and `random_state`, their seed, for depth="cv"; `n_jobs`, threads, None for one a core; `progress`, called with
      a `SearchProgress` now and then.

    **Attributes, after `fit`:** `classes_`, `n_features_in_` (and `feature_names_in_`), `depth_`, `status_` ("proven" or "gap"), `objective_`,
    `lower_bound_` and `gap_` in units of one error, `bits_` (length of the description), `rule_` in words, `context_`, `tree_`, `certificate_`.
    """

    def __init__(
        self,
        depth: int | Literal["cv", "bound"] = 2,
        sparsity: float | int = 0.01,
        contexts: str | Sequence[str] = "auto",
        tests: str | Sequence[str] = "auto",
        time_limit: float | int | None = 60,
        memory_limit: int | None = None,
        length: int | None = None,
        vocabulary: str = "auto",
        unknown: str = "error",
        class_weight: Any = None,
        cost_matrix: Any = None,
        folds: int = 5,
        random_state: int = 0,
        n_jobs: int | None = None,
        progress: Callable[[SearchProgress], Any] | None = None,
    ):
        self.depth, self.sparsity, self.contexts, self.tests = depth, sparsity, contexts, tests
        self.time_limit, self.memory_limit, self.length = time_limit, memory_limit, length
        self.vocabulary, self.unknown = vocabulary, unknown
        self.class_weight, self.cost_matrix = class_weight, cost_matrix
        self.folds, self.random_state, self.n_jobs, self.progress = folds, random_state, n_jobs, progress

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OptimalAttentionClassifier":
        """Find the best network. `X [N n]`, a table or a list of sequences (see `table.alphabet_of`); `y [N]`; `sample_weight [N]` ≥ 0.

        **Raises:** `DataError` or `ConfigurationError` for what cannot be used.
        """
        started = time.monotonic()
        self._check()
        labels = _labels(y)
        weights = np.ones(len(labels), int) if sample_weight is None else np.asarray(sample_weight)
        if weights.shape != labels.shape:
            raise DataError(
                f"sample_weight has the shape {weights.shape}; there must be one weight for each of the {len(labels)} labels."
            )
        used = weights != 0
        if len(labels) and not used.any():
            raise DataError("All sample weights are zero; at least one row must count.")
        if self.depth in ("cv", "bound"):
            return (
                choose_by_folds(self, X, y, sample_weight)
                if self.depth == "cv"
                else choose_by_bound(self, X, y, sample_weight)
            )
        alphabet = alphabet_of(X, self.length, self.vocabulary, self.unknown, used.tolist())
        self.alphabet_ = alphabet
        rows = X if used.all() else [row for row, use in zip(table_rows(X), used, strict=True) if use]
        codes = alphabet.read(rows)
        self.classes_, indices = np.unique(labels[used], return_inverse=True)
        costs = integer_costs(indices, self.classes_, self.sparsity, weights[used], self.class_weight, self.cost_matrix)
        contexts, shape = self._class(alphabet)
        problem = Problem(codes, costs.of * costs.multiple, costs.price, contexts, shape, int(self.depth))
        threads = self.n_jobs or os.cpu_count() or 1
        limit = None if self.time_limit is None else max(0.0, self.time_limit - (time.monotonic() - started))
        found = search(problem, limit, self.memory_limit, threads, self.progress)
        self.depth_, self.n_features_in_, self._unit = int(self.depth), alphabet.length, costs.unit
        if alphabet.columns is not None and all(isinstance(name, str) for name in alphabet.columns):
            self.feature_names_in_ = np.array(alphabet.columns, object)
        self.context_, self.tree_, self.seconds_, self.stopped_ = (
            found.context,
            found.tree,
            found.seconds,
            found.stopped,
        )
        columns_ = max(found.tests.values(), default=1)
        self.certificate_ = ClassifierCertificate(
            problem, found.context, found.tree, found.lower, found.upper, str(costs.unit), columns_
        )
        self.targets_, self._weights = indices, weights[used]
        self._describe()
        return self

    def _class(self, alphabet: Alphabet) -> tuple[tuple[Context, ...], Shape]:
        """Γ and what the tests depend on. "auto" leaves out the comparisons of counts, and contexts, that make too many tests."""
        a = alphabet
        homes = tuple(name[0] for name in a.names) if a.by_column else ()
        shape = Shape(a.length, a.size, a.ragged, a.by_column, families_of(self.tests, a.by_column), homes)
        contexts = contexts_of(self.contexts, a.length, a.size, a.by_column)
        if self.tests == "auto" and number_of_tests(contexts[0], shape) > LARGEST_BY_DEFAULT:
            shape = shape._replace(families=tuple(name for name in shape.families if name != "compare"))
        if self.contexts == "auto":
            few = (c for c in contexts[1:] if number_of_tests(c, shape) <= LARGEST_BY_DEFAULT)
            contexts = (contexts[0], *few)
        return contexts, shape

    def _describe(self) -> None:
        """The attributes that follow from the network."""
        p, found = self.certificate_.problem, self.certificate_
        self.status_ = "proven" if found.lower == found.upper else "gap"
        in_errors = lambda value: float(Fraction(value) / self._unit)
        self.objective_, self.lower_bound_ = in_errors(found.upper), in_errors(found.lower)
        self.gap_ = in_errors(found.upper - found.lower)
        self.bits_ = bits(self.context_, self.tree_, len(p.contexts), p.shape, len(self.classes_))
        self.rule_ = rule_in_words(self.tree_, self.context_, self.alphabet_, self.classes_)
        leaf = leaf_numbers(self.tree_, Sight(self.context_, p.shape.V, p.codes))
        mass = np.zeros((leaves_in(self.tree_), len(self.classes_)))
        np.add.at(mass, (leaf, self.targets_), self._weights.astype(float))
        self._shares = mass / mass.sum(1, keepdims=True)
        self._wrong = int((labels_of(self.tree_, Sight(self.context_, p.shape.V, p.codes)) != self.targets_).sum())

    def predict(self, X: Any) -> np.ndarray:
        """The labels `[N]` of rows."""
        sight = self._sight(X)
        return self.classes_[labels_of(self.tree_, sight)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "N K"]:
        """The shares of the classes among the training rows that end in the same answer."""
        sight = self._sight(X)
        return self._shares[leaf_numbers(self.tree_, sight)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The (weighted) share of right labels."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def _sight(self, X: Any) -> Sight:
        self._fitted()
        return Sight(self.context_, self.alphabet_.size, self.alphabet_.read(X))

    def generalisation_bound(self, confidence: float | int = 0.95) -> float:
        """With this confidence the share of wrong labels among new rows from the same source is no larger: training error plus what a
        description of `bits_` bits costs. For independent rows, unweighted; 1 where it says nothing."""
        self._fitted()
        return error_bound(self._wrong, len(self.targets_), self.bits_, confidence)

    @property
    def network_(self) -> QuantizedNetwork:
        """The same network as an integer transformer; it reads `tokens(X)`."""
        self._fitted()
        a, p = self.alphabet_, self.certificate_.problem
        symbols = [f"{a.columns[n[0]] if a.columns else n[0]}={n[1]}" if a.by_column else str(n) for n in a.names]
        taken = set(symbols)
        if len(taken) < len(symbols):
            symbols = [repr(name) for name in a.names]
            taken = set(symbols)
        for special in ("<nothing>", "<other>", "<read>"):
            while special in taken:
                special = f"<{special}>"
            symbols.append(special)
        classes = [str(c) for c in self.classes_]
        return build_network(
            self.context_, self.tree_, p.shape, f"optimal attention network of depth {self.depth_}", symbols, classes
        )

    def tokens(self, X: Any) -> Int[np.ndarray, "N m"]:
        """Rows as the codes that `network_` reads: the read-out token before every row."""
        self._fitted()
        return with_reader(self.alphabet_.read(X), self.alphabet_.size)

    def export(self, folder: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write the network as `network.json`, `run_network.py` (needs NumPy only) and `network.h` (C99), and the rule as `rule.txt`.

        A row is read as the token `<read>`, then its tokens, then `<nothing>` up to the largest length.
        """
        free_place(Path(folder) / "rule.txt", overwrite)
        paths = write_network(self.network_, folder, overwrite=overwrite)
        write_whole(Path(folder) / "rule.txt", self.rule_ + "\n")
        return [*paths, Path(folder) / "rule.txt"]

    def alternatives(self, slack: float | int = 0, X: Any = None, limit: int = 1000) -> Alternatives:
        """All networks whose objective is at most `slack` errors above the optimum, at depth 1 and 2.

        **Arguments:** `X`, rows on which they may differ (`answers`, `agreed` speak of these, else of the training rows); `limit`, of
        the list. **Raises:** `ConfigurationError` at depth 3, or where the optimum is not proven.
        """
        self._fitted()
        COUNT_OR_ZERO.check("limit", limit)
        if self.depth_ > 2 or self.status_ != "proven":
            raise ConfigurationError(
                f"All alternatives are listed for a proven optimum of depth 1 or 2, and this one has depth {self.depth_} and status "
                f"{self.status_!r}; fit with depth=2 and enough time."
            )
        problem, floor = self.certificate_.problem.merged()
        rows = self.certificate_.problem.codes if X is None else self.alphabet_.read(X)
        room = int(exact(slack, "slack") * self._unit)
        found = alternatives(problem, self.certificate_.upper - floor, room, rows, limit)
        found = found.shifted(floor, len(problem.codes))
        listed = (found.networks[place] for place in found.firsts)
        rules = tuple(rule_in_words(tree, context, self.alphabet_, self.classes_) for _, context, tree in listed)
        return replace(found, rules=rules)

    def attention(self, x: Any) -> Attention:
        """Which tokens of one row the tests on its way look at, as the integer network computes it. `x`, a sequence, a string, or a
        dictionary of named cells."""
        row = {name: [cell] for name, cell in x.items()} if isinstance(x, dict) else [x]
        self._fitted()
        return self.attention_of_codes(self.alphabet_.read(row)[0])

    def attention_of_codes(self, codes: Int[np.ndarray, " n"]) -> Attention:
        """`attention` of a row that is read already."""
        a, network = self.alphabet_, self.network_
        T, heads, tokens = int((codes != a.nothing).sum()), heads_in(self.tree_), with_reader(codes[None], a.size)
        tests = tuple(
            TestAttention(head_in_words(heads[i], self.context_, a), weights[:T], reads[:T], hard, holds)
            for i, weights, reads, hard, holds in attended(network, self.tree_, tokens[0])
        )
        symbols = network.symbols
        assert symbols is not None
        return Attention(tuple(symbols[c] for c in codes[:T]), tests, self.classes_[network(tokens)[0]])

    def plot(self, x: Any, ax: Any = None) -> Any:
        """Draw `attention(x)` with matplotlib (extra `plot`): tests from top to bottom, tokens from left to right; orange speaks for a test,
        blue against it. The axes, of a new figure if none are given."""
        return draw(self.attention(x), ax)

    def to_html(
        self,
        path: str | os.PathLike,
        X: Any = None,
        y: Any = None,
        *,
        slack: float | int | None = 0,
        gradient: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Write a page: the rule as a picture, accuracy beside the best tree and gradient training of the same class, where it looks, and what
        else is as good.

        **Arguments:** `X`, `y`, rows that it was not trained on; `slack`, of the alternatives, None for none; `gradient`, whether to train.
        """
        from .page import write_html

        self._fitted()
        held = None if X is None else (self.alphabet_.read(X), _labels(y))
        write_html(self, path, contestants(self, gradient), held, slack, overwrite)

    def tests_as_columns(self, X: Any) -> tuple[Bool[np.ndarray, "N M"], list[str]]:
        """Every test of the class that splits the training rows, once, as a column of bits, with its words: for other learners."""
        self._fitted()
        p, codes = self.certificate_.problem.merged()[0], self.alphabet_.read(X)
        seen: set[bytes] = set()
        base, out, words = None, [], []
        for context in p.contexts:
            found = library(context, p.shape, p.codes, base)
            base = base or found
            skip = 0 if context.kind == "none" else base.base
            all_ = np.concatenate([np.zeros((0, len(codes)), bool), *columns(context, p.shape, codes)])
            heads, first = tests_of(context, p.shape), 0 if not skip else len(tests_of(p.contexts[0], p.shape))
            for i in range(skip, len(found.bits)):
                if (key := found.bits[i].tobytes()) not in seen:
                    seen.add(key)
                    number = int(found.number[i]) - first
                    out.append(all_[number])
                    words.append(head_in_words(heads[number], context, self.alphabet_))
        return np.array(out, bool).reshape(len(out), len(codes)).T, words

    def _check(self) -> None:
        """**Raises:** `ConfigurationError` for arguments out of range."""
        if self.depth not in ("cv", "bound"):
            Range(1, 3, whole=True).check("depth", self.depth)
        Range(0, 1).check("sparsity", self.sparsity)
        COUNT.check("folds", self.folds)
        SEED.check("random_state", self.random_state)
        for name, bounds in (
            ("time_limit", POSITIVE),
            ("memory_limit", COUNT_OR_ZERO),
            ("length", COUNT),
            ("n_jobs", COUNT),
        ):
            if (value := getattr(self, name)) is not None:
                bounds.check(name, value)


def _labels(y: Any) -> np.ndarray:
    """Labels as an array. **Raises:** `DataError` for what is no label."""
    if y is None:
        raise DataError("This classifier requires y to be passed, but the target y is None.")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"The labels have the shape {labels.shape}; there must be one a row.")
    missing = [
        i
        for i, label in enumerate(labels.tolist())
        if label is None or type(label).__name__ == "NAType" or label != label
    ]
    if missing:
        raise DataError(f"Label {missing[0]} is missing; remove the row.")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise DataError(
            "Unknown label type: continuous. The labels are numbers with fractions; a classifier needs classes."
        )
    if labels.dtype.kind == "O" and len({type(label) for label in labels.tolist()}) > 1:
        raise DataError("The labels are of several types; use strings or whole numbers.")
    return labels

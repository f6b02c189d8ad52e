"""The depth of a classifier, chosen by cross-validation or by the bound on its error."""

from typing import Any

import numpy as np

from ..._errors import ConfigurationError, DataError

DEPTHS = (1, 2, 3)


def choose_by_folds(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Fit at the depth with the best mean accuracy over folds that keep the shares of the classes; ties to the smaller depth.

    Half of the time limit goes to the folds. The model gets `cv_scores_`, depth → accuracy of every fold.
    """
    labels, rows = np.asarray(y), table_rows(X)
    if len(rows) != len(labels):
        raise DataError(f"There are {len(rows)} rows and {len(labels)} labels; there must be one label a row.")
    weights = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight)
    _, counts = np.unique(labels, return_counts=True)
    if not 2 <= model.folds <= counts.max():
        raise ConfigurationError(
            f"folds={model.folds}: choose 2 folds or more, and no more than rows of a class ({counts.max()})."
        )
    fold = np.zeros(len(labels), int)
    rng = np.random.default_rng(model.random_state)
    for number, label in enumerate(np.unique(labels)):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = (np.arange(len(members)) + number) % model.folds
    scores: dict[int, list[float]] = {}
    limit = None if model.time_limit is None else model.time_limit / 2 / model.folds / len(DEPTHS)
    for depth in DEPTHS:
        scores[depth] = []
        for held in range(model.folds):
            own = _copy(model, depth=depth, time_limit=limit, unknown="other", length=max(map(len, rows)))
            train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            pick = lambda at: _pick(X, rows, at)
            own.fit(pick(train), labels[train], None if sample_weight is None else weights[train])
            scores[depth].append(own.score(pick(test), labels[test], weights[test] if weights[test].any() else None))
    best = max(DEPTHS, key=lambda depth: (round(float(np.mean(scores[depth])), 12), -depth))
    limit = None if model.time_limit is None else model.time_limit / 2
    _take(model, _copy(model, depth=best, time_limit=limit).fit(X, y, sample_weight))
    model.cv_scores_ = scores
    return model


def choose_by_bound(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Fit at every depth, a third of the time each, and keep the smallest bound on the error; ties to the smaller depth.

    The model gets `bounds_`, depth → bound. The bound of the one chosen holds with the confidence of all three together, 1 − 3η.
    """
    limit = None if model.time_limit is None else model.time_limit / len(DEPTHS)
    fitted = {depth: _copy(model, depth=depth, time_limit=limit).fit(X, y, sample_weight) for depth in DEPTHS}
    bounds = {depth: own.generalisation_bound() for depth, own in fitted.items()}
    _take(model, fitted[min(DEPTHS, key=lambda depth: (bounds[depth], depth))])
    model.bounds_ = bounds
    return model


def table_rows(X: Any) -> list[Any]:
    """The rows of a table, one by one, without the names of its columns."""
    if isinstance(X, dict):
        return list(zip(*X.values(), strict=True))
    if hasattr(X, "columns") and hasattr(X, "shape"):
        return list(zip(*(list(X[name]) for name in X.columns), strict=True))
    return list(X)


def _pick(X: Any, rows: list[Any], at: np.ndarray) -> Any:
    """Some rows, with the names of the columns if there are any."""
    some = [rows[i] for i in at]
    names = list(X) if isinstance(X, dict) else list(X.columns) if hasattr(X, "columns") else None
    return some if names is None else dict(zip(names, zip(*some, strict=True), strict=True))


def _copy(model: Any, **changes: Any) -> Any:
    return type(model)(**(model.get_params() | changes))


def _take(model: Any, fitted: Any) -> None:
    """What a fitted model has learnt, without its arguments."""
    arguments = set(model.get_params())
    model.__dict__.update({name: value for name, value in vars(fitted).items() if name not in arguments})

"""How good and how fast is the optimal attention classifier beside optimal trees, CART, logistic regression and gradients?

Per task and split: train and test accuracy, seconds, bits and what is proven. "attention L" is `OptimalAttentionClassifier`; "gradient L"
the same class by straight-through training with the same price; "tree L" pystreed's optimal tree of depth L on one-hot columns with
the same price; "CART" scikit-learn's, its depth by cross-validation; "logistic" with its penalty by cross-validation; "greedy" a
greedy tree of depth 3 on our tests as columns, its pruning by cross-validation; "majority" the most frequent label.
`--times` measures depth 2 by the number of rows instead (V = 4, n = 12, three words, 5 % wrong labels).

    python -m benchmarks.classifier [TASK ...] [--splits 5] [--seconds 10] [--times] [--quick]
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable

import numpy as np

import steerax as sx

from .classifier_tasks import TASKS, Split, sequences
from .timing import machine, read, write

SPARSITY = 0.01


def learners(seconds: float) -> dict[str, Callable[[Split], dict]]:
    """What is compared: functions of a split."""
    return {
        "attention 2": lambda split: attention(split, 2, seconds),
        "attention 3": lambda split: attention(split, 3, seconds),
        "gradient 2": lambda split: gradient(split, 2),
        "gradient 3": lambda split: gradient(split, 3),
        "tree 3": lambda split: tree(split, 3),
        "tree 4": lambda split: tree(split, 4),
        "CART": cart,
        "logistic": logistic,
        "greedy": greedy,
        "majority": majority,
    }


def attention(split: Split, depth: int, seconds: float) -> dict:
    X, y, *_ = split
    model = sx.OptimalAttentionClassifier(depth, SPARSITY, time_limit=seconds, unknown="other").fit(X, y)
    gap = model.gap_ / len(y)
    return scored(split, model.predict) | {"bits": model.bits_, "status": model.status_, "gap": gap}


def gradient(split: Split, depth: int) -> dict:
    from steerax.lifted.classifier.gradient import train
    from steerax.lifted.classifier.heads import Sight
    from steerax.lifted.classifier.problem import labels_of

    X, y, *_ = split
    # the problem is that of a search that is given no time
    model = sx.OptimalAttentionClassifier(depth, SPARSITY, time_limit=1e-3, unknown="other").fit(X, y)
    problem = model.certificate_.problem
    found = train(problem)
    answer = lambda X: labels_of(found.tree, Sight(found.context, problem.shape.V, model.alphabet_.read(X)))
    return scored(split, lambda X: model.classes_[answer(X)])


def tree(split: Split, depth: int) -> dict:
    import pandas
    from pystreed import STreeDClassifier

    one_hot, classes = _one_hot(split), np.unique(split[1])
    frame = lambda X: pandas.DataFrame(one_hot(X).astype(int))
    model = STreeDClassifier("cost-complex-accuracy", max_depth=depth, cost_complexity=SPARSITY, time_limit=60)
    model.fit(frame(split[0]), np.searchsorted(classes, split[1]))
    return scored(split, lambda X: classes[np.asarray(model.predict(frame(X)), int)]) | {
        "bits": _bits(model.get_n_leaves(), one_hot(split[0]).shape[1], len(classes))
    }


def cart(split: Split) -> dict:
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    one_hot = _one_hot(split)
    model = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3, 4, 6, 8, 12]}, cv=5)
    model.fit(one_hot(split[0]), split[1])
    bits = _bits(model.best_estimator_.get_n_leaves(), one_hot(split[0]).shape[1], len(np.unique(split[1])))
    return scored(split, lambda X: model.predict(one_hot(X))) | {"bits": bits}


def logistic(split: Split) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    one_hot = _one_hot(split)
    model = GridSearchCV(LogisticRegression(max_iter=500), {"C": np.logspace(-3, 3, 5)}, cv=5)
    model.fit(one_hot(split[0]), split[1])
    return scored(split, lambda X: model.predict(one_hot(X))) | {"bits": 32.0 * model.best_estimator_.coef_.size}


def greedy(split: Split) -> dict:
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    X, y, *_ = split
    tests = sx.OptimalAttentionClassifier(1, SPARSITY, time_limit=60, unknown="other").fit(X, y)
    columns = lambda X: tests.tests_as_columns(X)[0]
    model = GridSearchCV(DecisionTreeClassifier(random_state=0, max_depth=3), {"ccp_alpha": [0.01, 0.003, 0]}, cv=5)
    model.fit(columns(X), y)
    bits = _bits(model.best_estimator_.get_n_leaves(), columns(X[:1]).shape[1], len(np.unique(y)))
    return scored(split, lambda X: model.predict(columns(X))) | {"bits": bits}


def majority(split: Split) -> dict:
    names, counts = np.unique(split[1], return_counts=True)
    return scored(split, lambda X: np.full(len(X), names[counts.argmax()]))


def scored(split: Split, predict: Callable) -> dict:
    """Accuracy on either part."""
    X, y, fresh, truth = split
    return {"train": float((predict(X) == y).mean()), "test": float((predict(fresh) == truth).mean())}


def _one_hot(split: Split) -> Callable[[np.ndarray], np.ndarray]:
    names = [np.unique(column) for column in split[0].T]
    return lambda X: np.concatenate(
        [column[:, None] == of[None, :] for column, of in zip(X.T, names, strict=True)], axis=1
    )


def _bits(leaves: int, columns: int, classes: int) -> float:
    """Of a tree: its shape, the column of each test and the label of each leaf."""
    return float((leaves - 1) * np.log2(columns) + leaves * np.log2(classes) + 2 * leaves - 1)


def compare(name: str, splits: int, seconds: float) -> dict:
    """Every learner on every split of a task: means, and the standard error of test accuracy."""
    found = defaultdict(list)
    for seed in range(splits):
        split = TASKS[name](seed)
        for learner, run in learners(seconds).items():
            began = time.perf_counter()
            row = run(split)
            found[learner].append(row | {"seconds": time.perf_counter() - began})
    table = {}
    for learner, rows in found.items():
        mean = lambda key, rows=rows: float(np.mean([row[key] for row in rows]))
        test = [row["test"] for row in rows]
        table[learner] = {key: mean(key) for key in rows[0] if key != "status"}
        table[learner]["standard_error"] = float(np.std(test, ddof=1) / len(test) ** 0.5) if splits > 1 else 0.0
        if "status" in rows[0]:
            table[learner]["proven"] = sum(row["status"] == "proven" for row in rows)
    return table


def show(name: str, table: dict) -> None:
    print(f"\n{name}")
    for learner, row in table.items():
        more = f", proven {row['proven']}, gap {row['gap']:.3f}" if "proven" in row else ""
        bits = f", {row['bits']:.0f} bits" if "bits" in row else ""
        print(
            f"  {learner:<12} train {row['train']:.3f} test {row['test']:.3f} ± {row['standard_error']:.3f}, "
            f"{row['seconds']:.2f} s{bits}{more}",
            flush=True,
        )


def timed(rows: int) -> dict:
    """Depth 2 on strings of 12 names out of 4, with all contexts of "auto"."""
    X, y, *_ = sequences(lambda x: ("ab" in x) + ("cd" in x) + ("ba" in x), "abcd", 12, rows, 0.05)(0)
    began = time.perf_counter()
    model = sx.OptimalAttentionClassifier(2, SPARSITY, time_limit=None).fit(X, y)
    seconds = time.perf_counter() - began
    tests = len(model.tests_as_columns(X[:1])[1])
    print(f"{rows} rows: {seconds:.2f} s, {tests} distinct tests, {model.status_}", flush=True)
    return {"rows": rows, "seconds": seconds, "tests": tests, "status": model.status_}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # the peers'
    record = read("classifier") or {"tasks": {}}
    sx.OptimalAttentionClassifier(2).fit([["a"], ["b"]], [0, 1])  # the loops are compiled once per installation
    if options.times:
        record["times"] = [timed(rows) for rows in ((1000,) if options.quick else (1000, 10_000))]
        record["times_machine"] = machine()
    else:
        splits, seconds = (1, 1.0) if options.quick else (options.splits, options.seconds)
        for name in options.tasks or (["monks-1", "has ab"] if options.quick else TASKS):
            try:
                table = compare(name, splits, seconds)
            except LookupError as reason:
                print(f"\n{name}: left out, {reason}")
                continue
            show(name, table)
            record["tasks"][name] = table
            if not options.quick:
                write("classifier", record)  # each task as it is found
        record |= {"machine": machine(("scikit-learn", "pystreed")), "splits": splits, "seconds": seconds}
    write("classifier_quick" if options.quick else "classifier", record)


if __name__ == "__main__":
    main()

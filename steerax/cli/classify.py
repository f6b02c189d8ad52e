"""`steerax classify TABLE`: the best attention rule for a table of sequences, with a proof, beside the best tree."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from .._bounds import COUNT, POSITIVE, PROBABILITY, SHARE, Range
from .._errors import ConfigurationError, DataError
from .answers import Answer, say
from .options import Options, Overwrite, Seed, check_place, command

_FILES = ("certificate", "network.json", "run_network.py", "network.h", "rule.txt", "rule.html", "predictions.csv")
_RULES_SHOWN = 5

Columns = dict[str, list[str | None]]


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    table: Annotated[Path, "a CSV file with a header: one sequence, or one row of categories, a line"]
    _: dataclasses.KW_ONLY
    label: Annotated[str, "column of the classes"] = "label"
    test: Annotated[Path | None, "another such file, on which the rule is tried"] = None
    holdout: Annotated[float | None, "share of the rows that is held out for a test", SHARE] = None
    splits: Annotated[
        int, "how many times --holdout is drawn, for standard errors; the rule is that of the first", COUNT
    ] = 1
    predict: Annotated[Path | None, "a file of rows to label: one label a line, in --out as predictions.csv"] = None
    depth: Annotated[int, "tests in a row", Range(1, 3, whole=True)] = 2
    sparsity: Annotated[float, "price of a test, as a share of all rows", PROBABILITY] = 0.01
    contexts: Annotated[str, "auto, all, or names between commas: back, first, last, repeat, balance, mirror, pair"] = (
        "auto"
    )
    tests: Annotated[str, "auto, all, or names between commas: place, count, compare, selection, odd"] = "auto"
    vocabulary: Annotated[str, "auto, shared (a name means the same in every column) or columns"] = "auto"
    balanced: Annotated[bool, "let every class weigh the same"] = False
    alternatives: Annotated[
        float | None, "count the networks within so many errors of the best (depth 1 and 2)", Range(0)
    ] = None
    gradient: Annotated[
        bool | None, "train the same class by gradients, to compare  [default: if quick, without --splits]"
    ] = None
    time_limit: Annotated[float, "seconds; then the bounds reached are printed", POSITIVE] = 60
    jobs: Annotated[int | None, "threads  [default: all cores]", COUNT] = None
    check: Annotated[str | None, "how to check the certificate: witness or full  [default: full if quick]"] = None
    seed: Seed = 0
    out: Annotated[Path | None, "folder for the rule, a page on it, the certificate and the exported network"] = None
    overwrite: Overwrite = False


@command
def classify(options: _Options) -> Answer:
    """Find the attention rule with the fewest errors on a table of sequences, and prove that it is the best of its class.

    Example: `steerax classify table.csv --label class --holdout 0.3`.
    """
    _agree(options)
    rows, labels = _read(options.table, options.label)
    held = None if options.test is None else _read(options.test, options.label)
    new = None if options.predict is None else _columns(options.predict)
    for path, columns in ((options.test, held and held[0]), (options.predict, new)):
        if columns and (absent := [name for name in rows if name not in columns]):
            raise DataError(
                f"{path} has no column {absent[0]!r}, which {options.table} has; its header is {list(columns)}."
            )
    splits = [_split(options, rows, labels, options.seed + i) for i in range(options.splits)]
    fitted = [_fit(options, *part, held if options.holdout is None else rest) for part, rest in splits]
    model, others, test = fitted[0]
    checked = model.certificate_.check(options.check)
    record: dict[str, Any] = {
        "rows": len(model.targets_),
        "rule": model.rule_,
        **{one.name.removeprefix("best "): one.numbers(model, test) for one in others},
        "bound": model.generalisation_bound(),
        "check": {"level": checked.level, "statement": checked.statement},
    }
    if options.splits > 1:
        _spread(record, fitted)
    if options.alternatives is not None:
        record["alternatives"] = _alternatives(model, options.alternatives)
    if new is not None:
        record["predictions"] = model.predict(new).tolist()
    if options.out is not None:
        _write(options, model, others, test, record)
    return _told(options, record)


def _agree(options: _Options) -> None:
    """**Raises:** `ConfigurationError` for options that do not go together, before anything is computed."""
    if options.test is not None and options.holdout is not None:
        raise ConfigurationError("--test and --holdout exclude each other; give one.")
    if options.splits > 1 and options.holdout is None:
        raise ConfigurationError("--splits draws the rows that are held out again; give --holdout as well.")
    if options.alternatives is not None and options.depth > 2:
        raise ConfigurationError("--alternatives are counted at depth 1 and 2; give --depth 2.")
    if options.out is not None:
        check_place(options.out, options.overwrite, _FILES)


def _split(options: _Options, rows: Columns, labels: list[str], seed: int) -> tuple[tuple[Columns, list[str]], Any]:
    """The rows to learn from, and those held out (None without --holdout)."""
    if options.holdout is None:
        return (rows, labels), None
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = min(max(1, round(options.holdout * len(labels))), len(labels) - 1)
    pick = lambda at: ({name: [cells[i] for i in at] for name, cells in rows.items()}, [labels[i] for i in at])
    return pick(order[cut:]), pick(order[:cut])


def _fit(options: _Options, rows: Columns, labels: list[str], held: Any) -> tuple[Any, Any, Any]:
    """The model, what it is compared with, and the test rows as codes and labels."""
    from ..lifted.classifier.estimator import OptimalAttentionClassifier
    from ..lifted.classifier.rivals import contestants
    from ..runs.progress import Progress

    parts = lambda text: text if text in ("auto", "all") else text.split(",")
    with Progress(f"{options.table.name}, depth {options.depth}", total=1000, shown=not options.json) as bar:
        model = OptimalAttentionClassifier(
            depth=options.depth,
            sparsity=options.sparsity,
            contexts=parts(options.contexts),
            tests=parts(options.tests),
            time_limit=options.time_limit,
            vocabulary=options.vocabulary,
            unknown="other",
            class_weight="balanced" if options.balanced else None,
            n_jobs=options.jobs,
            progress=lambda p: bar.update(1000 * p.done // p.total, f"depth {p.depth}"),
        ).fit(rows, labels)
    gradient = False if options.gradient is None and options.splits > 1 else options.gradient
    others = contestants(model, gradient, options.seed)
    return model, others, None if held is None else (model.alphabet_.read(held[0]), np.array(held[1]))


def _spread(record: dict[str, Any], fitted: list[tuple[Any, Any, Any]]) -> None:
    """Means over the splits instead of the numbers of the first, and their standard errors; also of what is gained over the others."""
    splits = len(fitted)
    scores = {}
    for i, one in enumerate(fitted[0][1]):
        numbers = [others[i].numbers(model, test) for model, others, test in fitted]
        name = one.name.removeprefix("best ")
        for part in ("train", "test"):
            values = np.array([of[f"{part}_accuracy"] for of in numbers])
            record[name] |= {f"{part}_accuracy": values.mean(), f"{part}_error": values.std(ddof=1) / splits**0.5}
        scores[name] = values
        gain = scores["attention"] - values
        record[name] |= {"behind": gain.mean(), "behind_error": gain.std(ddof=1) / splits**0.5}
    record["splits"] = splits


def _alternatives(model: Any, slack: float) -> dict[str, Any]:
    from ..lifted.classifier.page import alternatives_in_words, first_rules

    if model.status_ != "proven":
        return {"slack": slack, "statement": "not counted, since the optimum is not proven; give more --time-limit."}
    found = model.alternatives(slack)
    return {
        "slack": slack,
        "networks": found.count,
        "functions": found.functions,
        "complete": found.complete,
        "agreed": found.agreed.mean(),
        "statement": alternatives_in_words(found, slack),
        "rules": first_rules(model, found, _RULES_SHOWN),
    }


def _write(options: _Options, model: Any, others: Any, test: Any, record: dict[str, Any]) -> None:
    """Everything in the folder, all or nothing."""
    from ..lifted.classifier.page import write_html
    from ..runs.files import write_folder, write_whole

    def fill(beside: Path) -> None:
        model.export(beside)
        model.certificate_.save(beside / "certificate")
        write_html(model, beside / "rule.html", others, test, options.alternatives)
        if "predictions" in record:
            lines = io.StringIO(newline="")
            csv.writer(lines).writerows([[options.label], *([label] for label in record["predictions"])])
            write_whole(beside / "predictions.csv", lines.getvalue())

    assert options.out is not None
    write_folder(options.out, fill)


def _told(options: _Options, record: dict[str, Any]) -> Answer:
    """The answer; labels alone go to stdout if they are asked for and have no file, so that they can be piped."""
    text = _text(record) + ("" if options.out is None else f"\nwritten    {options.out}")
    if options.predict is None or options.out is not None:
        return Answer(record, text)
    if not options.json:
        say(text, err=True)
    return Answer(record, "\n".join(record["predictions"]))


def _read(path: Path, label: str) -> tuple[Columns, list[str]]:
    """The columns without that of the labels, and the labels. **Raises:** `DataError`."""
    columns = _columns(path)
    if label not in columns or len(columns) < 2:
        raise DataError(f"{path} needs a column {label!r} and another one; its header is {list(columns)}. See --label.")
    labels = columns.pop(label)
    empty = [i for i, name in enumerate(labels) if name is None]
    if empty:
        raise DataError(f"{path}: row {empty[0] + 1} has no {label!r}; remove it.")
    return columns, [str(name) for name in labels]


def _columns(path: Path) -> Columns:
    """The columns of a file, gaps as None. **Raises:** `DataError`."""
    from ..data.table import GAP_MARKS, read_csv

    try:
        table = dict(read_csv(path).columns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    marks = {"", *GAP_MARKS}
    return {name: [None if c is None or c.strip() in marks else c for c in cells] for name, cells in table.items()}


def _text(record: dict[str, Any]) -> str:
    def line(name: str, of: dict[str, Any]) -> str:
        p = of.get("test_accuracy")
        error = None if p is None else of.get("test_error", (p * (1 - p) / of["test_rows"]) ** 0.5)
        test = "" if p is None else f", test {p:.3f} ± {error:.3f}"
        if name != "attention" and "behind" in of:
            test += f" ({of['behind']:+.3f} ± {of['behind_error']:.3f} for attention)".replace("-", "−")
        low = "" if of["lower_bound"] is None else f"{of['lower_bound']:.2f} ≤ "
        return (
            f"{name:10} train {of['train_accuracy']:.3f}{test}; {low}errors + prices ≤ {of['objective']:.2f} "
            f"({of['status']}), {of['bits']:.0f} bits, {of['seconds']:.2f} s"
        )

    lines = [record["rule"], "", line("attention", record["attention"]), line("best tree", record["tree"])]
    if "gradient" in record:
        lines.append(line("gradient", record["gradient"]))
    if "splits" in record:
        lines.append(
            f"splits     accuracies: means over {record['splits']} splits ± standard errors; all else is of the first"
        )
    if (found := record.get("alternatives")) is not None:
        lines += [f"as good    {found['statement']}", *(f"           {rule}" for rule in found.get("rules", ()))]
    return "\n".join(
        [
            *lines,
            f"new rows   at most {record['bound']:.3f} wrong, with 95 % confidence, if they come from the same source",
            f"checked    {record['check']['level']}: {record['check']['statement']}",
        ]
    )

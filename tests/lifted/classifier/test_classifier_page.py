"""Where a rule looks equals the definition of its heads; the picture, the page and the numbers beside others."""

import io
import json
import re
import sys

import attention_twin as twin
import numpy as np
import pytest
from browser import needs_browser, opened, overflow
from test_classifier_network import ragged_codes, random_tree
from test_classifier_search import problem_of

import steerax as sx
from steerax import ConfigurationError
from steerax.lifted.classifier.attention import attended
from steerax.lifted.classifier.contexts import KINDS, contexts_of
from steerax.lifted.classifier.heads import FAMILIES, Shape
from steerax.lifted.classifier.heads import tests_of as heads_of
from steerax.lifted.classifier.network import build_network, with_reader
from steerax.lifted.classifier.problem import heads_in
from steerax.lifted.classifier.rivals import contestants
from steerax.lifted.classifier.search import search

Classifier = sx.OptimalAttentionClassifier


def looked(head, context, row, V):
    """Weights and reads of a head on the tokens of a row, by its definition."""
    kind, predicate, value = head
    n, T = len(row), sum(s != V for s in row)
    u = [twin.register(context, row, i, V) for i in range(n)]
    if predicate[0] == "less":
        return [1 / (n + 1)] * T, [(row[i] == predicate[1]) - (row[i] == predicate[2]) for i in range(T)]
    good = [twin.holds(predicate, row[i], u[i], V) for i in range(T)]
    if kind in ("count", "exactly", "odd"):
        return [1 / (n + 1)] * T, [int(g) for g in good]
    if kind in ("place", "from end"):
        at = value if kind == "place" else T - 1 - value
        return [float(i == at) for i in range(T)], [int(g) for g in good]
    side, what = kind.split()
    having = [i for i in range(T) if good[i]]
    at = having[0 if side == "first" else -1] if having else -1
    sees = {"at": lambda i: i >= value, "is": lambda i: row[i] == value, "sees": lambda i: u[i] == value}[what]
    return [float(i == at) for i in range(T)], [int(sees(i)) for i in range(T)]


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_that_of_the_definition(kind):
    rng, V, n = np.random.default_rng(0), 2, 3
    codes, shape = ragged_codes(V, n), Shape(n, V, True, False, FAMILIES)
    for context in contexts_of([kind], n, V, False)[-2:]:
        heads = [*heads_of(contexts_of("none", n, V, False)[0], shape), *heads_of(context, shape)]
        for _ in range(10):
            tree = random_tree(rng, heads, 3, 3)
            network = build_network(context, tree, shape)
            for row in codes[rng.integers(0, len(codes), 4)].tolist():
                met, at, T = [], tree, sum(s != V for s in row)
                while isinstance(at, tuple):
                    holds = bool(twin.bit(at[0], context, row, V))
                    met.append((at[0], holds))
                    at = at[1] if holds else at[2]
                found = attended(network, tree, with_reader(np.array([row]), V)[0])
                assert [(heads_in(tree)[i], holds) for i, _, _, _, holds in found] == met
                for (head, _), (_, weights, reads, hard, _) in zip(met, found, strict=True):
                    expected = looked(head, context, row, V)
                    assert np.allclose(weights[:T], expected[0], rtol=0, atol=1e-12), head
                    assert reads[:T].tolist() == expected[1], head
                    assert hard == (head.kind.split()[0] in ("place", "from", "first", "last"))


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).choice(list("xyz"), (150, 5))
    y = np.array(["yes" if ("xy" in "".join(row)) != (i % 17 == 0) else "no" for i, row in enumerate(X)])
    return Classifier(n_jobs=1).fit(X[:100], y[:100]), X, y


def test_attention_of_a_row(fitted):
    model, X, _ = fitted
    found = model.attention("zxyzx")
    assert found.tokens == ("z", "x", "y", "z", "x")
    assert found.answer == model.predict(["zxyzx"])[0] == "yes"
    (test,) = found.tests
    assert (test.test, test.holds, test.hard) == ("the number of 'y' where the token before is 'x' ≥ 1", True, False)
    assert test.signed.tolist() == [0, 0, 1, 0, 0]
    assert model.attention(X[0]).answer == model.predict(X[:1])[0]
    table = Classifier(sparsity=0.001).fit({"a": ["r", "g", "r"], "b": ["s", "s", "t"]}, [1, 0, 1])
    found = table.attention({"b": "s", "a": "g"})
    assert found.tokens == ("a=g", "b=s")
    assert (found.answer, found.tests[0].signed.tolist()) == (0, [-1, 0])
    with pytest.raises(sx.SteeraxError, match="not fitted"):
        Classifier().attention("ab")


def test_a_row_is_drawn(fitted):
    pytest.importorskip("matplotlib")
    model, _, _ = fitted
    ax = model.plot("zxyzx")
    assert ax.get_title() == "answer: yes"
    assert [label.get_text() for label in ax.get_xticklabels()] == list("zxyzx")
    assert " ".join(ax.get_yticklabels()[0].get_text().split()).endswith("the token before is 'x' ≥ 1: yes")
    assert [(text.get_position(), text.get_text()) for text in ax.texts] == [((2, 0), "+1")]
    assert model.plot("xxxxx", ax) is ax
    row = {"a column with a long name": "x", "another column": "y"}
    table = Classifier(sparsity=0.001).fit({name: [cell, cell + "?"] for name, cell in row.items()}, [1, 0])
    table.plot(row).figure.savefig(io.BytesIO())  # a warning if the names left no room
    assert Classifier(sparsity=1).fit(["a", "b"], [0, 0]).plot("a").get_title() == "answer: 0"


def test_without_matplotlib_there_is_one_sentence(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"steerax\[plot\]"):
        fitted[0].plot("xyzzy")


def test_the_tree_beside_is_the_best_of_its_class_and_numbers_are_those_of_the_model(fitted):
    model, X, y = fitted
    own, tree = contestants(model, gradient=False)
    held = (model.alphabet_.read(X[100:]), y[100:])
    assert own.numbers(model, held)["train_accuracy"] == model.score(X[:100], y[:100])
    assert own.numbers(model, held)["test_accuracy"] == model.score(X[100:], y[100:])
    assert (own.objective, own.status) == (model.objective_, "proven")
    best = search(problem_of(X[:100], y[:100], 2, 0.01, "none", "place"))
    other = Classifier(contexts="none", tests="place").fit(X[:100], y[:100])
    assert tree.tree == best.tree
    assert (tree.objective, tree.bits) == (other.objective_, other.bits_)
    assert tree.numbers(model, held)["test_accuracy"] == other.score(X[100:], y[100:])


@pytest.mark.slow
def test_gradient_training_stands_beside_and_proves_nothing(fitted):
    trained = contestants(fitted[0])[2]
    assert (trained.name, trained.status, trained.lower) == ("gradient", "trained", None)
    assert trained.objective >= fitted[0].objective_


def figures_of(path):
    return json.loads(re.search(r'id="figures">(.*?)</script>', path.read_text(), re.S)[1])


def test_the_page_says_what_the_model_says(fitted, tmp_path):
    model, X, y = fitted
    path = tmp_path / "rule.html"
    model.to_html(path, X[100:], y[100:], slack=1, gradient=False)
    tree, *rows = figures_of(path)
    root = tree["root"]
    assert root["words"] == "the number of 'y' where the token before is 'x' ≥ 1?"
    assert [(word, end["words"]) for word, end in root["branches"]] == [("yes", "yes"), ("no", "no")]
    notes = [end["note"] for _, end in root["branches"]]
    assert sum(int(note.split()[0]) for note in notes) == 100
    titles = [row["title"] for row in rows]
    answers = model.predict(X[100:])
    for title, row in zip(titles, rows, strict=True):
        i = int(title.split()[1]) - 1
        assert row["tokens"] == X[100 + i].tolist()
        assert ("rightly" in title) == (answers[i] == y[100 + i])
        assert row["caption"] == f"The answer is {answers[i]}; the label is {y[100 + i]}."
        (test,) = model.attention(X[100 + i]).tests
        assert row["choices"]["attention"]["weights"] == [test.signed.tolist()]
    assert ["rightly" in title for title in titles] == [True, True, False]
    text = path.read_text()
    assert f"{model.score(X[100:], y[100:]):.3f} ±" in text
    assert "best tree" in text
    assert f"{model.alternatives(1).count} network" in text
    with pytest.raises(ConfigurationError, match="exists already"):
        model.to_html(path, gradient=False)


def test_a_page_of_a_gap_or_of_no_test_says_so(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (200, 6)), rng.integers(0, 2, 200)
    for name, model in (
        ("gap", Classifier(3, sparsity=0.001, time_limit=0.05)),
        ("none", Classifier(sparsity=1)),
    ):
        model.fit(X, y).to_html(tmp_path / name, gradient=False)
        text = (tmp_path / name).read_text()
        assert ("No network of its class has a smaller sum" in text) == (model.status_ == "proven")
        assert ("All alternatives are listed for a proven optimum" in text) == (name == "gap")
        assert (len(figures_of(tmp_path / name)) > 1) == (name == "gap")  # no test, no attention


def test_rules_in_a_line_and_one_for_each_function(fitted):
    model, _, _ = fitted
    found = model.alternatives(0)
    assert len(found.rules) == found.functions == len(set(found.rules))
    assert model.rule_ in found.rules
    from steerax.lifted.classifier.page import first_rules

    lines = first_rules(model, found, 5)
    assert "if the number of 'y' where the token before is 'x' ≥ 1 then yes else no" in lines
    assert all(line.count("(") == line.count(")") for line in lines)


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_in_a_browser(tmp_path, width, scheme):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (300, 6))
    y = (X[:, 0] == X[:, 5]) ^ (X[:, 1] == 2)
    model = Classifier(3, sparsity=0.001, time_limit=5).fit(X, y)
    model.to_html(tmp_path / "rule.html", gradient=False)
    with opened(tmp_path / "rule.html", width, scheme) as (tab, faults):
        tests = len(heads_in(model.tree_))
        assert tab.locator(".questions .words").count() == 2 * tests + 1
        assert tab.locator(".questions .end").count() == tests + 1
        assert overflow(tab) <= 1
        tab.locator("input[type=range]").first.fill("0")
        assert "Test 1 of" in (tab.locator(".controls label").first.text_content() or "")
        assert not faults

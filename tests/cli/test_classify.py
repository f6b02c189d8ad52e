"""`steerax classify`: the rule, its numbers beside those of the best tree, files, and bad input."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from steerax import ConfigurationError, DataError
from steerax.cli.main import app
from steerax.lifted.classifier.certificate import ClassifierCertificate


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("table.csv", 0), ("new.csv", 1)):
        X = np.random.default_rng(seed).choice(list("xyz"), (120, 4))
        lines = [",".join([*row, "yes" if "xy" in "".join(row) else "no"]) for row in X]
        (tmp_path / name).write_text("\n".join(["a,b,c,d,class", *lines]) + "\n")
    return tmp_path


def run(*words):
    done = CliRunner().invoke(app, ["classify", "table.csv", "--label", "class", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_rule_and_numbers(place):
    found = json.loads(run("--test", "new.csv", "--json", "--check", "witness", "--no-gradient"))
    assert found["rule"] == "if the number of 'y' where the token before is 'x' ≥ 1:\n  yes\nelse:\n  no"
    assert found["attention"]["test_accuracy"] == 1
    assert found["attention"]["status"] == found["tree"]["status"] == "proven"
    assert found["tree"]["objective"] > found["attention"]["objective"]
    assert found["check"]["level"] == "witness"
    text = run("--holdout", "0.25", "--check", "witness", "--no-gradient")
    assert text.startswith(found["rule"])
    assert "best tree  train 0." in text
    assert "± " in text


@pytest.fixture
def unlabelled(place):
    lines = [line.rsplit(",", 1) for line in (place / "new.csv").read_text().splitlines()]
    (place / "rows.csv").write_text("\n".join(line[0] for line in lines) + "\n")
    return [line[1] for line in lines[1:]]


def test_labels_for_rows_without_them(place, unlabelled):
    quick = ("--predict", "rows.csv", "--check", "witness", "--no-gradient")
    found = CliRunner().invoke(app, ["classify", "table.csv", "--label", "class", *quick])
    assert found.stdout.splitlines() == unlabelled  # nothing else on stdout
    assert "attention  train 1.000" in found.stderr
    assert json.loads(run(*quick, "--json"))["predictions"] == unlabelled
    assert "attention  train 1.000" in run(*quick, "--out", "out")
    assert (place / "out" / "predictions.csv").read_text().split() == ["class", *unlabelled]
    (place / "rows.csv").write_text("a,b,c\nx,y,z\n")
    with pytest.raises(DataError, match=r"rows\.csv has no column 'd', which table\.csv has"):
        run(*quick)


def test_standard_errors_over_splits(place):
    words = ("--holdout", "0.5", "--check", "witness", "--no-gradient", "--json")
    each = [json.loads(run(*words, "--seed", str(seed))) for seed in range(3)]
    found = json.loads(run(*words, "--splits", "3"))
    gains = []
    for name in ("attention", "tree"):
        for part in ("train", "test"):
            values = np.array([one[name][f"{part}_accuracy"] for one in each])
            assert found[name][f"{part}_accuracy"] == pytest.approx(values.mean())
            assert found[name][f"{part}_error"] == pytest.approx(values.std(ddof=1) / 3**0.5)
        gains.append(np.array([one[name]["test_accuracy"] for one in each]))
    gain = gains[0] - gains[1]
    assert found["tree"]["behind"] == pytest.approx(gain.mean())
    assert found["tree"]["behind_error"] == pytest.approx(gain.std(ddof=1) / 3**0.5)
    assert (found["splits"], found["rule"]) == (3, each[0]["rule"])
    text = run(*words[:-1], "--splits", "3")
    assert "means over 3 splits ± standard errors" in text
    assert "for attention)" in text


def test_alternatives_are_counted_and_shown(place):
    found = json.loads(run("--alternatives", "4", "--check", "witness", "--no-gradient", "--json"))["alternatives"]
    text = run("--alternatives", "4", "--check", "witness", "--no-gradient")
    assert found["networks"] >= found["functions"] >= 1
    assert 0 < found["agreed"] <= 1
    assert found["rules"][0] == "if the number of 'y' where the token before is 'x' ≥ 1 then yes else no"
    assert f"as good    {found['networks']} network" in text
    assert found["rules"][-1] in text


@pytest.mark.slow
def test_gradient_training_is_a_third_line_where_it_is_quick(place):
    text = run("--check", "witness")
    assert "\ngradient   train " in text
    assert "(trained)" in text


def test_check_reads_what_classify_and_solve_write(place):
    run("--out", "out", "--check", "witness", "--no-gradient")
    said = CliRunner().invoke(app, ["check", "out"]).stdout
    assert "status   proven" in said
    assert "checked  full: No network of class CAT(2)" in said
    CliRunner().invoke(app, ["solve", "parity", "--n", "3", "--depth", "1", "--out", "parity3"])
    found = json.loads(CliRunner().invoke(app, ["check", "parity3", "--level", "witness", "--json"]).stdout)
    assert (found["lower"], found["upper"], found["status"], found["level"]) == (2, 2, "claimed", "witness")


def test_files(place):
    run("--out", "out", "--check", "witness", "--no-gradient")
    assert "best tree" in (place / "out" / "rule.html").read_text()
    certificate = ClassifierCertificate.load("out/certificate")
    assert certificate.status == "claimed"
    with pytest.raises(ConfigurationError, match="exists already"):
        run("--out", "out")
    run("--out", "out", "--overwrite", "--check", "witness", "--no-gradient")
    (place / "out" / "mine.txt").write_text("")
    with pytest.raises(ConfigurationError, match=r"holds 'mine\.txt'"):
        run("--out", "out", "--overwrite")


def test_bad_input_gets_one_sentence(place):
    with pytest.raises(ConfigurationError, match="exclude each other"):
        run("--test", "new.csv", "--holdout", "0.5")
    with pytest.raises(ConfigurationError, match="give --holdout as well"):
        run("--splits", "3")
    with pytest.raises(ConfigurationError, match="counted at depth 1 and 2"):
        run("--alternatives", "1", "--depth", "3")
    with pytest.raises(ConfigurationError, match="The context 'before' is unknown"):
        run("--contexts", "before")
    with pytest.raises(DataError, match=r"new2\.csv cannot be read"):
        run("--test", "new2.csv")
    (place / "table.csv").write_text("a,class\nx,yes\ny,\n")
    with pytest.raises(DataError, match="row 2 has no 'class'"):
        run()
    (place / "table.csv").write_text("a,kind\nx,yes\n")
    with pytest.raises(DataError, match="needs a column 'class'"):
        run()

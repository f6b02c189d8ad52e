"""Verdicts follow from numbers, results are kept, and each experiment runs at its quick size."""

import concurrent.futures
import dataclasses
import html
import json
import re
import threading
from collections.abc import Iterator

import jinja2
import numpy as np
import pytest

from steerax._errors import ConfigurationError
from steerax.experiments import ALONE, EXPERIMENTS, LONG, gallery, patterns, runner
from steerax.report.words import FAILS, HOLDS, OPEN, claim, read, table


def judged(condition: str, *fields: str):
    return claim("\n  ".join(["- t", "made in: s", f"holds if: {condition}", "evidence: e", *fields]))


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, HOLDS), (1.0, HOLDS), (1.05, OPEN), (1.2, FAILS), (np.inf, FAILS), (np.nan, FAILS)]
)
def test_a_verdict_is_a_comparison_with_its_threshold(value, verdict):
    found = judged(f"{value} <= 1", "undecided within: 0.1")
    assert (found.text, found.source, found.verdict, found.evidence) == ("t", "s", verdict, "e (asked: at most 1).")
    assert judged(f"{-value} >= -1", "undecided within: 0.1").verdict == verdict


def test_a_condition_that_is_not_known_is_inconclusive():
    assert judged("not known").verdict == OPEN


def test_evidence_that_ends_with_a_full_stop_says_its_threshold_itself():
    said = claim("- t\n  made in: s\n  holds if: 2 <= 1\n  evidence: Two; one is asked.")
    assert (said.verdict, said.evidence) == (FAILS, "Two; one is asked.")


def test_a_failure_of_an_untrained_network_is_inconclusive():
    assert judged("2 <= 1", "above the optimum: 0.3").verdict == OPEN
    assert "30 % above the optimum" in judged("2 <= 1", "above the optimum: 0.3").evidence
    assert judged("2 <= 1", "above the optimum: 0.01").verdict == FAILS
    assert judged("0.5 <= 1", "above the optimum: 0.3") == judged("0.5 <= 1")


def test_a_page_is_its_words_its_figures_and_its_claims(tmp_path):
    (tmp_path / "page.md").write_text(
        "# Of {{ name }}\n\nLead\nin two lines.\n\nA {{ 0.251 | percent }} of {{ 1200 | fmt(',') }}, "
        "{{ 1 | count('seed') }}.\n\n## Then\n{% for x in values %}\n\n- claim {{ x }}\n  made in: s\n  "
        "holds if: {{ x }} <= 1\n  evidence: {{ x }}\n{% endfor %}\n\n![t] Title | a | b\nCaption\nof it.\n\n"
        "![other] Not drawn | c\nNothing.\n"
    )
    found = read(tmp_path / "page.md", {"name": "x\n## y", "values": [0.5, 2.0]}, {"t": table([[1, "2"]])})
    assert (found.title, found.lead) == ("Of x ## y", "Lead in two lines.")
    assert [(c.text, c.verdict) for c in found.claims] == [("claim 0.5", HOLDS), ("claim 2.0", FAILS)]
    assert [(s.heading, s.text) for s in found.sections] == [("", ["A 25 % of 1,200, 1 seed."]), ("Then", [])]
    (drawn,) = found.sections[1].figures
    assert (drawn["title"], drawn["caption"], drawn["columns"]) == ("Title", "Caption of it.", ["a", "b"])
    with pytest.raises(jinja2.UndefinedError):
        read(tmp_path / "page.md", {"name": "x"}, {})


def test_columns_are_vertical_and_bands_are_diagonal():
    columns, bands = np.zeros((41, 40)), np.zeros((41, 40))
    columns[:, ::7] = 1.0
    for q in range(41):
        for lag in (1, 4):
            if q >= lag:
                bands[q, q - lag] = 1.0
    for matrix, vertical in ((np.tril(columns, -1), True), (bands, False)):
        v, d = patterns.verticality(matrix, 10), patterns.diagonality(matrix, 10)
        assert (v > 0.99, d > 0.99) == (vertical, not vertical)
        assert min(v, d) < 0.3
    assert patterns.within(bands, 1, 10) == pytest.approx(0.5)
    assert patterns.on_columns(np.tril(columns, -1), np.arange(40) % 7 == 0) == 1.0


def test_the_period_of_a_comb_is_the_distance_of_its_teeth():
    assert patterns.period(np.arange(60) % 9 == 0, 20)[0] in (9, 18)


def test_a_run_that_is_too_small_refutes_nothing():
    assert judged("2 <= 1", "decided by: 10 of 20 steps").verdict == OPEN
    assert "10 steps" in judged("2 <= 1", "decided by: 10 of 20 steps").evidence
    assert judged("2 <= 1", "decided by: 20 of 20 steps") == judged("2 <= 1")
    assert judged("0.5 <= 1", "decided by: 10 of 20 steps") == judged("0.5 <= 1")


def test_results_are_kept_until_the_configuration_changes(tmp_path):
    seen = []
    tell = lambda record, kept: seen.append((record["seed"], kept))
    for again in (False, False, True):
        runner.reproduce(["lifting"], tmp_path, quick=True, again=again, tell=tell)
    runner.reproduce(["lifting"], tmp_path, quick=True, seeds=[0, 1], tell=tell)
    assert seen == [(0, False), (0, True), (0, False), (0, True), (1, False)]
    record = json.loads((tmp_path / "lifting.json").read_text())
    page = (tmp_path / "index.html").read_text()
    assert all(html.escape(claim["evidence"]) in page.replace("&#39;", "&#x27;") for claim in record["claims"])
    assert "same (1)" in page
    assert (tmp_path / "lifting.html").exists()


def test_an_experiment_that_measures_time_runs_alone_and_last(tmp_path, monkeypatch):
    assert {*LONG, *ALONE} <= set(EXPERIMENTS)
    together = threading.Barrier(2, timeout=10)  # reached only by two that run side by side
    finished = []

    def perform(job):
        if job.name == "complexity":
            assert sorted(finished) == ["duality", "layers"]
        else:
            together.wait()
        finished.append(job.name)
        return {"name": job.name, "seed": job.seed, "claims": []}

    monkeypatch.setattr(runner, "perform", perform)
    monkeypatch.setattr(gallery, "write", lambda out: None)
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        runner.reproduce(["complexity", "duality", "layers"], tmp_path, executor=executor)
    assert finished[-1] == "complexity"


def test_the_identity_of_a_result_covers_the_code_it_shares_with_others():
    names = {f"{path.parent.name}/{path.name}" for path in runner.sources("higher-dimension")}
    shared = {f"experiments/{name}.py" for name in ("study", "networks", "patterns")}
    assert {"higher_dimension/experiment.py", "weights/experiment.py", "compare/contributions.py", *shared} <= names
    assert "layers/experiment.py" not in names
    job = runner.Job("duality", quick=True, seed=0)
    assert job.settings() == dataclasses.replace(job, seed=1).settings()
    assert job.identity() != dataclasses.replace(job, seed=1).identity()
    assert job.settings() != dataclasses.replace(job, quick=False).settings()


def test_verdicts_that_another_seed_turns_are_shown(tmp_path):
    record = example_record()
    other = record | {"seed": 1, "claims": [record["claims"][0], record["claims"][1] | {"verdict": FAILS}]}
    stale = other | {"seed": 2, "settings": "older code"}
    assert gallery.with_other_seeds(0, record, []) == "not run"
    for name, content in (("layers", record), ("layers-seed1", other), ("layers-seed2", stale)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    gallery.write(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "same (1)" in text
    assert f"seed 1: {FAILS}" in text
    assert "seed 2" not in text
    assert "inconclusive (quick run)" in text
    assert "1 holds, 0 does not hold, 1 inconclusive" in text
    rows = [line for line in (tmp_path / "verdicts.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| one | holds | 0.25 (asked: at most 1). | same (1) |",
        f"| two | inconclusive | 40 % (asked: at most 0.3). | seed 1: {FAILS} |",
    ]


def example_record() -> dict:
    claims = [
        {"text": "one", "source": "s", "verdict": HOLDS, "evidence": "0.25 (asked: at most 1)."},
        {"text": "two", "source": "s", "verdict": OPEN, "evidence": "40 % (asked: at most 0.3)."},
    ]
    return {
        "name": "layers", "identity": "i", "settings": "c", "quick": True, "seed": 0, "config": {"length": 3},
        "seconds": 1.0, "cpu_seconds": 1.0, "versions": {"steerax": "0"}, "title": "t", "source": "s", "text": [],
        "claims": claims, "figures": [], "numbers": {"value": 0.2512, "share": 0.4},
    }  # fmt: skip


def leaves(value) -> Iterator[float]:
    if isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, (int, float)):
        yield float(value)


def unsupported(record: dict) -> list[str]:
    """Numbers in the evidence and tables of a page that no number of the JSON rounds to (or, with %, a hundredth of)."""
    raw = np.abs(list(leaves({k: record[k] for k in ("numbers", "config", "figures", "seed")})))
    tables = [f["rows"] for f in record["figures"] if f["kind"] == "table"]
    words = [claim["evidence"].split("(asked:")[0] for claim in record["claims"]] + [
        cell for rows in tables for row in rows for cell in row if isinstance(cell, str)
    ]
    missing = []
    for text in words:
        for sign, number, exponent, percent in re.findall(
            r"(?<![\w.^])(10\^)?-?(\d[\d,]*(?:\.\d+)?)(e[+-]?\d+)?( %)?", text
        ):
            if sign:  # a power of ten: its exponent is the number
                continue
            value = float(number.replace(",", "") + exponent)
            digits = len(number.split(".")[1]) if "." in number else 0
            room = 0.501 * 10.0 ** (-digits) * float("1" + exponent)
            scaled = np.concatenate([raw, 100 * raw]) if percent else raw
            if not (np.abs(scaled - value) <= room).any():
                missing.append(f"{number}{exponent}{percent} in {text!r}")
    return missing


def test_a_number_without_its_source_is_found():
    record = example_record()
    assert not unsupported(record)
    record["claims"][0]["evidence"] = "0.27"
    record["figures"] = [{"kind": "table", "rows": [["41 %", "0.25"]]}]
    assert [m.split(" in ")[0] for m in unsupported(record)] == ["0.27", "41 %"]


@pytest.mark.parametrize("name", ["two-cycle", "lifting", "triple-quantisation"])
def test_every_number_of_a_page_is_in_its_json(name, tmp_path):
    (record,) = runner.reproduce([name], tmp_path, quick=True)
    assert not unsupported(record)
    page = (tmp_path / f"{name}.html").read_text()
    found = re.search(r'id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    drawn = json.loads(found[1])
    assert drawn == [f for f in record["figures"] if f["kind"] != "table"]


def test_rejects_an_unknown_experiment():
    with pytest.raises(ConfigurationError, match="two-cycle"):
        runner.configuration("two-cycles", quick=True)


def test_every_experiment_has_a_full_and_a_quick_configuration():
    for name in EXPERIMENTS:
        assert runner.configuration(name, quick=True) != runner.configuration(name, quick=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if n not in ("two-cycle", "lifting", "triple-quantisation")])
def test_the_quick_version_runs_and_all_its_numbers_are_json(name, tmp_path):
    (record,) = runner.reproduce([name], tmp_path, quick=True, seeds=[1])
    assert record["claims"]
    assert not unsupported(record)
    json.dumps(record, allow_nan=False)

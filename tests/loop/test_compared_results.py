"""What is written of a comparison: numbers found anew with scikit-learn, and a page that says it all."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compared import some_run
from sklearn import metrics as sklearn

from imil_backend.errors import ComparisonError, SettingsError
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.loop.comparing.protocol import ComparedDataset, Protocol, fix
from imil_backend.loop.comparing.results.summary import settings_of
from imil_backend.loop.comparing.results.writing import write_results
from imil_backend.loop.comparing.runs import RUNS_FILE, Run, Runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SKILLS = {"unchanged": 0.8, "blackout": 0.8, "spread": 2.5, "upper": 3.0}
HOSTILE = "films <script>alert(1)</script> & more"


def dataset(name: str = "films", agreement: float | None = 0.9, **changes: Any) -> ComparedDataset:
    marker = None if agreement is None else "letter"
    about = ComparedDataset(
        name, ("normal", "sick"), "cd" * 32, "masks", simulated=True, marker=marker, agreement=agreement
    )
    return replace(about, **changes)


def compared(
    directory: Path,
    *,
    seeds: int = 3,
    datasets: tuple[ComparedDataset, ...] = (dataset(),),
    budgets: tuple[float, ...] = (0.04,),
    end_point: str = "balanced_accuracy",
    change: Callable[[Run], Run] = lambda run: run,
) -> Path:
    """A comparison whose runs have finished; the first dataset has a leaning on its marker."""
    protocol = Protocol(
        "demo", datasets, asdict(Recipe()), tuple(SKILLS), end_point=end_point, seeds=seeds, budgets=budgets
    )
    digest = fix(directory, protocol)
    runs = Runs(directory)
    for setting, about in settings_of(protocol).items():
        leaning = 0.0 if about.agreement is None else 2 * (about.agreement - 0.5)
        for arm, skill in SKILLS.items():
            for seed in range(seeds):
                run = some_run(arm, seed, skill, setting, 0.0 if arm == "upper" else leaning)
                runs.add(change(replace(run, protocol=digest)))
    return directory


def results_of(directory: Path) -> dict[str, Any]:
    write_results(directory)
    written: dict[str, Any] = json.loads((directory / "results.json").read_text())
    return written


def page_of(directory: Path) -> str:
    return write_results(directory).read_text("utf-8")


def text_of(page: str) -> str:
    """What a person reads."""
    without = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", without))


def test_estimates_are_those_that_scikit_learn_finds_in_the_runs(tmp_path: Path):
    (summary,) = results_of(compared(tmp_path))["summaries"]
    lines = [json.loads(line) for line in (tmp_path / RUNS_FILE).read_text().splitlines()]

    def by_scikit_learn(line: dict[str, Any]) -> dict[str, float]:
        test = line["test"]
        labels, probabilities = np.array(test["labels"]), np.array(test["probabilities"])
        said = probabilities.argmax(axis=1)
        against = np.isin(test["keys"], test["contradicting"])
        recalls = sklearn.recall_score(labels, said, average=None)
        return {
            "accuracy": sklearn.accuracy_score(labels, said),
            "balanced_accuracy": sklearn.balanced_accuracy_score(labels, said),
            "auc": sklearn.roc_auc_score(labels, probabilities[:, 1]),
            "recall_0": recalls[0],
            "recall_1": recalls[1],
            "conflict": sklearn.accuracy_score(labels[against], said[against]),
            "agree": sklearn.accuracy_score(labels[~against], said[~against]),
            "robust_accuracy": np.mean([other for _, other in test["exchanged"].values()]),
            "drop": np.mean([same - other for same, other in test["exchanged"].values()]),
        }

    expected = {
        arm: [by_scikit_learn(line) for line in lines if line["arm"] == arm] for arm in SKILLS
    }  # fmt: skip
    for arm in summary["arms"]:
        for measure in expected["unchanged"][0]:
            own, reference = (
                [each[measure] for each in expected[name]] for name in (arm["arm"], "unchanged")
            )
            assert arm["values"][measure]["value"] == pytest.approx(np.mean(own))
            if arm["arm"] != "unchanged":
                by_seed = np.subtract(own, reference)
                assert arm["differences"][measure]["by_seed"] == pytest.approx(list(by_seed))
                assert arm["differences"][measure]["value"] == pytest.approx(by_seed.mean())
    assert summary["counts"]["conflict"] == {"least": 40, "most": 40, "patients": 40}
    assert summary["counts"]["accuracy"] == {"least": 120, "most": 120, "patients": 60}


def test_the_table_says_what_the_json_says(tmp_path: Path):
    (summary,) = results_of(compared(tmp_path))["summaries"]
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = {(row["arm"], row["measure"]): row for row in csv.DictReader(file)}
    for arm in summary["arms"]:
        for measure, found in arm["values"].items():
            row = rows.pop((arm["arm"], measure))
            assert float(row["value"]) == found["value"]
            assert row["simulated"] == "True" and row["planted"] == "letter"
            assert (row["difference_lower"] == "") == (arm["arm"] == "unchanged")
    assert not rows


@pytest.mark.slow
def test_with_enough_seeds_the_page_says_what_helped_and_how_sure_that_is(tmp_path: Path):
    text = text_of(page_of(compared(tmp_path, seeds=8)))
    assert "Helped: spread." in text
    assert re.search(r"spread \(better\): balanced accuracy rose from \d+\.\d% to \d+\.\d%, \+\d", text)
    assert "p = 0.0" in text and "correction for 3 comparisons" in text
    assert "planted marker" in text and "simulated clinician" in text
    assert "120 images of 60 patients" in text and "Looked at once." in text


def test_with_too_few_seeds_the_page_suggests_and_gives_no_p(tmp_path: Path):
    text = text_of(page_of(compared(tmp_path, seeds=3)))
    assert "Nothing is shown: too few seeds. Intervals suggest a difference of spread." in text
    assert "3 seeds cannot show a difference in 3 comparisons" in text and "7 seeds are needed" in text
    assert "p = " not in text and "p &lt; 0.05, " not in text


class Tags(HTMLParser):
    """All tags of a page, and texts that stand for images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path):
    about = dataset(HOSTILE, classes=("<b>normal</b>", "sick"))
    page = page_of(compared(tmp_path, datasets=(about,)))
    tags = Tags(page).tags
    assert not {"script", "link", "iframe", "object", "b"} & {tag for tag, _ in tags}
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert images and all(str(each["src"]).startswith("data:image/svg+xml;base64,") for each in images)
    assert all(each["alt"] for each in images)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert ("html", {"lang": "en"}) in tags


def test_every_look_at_other_runs_is_counted_and_the_same_look_is_not(tmp_path: Path):
    compared(tmp_path)
    assert results_of(tmp_path) == results_of(tmp_path)
    runs = Runs(tmp_path)
    runs.add(replace(next(iter(runs)), seed=99))
    assert results_of(tmp_path)["times_test_was_looked_at"] == 2
    assert "Looked at 2 times" in page_of(tmp_path)


def test_nothing_is_told_before_all_runs_have_finished(tmp_path: Path):
    compared(tmp_path)
    lines = (tmp_path / RUNS_FILE).read_text().splitlines(keepends=True)
    (tmp_path / RUNS_FILE).write_text("".join(lines[:-2]))
    with pytest.raises(ComparisonError, match="2 runs on films are missing"):
        write_results(tmp_path)
    assert not (tmp_path / "looks.json").exists()


def test_runs_of_another_protocol_are_refused(tmp_path: Path):
    compared(tmp_path, change=lambda run: replace(run, protocol="00" * 32) if run.seed == 1 else run)
    with pytest.raises(ComparisonError, match="another protocol"):
        write_results(tmp_path)


def test_where_a_run_lacks_the_shortcut_test_none_is_measured_by_it(tmp_path: Path):
    def older(run: Run) -> Run:
        return replace(run, test=replace(run.test, exchanged=None)) if run.arm == "unchanged" else run

    (summary,) = results_of(compared(tmp_path, change=older))["summaries"]
    assert all("drop" not in arm["values"] and "accuracy" in arm["values"] for arm in summary["arms"])


def test_an_end_point_that_is_not_there_is_refused(tmp_path: Path):
    plain = (dataset(agreement=None),)
    with pytest.raises(ComparisonError, match="conflict is not defined"):
        write_results(compared(tmp_path, datasets=plain, end_point="conflict"))


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(SettingsError, match=r"imil-backend\[compare\]"):
        write_results(tmp_path)


def test_what_the_cure_would_bring_is_regained_in_part(tmp_path: Path):
    (summary,) = results_of(compared(tmp_path))["summaries"]
    assert summary["cure"] == "upper"
    regained = {arm["arm"]: arm["regained"] for arm in summary["arms"]}
    assert regained["unchanged"] is None and regained["upper"] is None
    assert 0.5 < regained["spread"]["value"] <= 1.2


@pytest.mark.slow
def test_agreements_budgets_and_minutes_have_their_curves(tmp_path: Path):
    def timed(run: Run) -> Run:
        return replace(run, clinician_seconds=600.0 if run.arm in {"blackout", "spread"} else None)

    datasets = tuple(dataset(f"films {share}", share) for share in (0.5, 0.9))
    written = results_of(compared(tmp_path, datasets=datasets, budgets=(0.04, 0.01), change=timed))
    names = {path.name for path in tmp_path.glob("*.svg")}
    assert names == {
        *("forest-0.svg", "forest-1.svg", "dose-response.svg", "learning-curve-0.svg"),
        *("learning-curve-1.svg", "minutes-0.svg", "minutes-1.svg"),
    }
    assert [each["primary"] for each in written["summaries"]] == [True, False, True, False]
    assert all(bool(each["claims"]) == each["primary"] for each in written["summaries"])
    assert written["summaries"][2]["cure"] == "no shortcut (films 0.5)"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_in_light_and_dark(browser: Browser, tmp_path: Path, width: int):
    file = write_results(compared(tmp_path, datasets=(dataset(HOSTILE),)))
    grounds = []
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page = context.new_page()
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]

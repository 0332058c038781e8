"""What comes out for people and other tools: export, report, status."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_fakes import (
    HEIGHT,
    METRICS,
    WIDTH,
    FakeLabelStudio,
    OpenRound,
    chosen,
    make_dataset,
    mask_of,
    region,
    shortcut_results,
    write_mask,
)
from PIL import Image
from sqlalchemy import select

from imil_backend.cli.helpers.console import console
from imil_backend.cli.helpers.showing import show_status
from imil_backend.errors import DatasetError, NotFoundError, StoreError
from imil_backend.learning.contract.training_job import MINING_FILE
from imil_backend.learning.scoring.comparison import compare
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import load_mask
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.asking.known_masks import irrelevant_region
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.rounds.simulation import answer_open_tasks
from imil_backend.loop.rounds.worth import outlook
from imil_backend.loop.versions.shortcut_results import about
from imil_backend.loop.views.image_export import export
from imil_backend.loop.views.status import status, versions
from imil_backend.store.tables import Dataset, Round, Sample, Version


@pytest.fixture
def answered(open_round: OpenRound) -> OpenRound:
    """The first two painted, the third labelled wrong, the fourth empty."""
    results = (region(mask_of(0, 1)), region(mask_of(2)), chosen("label_wrong"), [])
    for task, result in zip(open_round.tasks, results, strict=True):
        open_round.label_studio.annotate(task, result)
    reconcile(open_round.backend, open_round.project)
    return open_round


def test_exported_images_are_black_where_something_was_painted_and_the_originals_stay(
    answered: OpenRound, tmp_path: Path
) -> None:
    report = export(answered.backend, answered.dataset, tmp_path / "out")
    with report.manifest.open() as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "train-0": "blackout", "train-1": "blackout", "train-2": "label_wrong",
    }  # fmt: skip
    assert (rows["train-0"]["blacked_out_share"], rows["train-0"]["label"]) == ("0.25", "lesion")
    image = np.asarray(Image.open(tmp_path / "out" / rows["train-0"]["image"]))
    mask = np.asarray(Image.open(tmp_path / "out" / rows["train-0"]["mask"])).astype(bool)
    assert (mask == mask_of(0, 1)).all()
    assert (image == np.where(mask, 0, 50)).all()
    original = answered.backend.directory / "originals" / "train-0.png"
    assert (np.asarray(Image.open(original)) == 50).all()


def test_an_export_goes_on_past_images_that_are_gone(answered: OpenRound, tmp_path: Path) -> None:
    (answered.backend.directory / "originals" / "train-0.png").unlink()
    report = export(answered.backend, answered.dataset, tmp_path / "out", everything=True)
    assert (report.written, [key for key, _ in report.set_aside]) == (13, ["key-train-0"])


def test_an_export_of_nothing_or_to_nowhere_is_refused(
    backend: Backend, open_round: OpenRound, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="--all"):
        export(backend, open_round.dataset, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        export(backend, open_round.dataset, tmp_path / "file", everything=True)


def close(answered: OpenRound, **recipe: Any) -> None:
    with answered.backend.store.begin() as session:
        baseline = session.get_one(Version, answered.version.id)
        directory = answered.backend.path("versions", "candidate", "x").parent
        candidate = Version(
            dataset_id=1, name="candidate", parent_id=baseline.id, baseline_id=baseline.id,
            recipe={"epochs": 3, **recipe}, directory=str(directory), metrics=METRICS,
            runtime_info={"device": "cpu"}, fingerprint="abc", blacked_out=2, code_version="0", seconds=3,
        )  # fmt: skip
        session.add(candidate)
        session.flush()
        round_ = session.get_one(Round, answered.id)
        round_.version_id = candidate.id
        round_.verdict = {"verdict": "undecided", "reason": "Too few groups.", "candidate": "candidate"}
        change_state(round_, CLOSED)


def test_a_report_compares_the_two_versions_and_shows_what_was_blacked_out(answered: OpenRound) -> None:
    close(answered)
    report = write_report(answered.backend, answered.id)
    text = report.text.read_text()
    assert "simulated" not in text
    for expected in (
        "# Round 1: candidate",
        "**undecided**: Too few groups.",
        "| validation | baseline",
        "(this is no. 2)",
        "| test |",
        "| 0.7500 | 0.7500 |",
        "- blackout: 2",
        "- label_wrong: 1",
        "`abc`",
    ):
        assert expected in text
    assert len(report.pictures) == 2
    panels = np.asarray(Image.open(report.pictures[0]))
    assert (panels[:, :8] == 50).all()  # as it was
    assert (panels[:, -8:-6] == 0).all()  # as training sees it now
    assert (panels[:, -6:] == 50).all()
    assert write_report(answered.backend, answered.id).text == report.text


def test_a_report_says_where_images_are_phantoms(answered: OpenRound) -> None:
    with answered.backend.store.begin() as session:
        session.get_one(Sample, 1).name = "images/phantom-00001.png"
    close(answered)
    text = write_report(answered.backend, answered.id).text.read_text()
    assert "**Phantoms**: drawn images are among these" in text


def test_with_counterexamples_the_pictures_show_another_images_irrelevant_part(answered: OpenRound) -> None:
    other = answered.backend.directory / "originals" / "train-1.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 200, np.uint8)).save(other)
    close(answered, correction="counterexample")
    panels = np.asarray(Image.open(write_report(answered.backend, answered.id).pictures[0]))
    assert (panels[:, :WIDTH] == 50).all()  # as it was
    region = mask_of(0, 1) | mask_of(2)  # its own, and that of the other one
    assert (panels[:, -WIDTH:] == np.where(region, 200, 50)[..., None]).all()


def test_a_report_lists_what_the_verdict_rests_on(answered: OpenRound) -> None:
    close(answered)
    labels = [0] * 300 + [1] * 300
    right, wrong = [[0.9, 0.1]] * 300 + [[0.1, 0.9]] * 300, [[0.9, 0.1]] * 600
    split = {"keys": range(600), "groups": range(600), "labels": labels}
    found = compare(
        {**split, "probabilities": right}, {**split, "probabilities": wrong}, classes=("lesion", "normal")
    )
    with answered.backend.store.begin() as session:
        session.get_one(Round, answered.id).verdict = json.loads(json.dumps(asdict(found)))
    text = write_report(answered.backend, answered.id).text.read_text()
    assert "**reject**: The candidate is worse. Accuracy went from 1.000 to 0.500" in text
    assert "| recall of normal | 1.0000 | 0.0000 | -1.0000 to " in text
    assert "| 0.100 | 300 | 300, 0 | worse |" in text
    assert "| recall of lesion | 1.0000 | 1.0000 |" in text
    assert "| 0, 0 | not worse |" in text
    assert "| AUC | 1.0000 | 0.5000 |" in text


def finding(metric: str, difference: float, lower: float, upper: float) -> dict[str, Any]:
    return {
        "metric": metric, "label": None, "champion": 0.9, "candidate": 0.9 + difference, "margin": 0.02,
        "difference": difference, "lower": lower, "upper": upper, "groups": 40, "groups_worse": 1,
        "groups_better": 3, "state": "undecided", "p": 1.0, "reason": "", "p_gain": 0.5,
    }  # fmt: skip


def test_report_and_status_tell_what_the_round_was_worth(
    answered: OpenRound, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, seconds in enumerate((30.0, 60.0, 30.0, None), start=1):
        answered.label_studio.update(number, lead_time=seconds)
    reconcile(answered.backend, answered.project)
    close(answered)
    with answered.backend.store.begin() as session:
        found = [finding("accuracy", 0.05, -0.01, 0.11), finding("robust_accuracy", 0.07, 0.02, 0.12)]
        session.get_one(Round, answered.id).verdict = {"verdict": "promote", "reason": "", "findings": found}
    text = write_report(answered.backend, answered.id).text.read_text()
    for said in (
        "Clinicians spent 2.0 minutes on 3 of 4 answers (reviews, gold tasks and uncounted ones: 1), 30 "
        "seconds each (median).",
        "Accuracy: +5.0 points (-1.0 to +11.0), +2.50 a minute (-0.50 to +5.50).",
        "Robust accuracy: +7.0 points (+2.0 to +12.0), +3.50 a minute (+1.00 to +6.00).",
        "Another round has nothing to ask about: no misprediction is left.",
    ):
        assert said in text
    monkeypatch.setattr(console, "width", 1000)
    show_status(status(answered.backend))
    assert "Clinicians spent 2.0 minutes" in capsys.readouterr().out


def test_whether_another_round_pays_is_said_of_the_latest_round_alone(answered: OpenRound) -> None:
    close(answered)
    with answered.backend.store.begin() as session:
        found = [finding("accuracy", 0.05, 0.01, 0.11)]
        session.get_one(Round, answered.id).verdict = {"verdict": "promote", "reason": "", "findings": found}
    (Path(answered.version.directory) / MINING_FILE).unlink()
    text = write_report(answered.backend, answered.id).text.read_text()
    assert "It is unknown whether another round pays: what the champion got wrong cannot be read." in text
    with answered.backend.store.begin() as session:
        session.add(Round(dataset_id=1, number=2, state=CLOSED))
    assert "another round" not in write_report(answered.backend, answered.id).text.read_text().lower()


@pytest.mark.parametrize(
    ("findings", "drop", "told"),
    [
        ([("accuracy", 0.05, 0.01, 0.09)], None, "likely to pay: this one raised accuracy beyond chance"),
        (
            [("accuracy", 0.01, -0.04, 0.06)],
            0.1,
            "may pay: the model still leans on what was painted (by 10.0",
        ),
        ([("accuracy", -0.01, -0.03, 0.01)], None, "unlikely to pay: this one gained at most 1.0 points"),
        ([("accuracy", 0.01, -0.04, 0.06)], None, "unknown whether another round pays: 40 groups"),
    ],
)
def test_whether_another_round_pays_is_said_with_its_reason(
    findings: list[tuple[str, float, float, float]], drop: float | None, told: str
) -> None:
    shortcut = None if drop is None else {"candidate": {"drop": {"value": drop, "lower": drop / 2}}}
    assert told in outlook([finding(*each) for each in findings], 5, shortcut)
    assert "nothing to ask" in outlook([finding(*each) for each in findings], 0, shortcut)


def test_report_and_status_tell_how_far_both_versions_lean_on_what_is_irrelevant(
    answered: OpenRound, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    close(answered)
    test = shortcut_results("baseline", [0.5, 0.6, 0.7, 0.6], [0.9, 0.8, 0.9, 1.0])

    def told(**changes: Any) -> str:
        with answered.backend.store.begin() as session:
            round_ = session.get_one(Round, answered.id)
            round_.verdict = {**(round_.verdict or {}), "shortcut": about({**test, **changes})}
        return write_report(answered.backend, answered.id).text.read_text()

    text = told()
    assert "| with 95% bounds | champion | candidate |" in text
    assert "| robust accuracy: with the irrelevant part of any class | 0.6000 (0." in text
    assert "4 samples in 4 groups, 10 draws each; 1 samples without a known irrelevant part" in text
    assert "A drop does not prove a shortcut" in text
    found = status(answered.backend)
    shown = found["datasets"][0]["last_closed"]["verdict"]["shortcut"]
    assert shown["candidate"]["drop"]["value"] == pytest.approx(0.1)
    monkeypatch.setattr(console, "width", 200)
    show_status(found)
    said = capsys.readouterr().out
    assert "Champion: robust accuracy 0.600 (0." in said
    assert "Candidate: robust accuracy 0.900 (0." in said

    alone = told(parent=None, parent_untested="It is gone.")
    assert "| with 95% bounds | candidate |" in alone
    assert "The champion was not tested: It is gone." in alone
    assert "Nothing is known." in told(untested="Nothing is known.")
    show_status(status(answered.backend))
    assert "Nothing is known." in capsys.readouterr().out


def test_a_round_without_a_version_has_no_report(open_round: OpenRound) -> None:
    with pytest.raises(NotFoundError, match="no version yet"):
        write_report(open_round.backend, open_round.id)


def test_status_tells_how_everything_stands(answered: OpenRound) -> None:
    set_aside(answered.backend, answered.dataset.id, "image", "bad.png", "It is empty.")
    found = status(answered.backend)
    json.dumps(found)
    (dataset,) = found["datasets"]
    assert found["worker_running"] is False
    assert (dataset["champion"], dataset["project"], dataset["samples"]["train"]) == (
        "baseline", 3, {"lesion": 4, "normal": 4},
    )  # fmt: skip
    assert (dataset["round"]["state"], dataset["round"]["tasks"], dataset["round"]["answered"]) == (
        "open",
        4,
        3,
    )
    assert dataset["answers"] == {"blackout": 2, "label_wrong": 1, "set_aside": 1}
    assert dataset["left_training"] == [
        {"sample": "key-train-2", "source": "train-2", "answer": "label_wrong", "reason": ""}
    ]
    assert [item["kind"] for item in dataset["set_aside"]] == ["image", "annotation"]
    task = answered.tasks[3]
    assert dataset["set_aside"][1] == {
        "kind": "annotation", "reference": f"annotation 4 of task {task}", "source": "train-3",
        "sample": "key-train-3", "task": task, "annotator": 1, "annotator_name": "ann@example.org",
        "link": f"https://label-studio.example.org/projects/3/data?task={task}",
        "reason": "Nothing is painted and nothing is chosen.",
    }  # fmt: skip
    assert dataset["passed_over"] == []
    assert dataset["last_closed"] is None
    close(answered)
    assert (
        status(answered.backend, "films")["datasets"][0]["last_closed"]["verdict"]["verdict"] == "undecided"
    )


def test_status_of_a_dataset_that_is_not_there_says_so(backend: Backend) -> None:
    assert status(backend)["datasets"] == []
    with pytest.raises(NotFoundError, match="'absent'"):
        status(backend, "absent")


def test_versions_are_listed_with_the_champion_marked(answered: OpenRound) -> None:
    close(answered)
    with answered.backend.store.begin() as session:
        listed = versions(session, session.get_one(Dataset, 1))
    assert [(each["name"], each["champion"], each["promoted_once"], each["parent"]) for each in listed] == [
        ("baseline", True, True, None),
        ("candidate", False, False, "baseline"),
    ]


def test_the_simulated_clinician_paints_what_the_data_sets_masks_call_irrelevant(
    open_round: OpenRound, label_studio: FakeLabelStudio, tmp_path: Path
) -> None:
    with open_round.backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            sample.clinician_mask = str(write_mask(tmp_path / "mask.png", mask_of(0, 1)))
            sample.clinician_mask_means = "relevant" if sample.name == "train-0" else "irrelevant"
    assert answer_open_tasks(open_round.backend, open_round.dataset) == 4
    reconcile(open_round.backend, open_round.project)
    painted = [load_mask(open_round.backend, row.mask_sha256, row.sample) for row in open_round.annotations]
    assert [mask.mean() for mask in painted] == [0.75, 0.25, 0.25, 0.25]
    assert answer_open_tasks(open_round.backend, open_round.dataset) == 0
    close(open_round)
    report = write_report(open_round.backend, open_round.id).text.read_text()
    assert "4 of these are by the **simulated clinician**" in report


def test_a_mask_of_another_size_or_none_names_its_sample(backend: Backend, tmp_path: Path) -> None:
    make_dataset(backend)
    with backend.store.begin() as session:
        sample = session.scalars(select(Sample)).first()
    assert sample is not None
    with pytest.raises(DatasetError, match=f"{sample.key} has no mask"):
        irrelevant_region(sample)
    sample.clinician_mask = str(write_mask(tmp_path / "mask.png", np.ones((3, 3), bool)))
    with pytest.raises(DatasetError, match=rf"{sample.key} .*3 x 3"):
        irrelevant_region(sample)


def test_annotators_of_one_sample_agree_as_far_as_their_masks_overlap(open_round: OpenRound) -> None:
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(0, 1)), by=1)
    second = open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1, 2)), by=2)
    reconcile(open_round.backend, open_round.project)
    (dataset,) = status(open_round.backend)["datasets"]
    assert dataset["agreement"] == {"samples": 1, "dice": 0.5}

    open_round.label_studio.delete(second)
    reconcile(open_round.backend, open_round.project)
    (dataset,) = status(open_round.backend)["datasets"]
    assert dataset["agreement"] is None


def test_a_damaged_mask_of_one_annotator_does_not_keep_out_the_answer_of_another(
    open_round: OpenRound,
) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    label_studio.annotate(task, region(mask_of(0, 1)), by=1)
    reconcile(open_round.backend, open_round.project)
    for mask in (open_round.backend.directory / "masks").rglob("*.png"):
        mask.unlink()
    second = label_studio.annotate(task, region(mask_of(1, 2)), by=2)
    sync_annotation(open_round.backend, open_round.project, second)
    (dataset,) = status(open_round.backend)["datasets"]
    assert (dataset["answers"], dataset["agreement"]) == ({"blackout": 2}, None)


def test_what_label_studio_alone_knows_is_left_out_while_it_is_down(
    answered: OpenRound,
) -> None:
    answered.label_studio.down = True
    (dataset,) = status(answered.backend)["datasets"]
    (aside,) = dataset["set_aside"]
    assert (aside["annotator"], aside["annotator_name"]) == (1, None)
    assert aside["link"] == f"http://label-studio.test/projects/3/data?task={answered.tasks[3]}"


def test_the_status_says_whose_annotation_is_set_aside_and_where_to_open_it(
    answered: OpenRound, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {
        **region(mask_of(1))[0], "id": "k1", "type": "keypointlabels",
        "value": {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["Irrelevant"]},
    }  # fmt: skip
    answered.label_studio.annotate(answered.tasks[3], [*region(mask_of(0)), point], by=7)
    reconcile(answered.backend, answered.project)
    show_status(status(answered.backend))
    lines = capsys.readouterr().out.splitlines()
    where = f"https://label-studio.example.org/projects/3/data?task={answered.tasks[3]}"
    assert (
        f"Set aside annotation 4 of task {answered.tasks[3]} (train-3) by ann@example.org: "
        f"Nothing is painted and nothing is chosen. {where}"
    ) in lines
    assert (
        f"Partly used annotation 5 of task {answered.tasks[3]} (train-3) by bob@example.org: "
        f"Ignored, since a key point covers no pixels: 'k1'. Paint over what is meant. {where}"
    ) in lines

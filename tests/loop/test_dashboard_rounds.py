"""What the pages of rounds, samples and reasons show, against what is worked out anew from the files."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dashboard_scene import Scene, make_scene, open_scene
from loop_fakes import FakeLabelStudio, OpenRound, chosen, mask_of, region
from PIL import Image
from sqlalchemy import select

from imil_backend.errors import NotFoundError
from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.learning.contract.evidence import read_evidence
from imil_backend.learning.contract.training_job import read_json, write_json
from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import load_mask, sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CANCELLED, CLOSED, Purpose
from imil_backend.loop.dashboard.given_answers import Given
from imil_backend.loop.dashboard.overview.start import start
from imil_backend.loop.dashboard.pictures import SIDE, Overlay, encoded, outlined, panel_of, with_evidence
from imil_backend.loop.dashboard.rounds.one_round import round_page
from imil_backend.loop.dashboard.rounds.round_pictures import drawn, has_evidence, round_picture, sample_of
from imil_backend.loop.dashboard.rounds.where_it_looks import reasons_page
from imil_backend.loop.dashboard.samples.one_sample import sample_page
from imil_backend.loop.dashboard.samples.sample_pictures import answer_picture, sample_picture
from imil_backend.loop.dashboard.versions import versions_of
from imil_backend.loop.evaluation import reasons as reasons_module
from imil_backend.loop.evaluation.changes import CHANGES_FILE, kept_changes
from imil_backend.loop.evaluation.reasons import (
    PAINTED_SIDE,
    REASONS_FILE,
    ROUNDING,
    cells_covered,
    keep_reasons,
    kept_reasons,
    share_inside,
)
from imil_backend.loop.versions.champions import PERSON, promote, reject
from imil_backend.store.tables import Annotation, Project, Round, Sample, Task, Version

pytestmark = pytest.mark.slow  # a database and plots
ONE = 1  # number of the scene's dataset and round


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For tests that change nothing in it: its plots take a second to draw."""
    with open_scene(tmp_path_factory.mktemp("data")) as scene:
        yield scene


def right(scene: Scene, version: Version, split: str) -> dict[str, bool]:
    found = scene.predictions(version)[split]
    rows = zip(found["keys"], found["labels"], found["probabilities"], strict=True)
    return {key: values[label] == max(values) for key, label, values in rows}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_right_and_wrong_before_and_after_are_counted_as_the_files_say(scene: Scene, split: str) -> None:
    before, after = (right(scene, version, split) for version in (scene.before, scene.after))
    changes = kept_changes(scene.report)
    assert changes is not None
    shown = changes.splits[split]
    assert shown.samples == len(before)
    assert shown.both_right == sum(before[key] and after[key] for key in before)
    assert shown.both_wrong == sum(not before[key] and not after[key] for key in before)
    assert {each.key for each in shown.became_right} == {k for k in before if after[k] and not before[k]}
    assert {each.key for each in shown.became_wrong} == {k for k in before if before[k] and not after[k]}


def test_the_largest_change_comes_first(scene: Scene) -> None:
    changes = kept_changes(scene.report)
    assert changes is not None
    found = changes.splits["validation"].became_right
    steps = [each.probability_after - each.probability_before for each in found]
    assert len(steps) == 2
    assert steps == sorted(steps, reverse=True)


def test_values_and_intervals_stand_in_the_table_and_in_the_plots_text(scene: Scene) -> None:
    page = round_page(scene.backend, ONE, ONE)
    assert page.changes is not None
    rows = {row.title: row for row in page.changes.splits["validation"].rows}
    for version, name in ((scene.before, "before"), (scene.after, "after")):
        answers = right(scene, version, "validation")
        accuracy = getattr(rows["accuracy"], name)
        assert math.isclose(accuracy.value, sum(answers.values()) / len(answers))
        lesions = [key for number, key in enumerate(answers) if number % 2 == 0]
        recall = getattr(rows["recall of lesion"], name)
        assert math.isclose(recall.value, sum(answers[key] for key in lesions) / len(lesions))
        assert accuracy.lower < accuracy.value < accuracy.upper
        assert f"accuracy: {rows['accuracy'].before.value:.3f}" in page.plots[0].text
    for plot in page.plots:
        assert isinstance(plot, Plot)
        assert drawn(scene.backend, ONE, ONE, plot.file).startswith(b"<?xml")


def test_the_verdict_is_a_sentence_with_who_answered_and_what_is_simulated(scene: Scene) -> None:
    page = round_page(scene.backend, ONE, ONE)
    assert page.headline == (
        "The new version held up in the comparison and was promoted: it took the champion's place."
    )
    assert {by.name: (by.total, by.seconds) for by in page.answers} == {
        "annotator A": (2, 30.0),
        "annotator B": (2, 12.0),
        "simulated clinician": (1, 1.0),
    }
    assert (page.given_until.answers, page.given_until.simulated) == (5, 1)
    assert page.worth[0].startswith("Clinicians spent 0.7 minutes on 3 of 5 answers")


def test_what_answers_nothing_that_was_asked_is_shown_and_not_counted(open_round: OpenRound) -> None:
    """It is counted neither here nor on the start page."""
    backend, label_studio, tasks = open_round.backend, open_round.label_studio, open_round.tasks
    painted = region(mask_of(1))
    simulated = [{**item, "meta": META} for item in painted]
    label_studio.annotate(tasks[0], painted, by=9)
    label_studio.update(label_studio.annotate(tasks[1], [], by=9), was_cancelled=True)
    label_studio.annotate(tasks[2], [*painted, *chosen("nothing_to_black_out")], by=9)
    label_studio.annotate(tasks[2], simulated)
    label_studio.annotate(tasks[3], simulated)
    with backend.store.begin() as session:
        task = session.scalars(select(Task).where(Task.label_studio_id == tasks[3])).one()
        task.purpose = Purpose.REVIEW.value
    reconcile(backend, open_round.project)
    page = round_page(backend, ONE, ONE)
    assert {by.name: (dict(by.counts), dict(by.others)) for by in page.answers} == {
        "annotator A": ({"painted": 1}, {"skipped": 1, "set aside": 1}),
        "simulated clinician": ({"painted": 1}, {"painted (review)": 1}),
    }
    assert page.given_until == Given(answers=2, simulated=1)
    assert start(backend).cards[0].simulated == 1


@pytest.mark.parametrize(
    ("verdict", "words"), [("reject", "is worse and was rejected"), ("undecided", "until a person decides")]
)
def test_other_verdicts_say_what_became_of_the_champion(
    backend: Backend, label_studio: FakeLabelStudio, verdict: str, words: str
) -> None:
    scene = make_scene(backend, label_studio, verdict=verdict, report=False)
    assert words in round_page(backend, ONE, ONE).headline
    with backend.store.begin() as session:
        promote(session, session.get_one(Version, scene.after.id), PERSON)
    page = round_page(backend, ONE, ONE)
    assert (page.decided or "").startswith("A person promoted it (20")
    assert "until a person decides" not in page.headline


def test_who_decides_that_the_champion_stays_is_shown(
    backend: Backend, label_studio: FakeLabelStudio
) -> None:
    scene = make_scene(backend, label_studio, verdict="undecided", report=False)
    assert round_page(backend, ONE, ONE).decided is None
    with backend.store.begin() as session:
        reject(session, session.get_one(Version, scene.after.id), "ann")
    page = round_page(backend, ONE, ONE)
    assert (page.decided or "").startswith("A person rejected it: the champion stays")
    assert "until a person decides" not in page.headline


def test_an_undecided_verdict_waits_for_nobody_once_a_later_round_has_closed(
    backend: Backend, label_studio: FakeLabelStudio
) -> None:
    make_scene(backend, label_studio, verdict="undecided", report=False)
    with backend.store.begin() as session:
        session.add(Round(dataset_id=ONE, number=2, state=CLOSED, verdict={"verdict": "undecided"}))
    assert round_page(backend, ONE, ONE).headline.endswith("nor that it is worse.")


def test_a_round_that_was_cancelled_says_what_becomes_of_its_answers(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Round, open_round.id).state = CANCELLED
    page = round_page(open_round.backend, ONE, ONE)
    assert "brought no version" in page.headline
    assert page.changes is None
    with pytest.raises(NotFoundError):
        round_page(open_round.backend, ONE, 7)


def test_a_baseline_has_nothing_to_be_compared_with(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        session.add(Round(dataset_id=ONE, number=0, state=CLOSED, version_id=open_round.version.id,
                          verdict={"verdict": "promote", "reason": "It is the first version."}))  # fmt: skip
    page = round_page(open_round.backend, ONE, 0)
    assert page.headline == "This is the first version: there was nothing to compare it with."
    assert not has_evidence(open_round.backend, ONE, 0)


def test_masks_of_the_simulated_clinician_are_told_where_shares_and_versions_are(scene: Scene) -> None:
    """Of the four painted answers one is simulated; the fifth answer is *unreadable*."""
    painted = Given(answers=4, simulated=1)
    assert reasons_page(scene.backend, ONE).painted == round_page(scene.backend, ONE, ONE).painted == painted
    assert versions_of(scene.backend, ONE).given == Given(answers=5, simulated=1)


def test_the_share_of_evidence_in_painted_pixels_is_that_of_the_files(scene: Scene) -> None:
    reasons = kept_reasons(scene.report)
    assert reasons is not None
    assert (reasons.painted, len(reasons.without)) == (3, 0)
    with scene.backend.store.begin() as session:
        states = sample_states(scene.backend, session, scene.dataset)
        painted = {
            session.get_one(Sample, number): state for number, state in states.items() if state.mask_sha256
        }
    for version, name in ((scene.before, "before"), (scene.after, "after")):
        file = read_evidence(Path(version.directory))
        assert file is not None
        shares = []
        for sample, state in painted.items():
            mask = load_mask(scene.backend, state.mask_sha256 or "", sample)
            # Pixels of 7 x 7 times the image, so that each belongs to one cell.
            fine = np.kron(mask, np.ones((7, 7)))
            cells = fine.reshape(7, mask.shape[0], 7, mask.shape[1]).mean((1, 3))
            found = file.sample(sample.key)
            assert found is not None
            positive = np.clip(found.predicted.astype(float), 0, None)
            shares.append((positive * cells).sum() / positive.sum())
        assert math.isclose(getattr(reasons.shares[0], name).value, np.mean(shares), abs_tol=1e-6)
    assert math.isclose(
        reasons.shares[0].difference.value,
        reasons.shares[0].after.value - reasons.shares[0].before.value,
        abs_tol=1e-12,
    )


def test_painted_masks_are_in_memory_one_after_the_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []

    def load_and_note(*arguments: Any) -> Any:
        mask = load_mask(*arguments)
        loaded.append(weakref.ref(mask))
        assert sum(each() is not None for each in loaded) <= 2  # the one before goes when this one is there
        return mask

    monkeypatch.setattr(reasons_module, "load_mask", load_and_note)
    with scene.backend.store.begin() as session:
        keep_reasons(scene.backend, session, session.get_one(Round, scene.round_id), scene.report)
    assert len(loaded) == 3


def test_evidence_against_the_class_does_not_count_and_none_has_no_share() -> None:
    mask = np.zeros((14, 14), bool)
    mask[:2, :2] = True
    evidence = np.zeros((7, 7), np.float16)
    covered = cells_covered(mask, evidence.shape)
    assert share_inside(evidence, covered) is None
    evidence[0, 0], evidence[6, 6], evidence[3, 3] = 3, 1, -100
    assert share_inside(evidence, covered) == 0.75


def test_versions_without_evidence_are_named(backend: Backend, label_studio: FakeLabelStudio) -> None:
    make_scene(backend, label_studio, evidence=False)
    page = reasons_page(backend, ONE)
    assert page.reasons is not None
    assert list(page.reasons.without) == ["baseline", "candidate"]
    assert not has_evidence(backend, ONE, ONE)
    assert sample_page(backend, ONE, "key-train-0").round is None
    with pytest.raises(NotFoundError, match="no class evidence"):
        round_picture(backend, ONE, ONE, "key-train-0", "before")


@pytest.mark.parametrize("evidence", [True, False])
def test_a_samples_probability_in_each_version_is_that_of_the_files(
    backend: Backend, label_studio: FakeLabelStudio, evidence: bool
) -> None:
    """Of versions without evidence it comes from their predictions."""
    scene = make_scene(backend, label_studio, evidence=evidence, report=False)
    lines = sample_page(backend, ONE, "key-validation-3").versions
    for line, version in zip(lines, (scene.before, scene.after), strict=True):
        found = scene.predictions(version)["validation"]
        place = found["keys"].index("key-validation-3")
        own = found["probabilities"][place][found["labels"][place]]
        assert line.probability == pytest.approx(own, abs=1e-6)
        assert line.predicted == ("lesion" if version is scene.after else "normal")


def test_a_sample_has_the_answers_of_each_their_agreement_and_its_history(scene: Scene) -> None:
    page = sample_page(scene.backend, ONE, "key-train-0")
    assert [(each.by, each.answer) for each in page.answers] == [
        ("annotator A", "painted"),
        ("annotator B", "painted"),
    ]
    assert page.several and page.given.simulated == 0
    assert [entry.event for entry in page.history] == ["answered", "answered"]
    assert (page.history[0].by, page.history[0].details) == (
        "annotator A",
        "annotation 1, answer painted, changed in Label Studio 2026-01-01 00:00:06",
    )
    assert page.agreement == 0.5
    assert page.tasks == [(101, "https://label-studio.example.org/projects/3/data?task=101")]
    assert sample_page(scene.backend, ONE, "key-train-3").left_as == "unreadable"


def test_pictures_are_of_the_samples_own_round_and_answers(scene: Scene) -> None:
    backend, sample = scene.backend, "key-train-0"
    pictures = [
        *(round_picture(backend, ONE, ONE, sample, kind) for kind in ("image", "before", "after")),
        *(sample_picture(backend, ONE, sample, kind) for kind in ("image", "mask", "blackout")),
        sample_picture(backend, ONE, sample, "counterexample"),
        answer_picture(backend, ONE, sample, 1),
    ]
    assert all(each.startswith(b"\xff\xd8") for each in pictures)
    assert pictures[1] != pictures[2]
    for missing in ("nothing", "..", "drawn"):
        with pytest.raises(NotFoundError):
            sample_picture(backend, ONE, sample, missing)
        with pytest.raises(NotFoundError):
            drawn(backend, ONE, ONE, f"../{missing}")
    with pytest.raises(NotFoundError):
        answer_picture(backend, ONE, "key-train-1", 1)  # another sample's
    with pytest.raises(NotFoundError):
        sample_picture(backend, ONE, "key-validation-0", "mask")


def test_a_sample_whose_masks_come_to_nothing_lends_none(
    backend: Backend, label_studio: FakeLabelStudio
) -> None:
    """Most people call the first painted one of another class unreadable now; another one is pasted in."""
    make_scene(backend, label_studio, report=False)
    before = sample_picture(backend, ONE, "key-train-2", "counterexample")
    for by in (4, 9):
        label_studio.annotate(sorted(label_studio.tasks_there)[1], chosen("unreadable"), by=by)
    with backend.store.begin() as session:
        project = session.scalars(select(Project)).one()
    reconcile(backend, project)
    assert sample_picture(backend, ONE, "key-train-2", "counterexample") not in {before, b""}


def test_a_report_has_the_intervals_of_the_pages(scene: Scene) -> None:
    text = (scene.report / "report.md").read_text()
    kept = read_json(scene.report / "evaluation.json")
    for split in ("validation", "test"):
        for each in kept["splits"][split]["estimates"][:3]:  # of the classes' recall there is no line
            interval = "{value:.4f} ({lower:.4f} to {upper:.4f}); {samples} samples of {groups} groups"
            assert interval.format(**each) in text


def test_what_another_release_has_kept_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    for name, kept in ((CHANGES_FILE, kept_changes), (REASONS_FILE, kept_reasons)):
        assert kept(tmp_path) is None
        write_json(tmp_path / name, {"splits": {"validation": {"more": 1}}, "shares": [{"other": 2}]})
        assert kept(tmp_path) is None


def test_of_very_many_painted_samples_some_are_drawn(
    backend: Backend, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(backend, label_studio, report=False)
    monkeypatch.setattr(reasons_module, "MOST_PAINTED", 2)
    scene.report.mkdir(exist_ok=True)
    with backend.store.begin() as session:
        keep_reasons(backend, session, session.get_one(Round, scene.round_id), scene.report)
    reasons = kept_reasons(scene.report)
    assert reasons is not None
    assert (reasons.painted, reasons.drawn, reasons.shares[0].samples) == (3, 2, 2)


def test_what_is_painted_in_later_rounds_is_no_reason_of_this_one(
    backend: Backend, label_studio: FakeLabelStudio
) -> None:
    scene = make_scene(backend, label_studio, report=False)
    scene.report.mkdir(exist_ok=True)
    with backend.store.begin() as session:
        later = Round(dataset_id=scene.dataset.id, number=2, state="open")
        session.add(later)
        session.flush()
        painted = select(Task).join(Annotation).where(Annotation.mask_sha256.is_not(None)).limit(1)
        session.scalars(painted).one().round_id = later.id
        keep_reasons(backend, session, session.get_one(Round, scene.round_id), scene.report)
    reasons = kept_reasons(scene.report)
    assert reasons is not None
    assert reasons.painted == 2  # of three


def test_a_mask_leaves_nothing_but_rounding_in_the_places_that_it_borders_on() -> None:
    """At 450 pixels the 28th of 56 edges is a pixel's, but for the last bit of its number."""
    lower = np.zeros((450, 450), bool)
    lower[225:] = True
    covered = cells_covered(lower, (PAINTED_SIDE, PAINTED_SIDE))
    assert covered[27].max() < ROUNDING < covered[28].min()


def test_what_speaks_for_the_class_is_orange_and_what_speaks_against_it_blue() -> None:
    evidence = np.zeros((7, 7), np.float16)
    evidence[:, :2], evidence[:, 5:] = 1, -1
    picture = np.asarray(with_evidence(Image.new("RGB", (70, 70), "black"), Overlay(evidence, 2.0)))
    left, middle, right_ = (picture[35, column].astype(int) for column in (3, 35, 66))
    assert left[0] > left[2] and right_[2] > right_[0] and middle.max() < 40
    weaker = np.asarray(with_evidence(Image.new("RGB", (70, 70), "black"), Overlay(evidence, 4.0)))
    assert weaker[35, 3].astype(int).sum() < left.sum()  # the scale is shared, not each picture's own


def test_where_another_class_was_predicted_its_evidence_is_shown_too(scene: Scene) -> None:
    right_and_wrong = sample_page(scene.backend, ONE, "key-validation-3").looked
    assert [(each.kind, each.version, each.label) for each in right_and_wrong] == [
        ("before", "baseline", "normal"),
        ("after", "candidate", "normal"),
        ("after-predicted", "candidate", "lesion"),
    ]
    right_twice = sample_page(scene.backend, ONE, "key-validation-5").looked
    assert [each.kind for each in right_twice] == ["before", "after"]


def test_all_evidence_of_a_sample_in_a_round_is_on_one_scale(scene: Scene) -> None:
    key, maps = "key-validation-3", {}
    for version, kind in ((scene.before, "before"), (scene.after, "after")):
        file = read_evidence(Path(version.directory))
        assert file is not None
        found = file.sample(key)
        assert found is not None
        maps[kind], maps[f"{kind}-predicted"] = found.label, found.predicted
    most = max(float(np.abs(each).max()) for each in maps.values())
    with scene.backend.store.begin() as session:
        panel = panel_of(scene.backend, sample_of(session, ONE, key))
    for kind, evidence in maps.items():
        expected = encoded(with_evidence(panel, Overlay(evidence, most)))
        assert round_picture(scene.backend, ONE, ONE, key, kind) == expected, kind


def test_an_outline_is_closed_at_the_images_border() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:100, :100] = True
    picture = np.asarray(outlined(Image.new("RGB", (SIDE, SIDE), "black"), mask))
    assert picture[0, 50].any() and picture[50, 0].any() and picture[99, 50].any()
    assert not picture[50, 50].any()

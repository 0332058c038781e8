"""The grid of samples: chosen, sorted, cut into pages; and thumbnails."""

from __future__ import annotations

from pathlib import Path

import pytest
from loop_fakes import OpenRound, chosen, make_version, mask_of, on_both_databases, region
from PIL import Image
from sqlalchemy import select

from imil_backend.errors import ImageError, NotFoundError
from imil_backend.images.masks.masks import dice
from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.learning.contract.training_job import (
    MINING_FILE,
    PREDICTIONS_FILE,
    read_json,
    write_json,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import audit
from imil_backend.loop.base.states import CLOSED, Purpose
from imil_backend.loop.dashboard.samples import grid as grid_module
from imil_backend.loop.dashboard.samples.grid import Asked, Grid, grid_of
from imil_backend.loop.dashboard.samples.thumbnails import SIDE, thumbnail
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.splitting.exclusion import EXPLAINED, GROUP_IN_TEST
from imil_backend.store.tables import Sample, Task, Version


def grid(open_round: OpenRound, **asked: object) -> Grid:
    return grid_of(open_round.backend, open_round.dataset.id, Asked(**asked))  # type: ignore[arg-type]


def names(open_round: OpenRound, **asked: object) -> list[str]:
    return [each.name for each in grid(open_round, **asked).samples]


def trains(*numbers: int) -> list[str]:
    return [f"train-{number}" for number in numbers]


def test_without_a_wish_all_samples_come_as_imported(open_round: OpenRound) -> None:
    found = grid(open_round)
    assert (found.count, found.all, found.pages) == (14, 14, 1)
    assert [each.name for each in found.samples][:9] == [*trains(*range(8)), "validation-0"]
    first, test = found.samples[0], found.samples[-1]
    assert (first.predicted, first.is_wrong, first.answers) == ("normal", True, ())
    assert (test.split, test.predicted, test.is_wrong) == ("test", None, False)  # for reports alone


def test_samples_are_chosen_by_label_split_and_model(open_round: OpenRound) -> None:
    assert names(open_round, label="lesion", split="train") == trains(0, 2, 4, 6)
    assert names(open_round, model="wrong") == trains(0, 1, 2, 3)
    assert names(open_round, model="right", split="train") == trains(4, 5, 6, 7)
    assert names(open_round, label="nothing", split="'; drop table", model="x", answer="x") == names(
        open_round
    )


def test_samples_are_chosen_by_the_round_that_asked(open_round: OpenRound) -> None:
    assert grid(open_round).rounds == (1,)
    assert names(open_round, round=1) == trains(0, 1, 2, 3)
    with open_round.backend.store.begin() as session:
        session.scalars(select(Task).where(Task.rank == 2)).one().purpose = Purpose.GOLD.value
    assert names(open_round, round=1, label="lesion") == trains(0, 2)
    assert names(open_round, round=1) == trains(0, 2, 3)
    assert names(open_round, round=7) == names(open_round)


def test_samples_are_chosen_by_doubt(open_round: OpenRound) -> None:
    path = Path(open_round.version.directory) / MINING_FILE
    records = read_json(path)
    records[5]["likely_label_error"] = True
    write_json(path, records)
    assert names(open_round, model="doubted") == trains(5)
    assert grid(open_round, model="doubted").samples[0].doubted


@on_both_databases
def test_samples_are_chosen_by_answer_annotator_and_disagreement(open_round: OpenRound) -> None:
    painted, wide, unreadable = region(mask_of(1)), region(mask_of(1, 2)), chosen("unreadable")
    for place, result, by in (
        (0, painted, 1), (0, wide, 7), (1, painted, 1), (1, painted, 7), (2, painted, 1), (2, unreadable, 7),
        (3, unreadable, 1),
    ):  # fmt: skip
        open_round.label_studio.annotate(open_round.tasks[place], result, by=by)
    reconcile(open_round.backend, open_round.project)
    assert names(open_round, answer="unreadable") == trains(2, 3)
    assert names(open_round, answer="unreadable", annotator="annotator B") == trains(2)
    assert names(open_round, annotator="annotator B") == trains(0, 1, 2)
    assert names(open_round, disagree=True) == trains(0, 2)
    shown = grid(open_round, disagree=True)
    assert shown.annotators == ("annotator A", "annotator B")
    assert shown.samples[1].answers == (("annotator A", "blackout"), ("annotator B", "unreadable"))
    assert shown.samples[0].dice == pytest.approx(dice(mask_of(1), mask_of(1, 2)))


def test_samples_of_the_simulated_clinician_are_not_those_of_who_ran_it(open_round: OpenRound) -> None:
    painted = region(mask_of(1))
    for place, result in enumerate((painted, [{**item, "meta": META} for item in painted])):
        open_round.label_studio.annotate(open_round.tasks[place], result, by=1)
    reconcile(open_round.backend, open_round.project)
    assert grid(open_round).annotators == ("annotator A", "simulated clinician")
    assert names(open_round, annotator="annotator A") == trains(0)
    assert names(open_round, annotator="simulated clinician") == trains(1)


def test_samples_became_right_or_wrong_in_the_latest_round(open_round: OpenRound) -> None:
    candidate_directory = open_round.backend.path("versions", "candidate", "x").parent
    before = Path(open_round.version.directory) / PREDICTIONS_FILE
    predictions = read_json(before)
    flipped = predictions["validation"]["probabilities"][2]
    predictions["validation"]["probabilities"][2] = flipped[::-1]
    write_json(before, predictions)
    predictions["validation"]["probabilities"][2] = flipped
    predictions["validation"]["probabilities"][3].reverse()
    write_json(candidate_directory / PREDICTIONS_FILE, predictions)
    compare_with(open_round, candidate_directory)
    assert names(open_round, model="became-right") == ["validation-2"]
    assert names(open_round, model="became-wrong") == ["validation-3"]
    found = grid(open_round, model="became-right")
    assert found.compared == "baseline to candidate"
    assert found.samples[0].change == "became right"
    assert names(open_round, model="wrong", split="validation") == ["validation-2"]  # the champion's


def compare_with(open_round: OpenRound, directory: Path) -> None:
    """Close the round with a version of these results."""
    old = open_round.version
    with open_round.backend.store.begin() as session:
        session.add(
            version := Version(
                dataset_id=old.dataset_id, name="candidate", parent_id=old.id, directory=str(directory),
                recipe={}, metrics={}, runtime_info={}, fingerprint="f", blacked_out=0, code_version="0",
                seconds=1.0,
            )
        )  # fmt: skip
        session.flush()
        round_ = session.merge(open_round.round)
        round_.version_id = version.id
        change_state(round_, CLOSED)


def test_samples_are_sorted_by_what_the_model_was_sure_of(open_round: OpenRound) -> None:
    wanted = {"split": "train", "order": "margin"}
    assert names(open_round, **wanted) == trains(0, 1, 2, 3, 4, 5, 6, 7)  # -100, -99, ... 4, 5, 6, 7
    wanted["order"] = "certainty"
    assert names(open_round, **wanted) == trains(4, 5, 6, 7, 3, 2, 1, 0)
    assert names(open_round, order="margin")[-2:] == ["test-0", "test-1"]  # without a value: last


def test_pages_are_cut_and_numbers_beyond_them_are_put_right(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_module, "PAGE", 6)
    assert names(open_round, page=2) == [*trains(6, 7), *(f"validation-{number}" for number in range(4))]
    assert grid(open_round).pages == 3
    assert grid(open_round, page=99).asked.page == 3
    assert grid(open_round, page=-1).asked.page == 1


def test_what_is_kept_in_memory_follows_imports(open_round: OpenRound) -> None:
    grid(open_round)
    with open_round.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "train-4")).one()
        sample.excluded = GROUP_IN_TEST
        audit.note(session, sample.dataset_id, audit.LEFT_OUT, sample_id=sample.id, reason=GROUP_IN_TEST)
    assert grid(open_round).samples[4].excluded == EXPLAINED[GROUP_IN_TEST]
    make_version(open_round.backend, open_round.dataset, "next", wrong=trains(7))
    assert names(open_round, model="wrong") == trains(7)


def test_without_a_version_samples_are_shown_all_the_same(open_round: OpenRound) -> None:
    for name in (MINING_FILE, PREDICTIONS_FILE):
        (Path(open_round.version.directory) / name).unlink()
    assert grid(open_round).count == 14
    assert names(open_round, model="wrong") == []


def test_thumbnails_are_small_and_kept(open_round: OpenRound) -> None:
    number = open_round.dataset.id
    with open_round.backend.store.begin() as session:
        original = Path(session.scalars(select(Sample.path).where(Sample.name == "train-1")).one())
        Image.new("L", (600, 400), 90).save(original)
    made = thumbnail(open_round.backend, number, "key-train-1")
    (kept,) = open_round.backend.cache.glob("thumbnails/*/*.jpg")
    with Image.open(kept) as image:
        assert image.size == (SIDE, 128)
    original.unlink()
    assert thumbnail(open_round.backend, number, "key-train-1") == made
    with pytest.raises(NotFoundError):
        thumbnail(open_round.backend, number, "../../secrets")
    with pytest.raises(NotFoundError):
        thumbnail(open_round.backend, number + 1, "key-train-1")


def test_an_original_that_is_gone_has_no_thumbnail(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        Path(session.scalars(select(Sample.path).where(Sample.name == "train-1")).one()).unlink()
    with pytest.raises(ImageError):
        thumbnail(open_round.backend, open_round.dataset.id, "key-train-1")

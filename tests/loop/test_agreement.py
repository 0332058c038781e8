"""Several people answered the same samples: what counts, how far they agree, and what they disagree on."""

from __future__ import annotations

from typing import Any

import pytest
from loop_fakes import (
    OpenRound,
    chosen,
    make_version,
    mask_of,
    region,
)
from PIL import Image
from sqlalchemy import event, select

from imil_backend.cli.helpers.showing import show_status
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import sample_states
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Annotation, Annotator, Dataset, Round


def set_readers(open_round: OpenRound, readers: int) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Round, open_round.id).readers = readers


# --- what becomes of several answers


@pytest.mark.parametrize(
    ("annotators", "answers", "leaves"),
    [
        ("latest", ["blackout", "label_wrong"], "label_wrong"),
        ("latest", ["label_wrong", "blackout"], None),
        ("union", ["label_wrong", "blackout"], None),
        ("union", ["blackout", "label_wrong"], None),  # whoever comes last decides nothing
        ("majority", ["label_wrong", "blackout", "label_wrong"], "label_wrong"),
        ("majority", ["label_wrong", "unreadable", "blackout"], "unreadable"),
        ("intersection", ["label_wrong", "label_wrong"], "label_wrong"),
    ],
)
def test_more_than_half_of_the_readers_take_a_sample_out_of_training(
    open_round: OpenRound, annotators: str, answers: list[str], leaves: str | None
) -> None:
    for person, answer in enumerate(answers, start=1):
        painted = answer == "blackout"
        result = region(mask_of(1)) if painted else chosen(answer)
        open_round.label_studio.annotate(open_round.tasks[0], result, by=person)
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        change_policy(dataset, {"annotators": annotators, "readers": len(answers)})
        [state] = sample_states(open_round.backend, session, dataset).values()
    assert state.excluded_as == leaves
    assert (state.mask_sha256 is None) == (leaves is not None)


def test_a_reader_who_changes_the_answer_has_one_voice(open_round: OpenRound) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    label_studio.annotate(task, region(mask_of(1, 2)), by=1)
    label_studio.annotate(task, chosen("label_wrong"), by=1)
    label_studio.annotate(task, region(mask_of(5)), by=2)
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        change_policy(dataset, {"annotators": "union", "readers": 2})
        [state] = sample_states(open_round.backend, session, dataset).values()
        of_two = select(Annotation).join(Annotation.person).where(Annotator.label_studio_id == 2)
        own = session.scalars(of_two).one()
    assert state.mask_sha256 == own.mask_sha256


# --- agreement


@pytest.fixture
def read_twice(open_round: OpenRound) -> OpenRound:
    """Four samples, two readers: the same; other masks; paint and nothing; paint and a wrong label."""
    set_readers(open_round, 2)
    both = [
        (region(mask_of(1, 2)), region(mask_of(1, 2))),
        (region(mask_of(1, 2)), region(mask_of(2, 3))),
        (region(mask_of(1)), chosen("nothing_to_black_out")),
        (region(mask_of(1)), chosen("label_wrong")),
    ]
    for task, results in zip(open_round.tasks, both, strict=True):
        for person, result in zip((7, 9), results, strict=True):
            open_round.label_studio.annotate(task, result, by=person)
    reconcile(open_round.backend, open_round.project)
    return open_round


def test_status_tells_how_far_readers_agree_and_where_not(read_twice: OpenRound) -> None:
    (dataset,) = status(read_twice.backend)["datasets"]
    readers = dataset["readers"]
    assert (dataset["round"]["readers"], dataset["round"]["answered"]) == (2, 4)
    # Two of four agree. By chance: (6/8)^2 + 2 (1/8)^2 = 0.59375; Dice 1, 0.5 and 0.
    assert (readers["samples"], readers["same_answer"], readers["dice"]) == (4, 0.5, 0.5)
    assert readers["kappa"] == pytest.approx((0.5 - 0.59375) / (1 - 0.59375))
    assert [(item["source"], item["dice"]) for item in readers["apart"]] == [
        ("train-2", 0.0),
        ("train-3", None),
        ("train-1", 0.5),
    ]
    assert readers["apart"][1]["task"] == read_twice.tasks[3]
    assert readers["apart"][1]["answers"] == [
        {"annotator": 7, "answer": "blackout"},
        {"annotator": 9, "answer": "label_wrong"},
    ]


def test_status_loads_the_annotations_once(read_twice: OpenRound) -> None:
    loads: list[str] = []

    @event.listens_for(read_twice.backend.store.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        loads.extend(line for line in statement.splitlines() if line.startswith("SELECT annotations.id"))

    (dataset,) = status(read_twice.backend)["datasets"]
    assert dataset["readers"]["samples"] == 4
    assert len(loads) == 1


def test_readers_who_always_agree_have_no_kappa(open_round: OpenRound) -> None:
    for person in (1, 2):
        open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)), by=person)
    reconcile(open_round.backend, open_round.project)
    (dataset,) = status(open_round.backend)["datasets"]
    assert dataset["readers"] == {
        "samples": 1, "same_answer": 1.0, "kappa": None, "dice": 1.0, "apart": []
    }  # fmt: skip


def test_the_report_shows_what_the_readers_disagree_on(read_twice: OpenRound) -> None:
    version = make_version(read_twice.backend, read_twice.dataset, "newer", wrong=[])
    with read_twice.backend.store.begin() as session:
        round_ = session.get_one(Round, read_twice.id)
        round_.version_id, round_.verdict = version.id, {"verdict": "promote", "reason": "better"}
        change_state(round_, CLOSED)
    text = write_report(read_twice.backend, read_twice.id).text
    lines = text.read_text()
    assert "- 4 of 4 tasks were answered by 2 readers, 0 by fewer" in lines
    assert "answer in 50% of cases (mean over the samples; 4 pairs; kappa -0.2308)" in lines
    assert "and the mean Dice of their masks is 0.5000 (3 samples)" in lines
    told = "annotator A: blackout; annotator B: nothing; "
    assert f"- `train-2`, task {read_twice.tasks[2]}: {told}" in lines
    assert "annotator B: label_wrong; Dice -" in lines
    for number in (1, 2, 3):
        assert f"(readers-apart-{number}.png)" in lines
    first = Image.open(text.with_name("readers-apart-1.png"))
    assert first.size == (3 * 8 + 2 * 8, 6)  # the image, one reader's paint, the other's
    assert first.getpixel((16 + 1, 3)) != first.getpixel((1, 3)) == first.getpixel((32 + 1, 3))


def test_status_shows_readers_and_where_they_differ(
    read_twice: OpenRound, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("imil_backend.cli.helpers.console.console.width", 200)
    show_status(status(read_twice.backend))
    shown = capsys.readouterr().out
    assert "Round 1: open, 4 of 4 tasks answered by 2 readers, 0 by fewer" in shown
    assert "Several readers: 4 samples; the same answer in 50% of cases (kappa -0.231)" in shown
    number = read_twice.tasks[2]
    assert (
        f"They differ on train-2, task {number}: blackout (annotator 7), nothing (annotator 9); Dice 0.00"
        in shown
    )

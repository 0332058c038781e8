"""What the pages on the work show: start, queue, annotators."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from loop_fakes import OpenRound, chosen, make_version, mask_of, on_both_databases, region, write_mask
from sqlalchemy import delete, select, update
from sqlalchemy.orm import make_transient

from imil_backend.config import Settings
from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.learning.contract.training_job import MINING_FILE, read_json, write_json
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.base.states import CLOSED, FAILED, PUSHING, TRAINING, Purpose
from imil_backend.loop.dashboard.overview import pace
from imil_backend.loop.dashboard.overview.annotators import Annotators, annotators_of
from imil_backend.loop.dashboard.overview.queue import Queue, queue_of
from imil_backend.loop.dashboard.overview.start import Card, start
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.versions.champions import promote
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Task

FIRST = datetime(2026, 1, 1, tzinfo=timezone.utc)  # the clock of the Label Studio in memory begins here


def card_of(open_round: OpenRound) -> Card:
    (card,) = start(open_round.backend).cards
    return card


def answer(open_round: OpenRound, *answers: tuple[int, list[object], int]) -> None:
    """Tasks by place, what is answered, and by whom."""
    for place, result, by in answers:
        open_round.label_studio.annotate(open_round.tasks[place], result, by=by)
    reconcile(open_round.backend, open_round.project)


def change_round(open_round: OpenRound, **changes: object) -> None:
    with open_round.backend.store.begin() as session:
        session.execute(update(Round).where(Round.id == open_round.id).values(changes))


PAINTED, UNREADABLE = region(mask_of(1, 2)), chosen("unreadable")


def test_an_empty_installation_has_no_cards(backend: Backend) -> None:
    shown = start(backend)
    assert shown.cards == ()
    assert not shown.worker_runs


@on_both_databases
def test_a_card_says_how_far_the_round_is(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1), (1, UNREADABLE, 1))
    card = card_of(open_round)
    assert (card.name, card.samples) == ("films", {"train": 8, "validation": 4, "test": 2})
    assert card.round is not None
    assert (card.round.state, card.round.progress.answered, card.round.progress.tasks) == ("open", 2, 4)
    assert card.simulated == 0
    assert card.champion is not None
    assert card.champion.name == "baseline"
    assert card.needs == ()


def test_the_pace_tells_when_the_round_closes(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the four answers that close it, in two days: two more days."""
    monkeypatch.setattr(pace, "now", lambda: FIRST + timedelta(days=2))
    change_round(open_round, created_at=FIRST)
    answer(open_round, (0, PAINTED, 1), (1, UNREADABLE, 1))
    found = card_of(open_round).round.pace  # type: ignore[union-attr]
    assert found is not None
    assert (found.closes_at, found.answers) == (4, 2)
    assert found.a_day == pytest.approx(1)
    assert (found.expected, found.silence) == (FIRST + timedelta(days=4), None)


def test_silence_closes_a_round_where_the_policy_says_so(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        change_policy(session.get_one(Dataset, open_round.dataset.id), {"close_after_hours": 48})
    assert card_of(open_round).round.pace.silence is None  # type: ignore[union-attr]  # nobody has begun
    answer(open_round, (0, PAINTED, 1))
    with open_round.backend.store.begin() as session:
        answered_at = session.scalars(select(Annotation.label_studio_updated_at)).one()
    found = card_of(open_round).round.pace  # type: ignore[union-attr]
    assert found is not None
    assert found.silence == answered_at + timedelta(hours=48)


def test_answers_of_long_ago_make_no_pace(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "now", lambda: FIRST + timedelta(days=20))
    change_round(open_round, created_at=FIRST)
    answer(open_round, (0, PAINTED, 1))
    found = card_of(open_round).round.pace  # type: ignore[union-attr]
    assert found is not None
    assert (found.answers, found.expected) == (0, None)
    assert found.last is not None


def test_answers_of_the_simulated_clinician_are_called_that(open_round: OpenRound) -> None:
    answer(open_round, (0, [{**item, "meta": META} for item in PAINTED], 1))
    assert card_of(open_round).simulated == 1
    (annotator,) = annotators_of(open_round.backend, open_round.dataset.id).annotators
    assert (annotator.name, annotator.simulated) == ("simulated clinician", True)


@on_both_databases
def test_what_needs_a_person_is_said(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1), (0, UNREADABLE, 7), (1, PAINTED, 1), (1, PAINTED, 7))
    set_aside(open_round.backend, open_round.dataset.id, "image", "film.png", "It is truncated.")
    with open_round.backend.store.begin() as session:
        round_ = session.merge(open_round.round)
        round_.verdict = {"verdict": "undecided", "reason": ""}
        change_state(round_, CLOSED)
    texts = [need.text for need in card_of(open_round).needs]
    assert [text.split(".")[0] for text in texts] == [
        f"The latest verdict is undecided since {open_round.round.changed_at:%Y-%m-%d}",
        "1 sample was given different answers by different people",
        "Set aside, with reasons in `imil status`: 1 image",
    ]


def test_a_decision_or_a_second_thought_ends_the_need(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1), (0, UNREADABLE, 7))
    answer(open_round, (0, PAINTED, 7))  # the latest answer of each counts
    with open_round.backend.store.begin() as session:
        round_ = session.merge(open_round.round)
        round_.verdict = {"verdict": "undecided", "reason": ""}
        change_state(round_, CLOSED)
    candidate = make_version(open_round.backend, open_round.dataset, "candidate", champion=False)
    assert len(card_of(open_round).needs) == 1
    with open_round.backend.store.begin() as session:
        promote(session, session.merge(candidate), "person")
    assert card_of(open_round).needs == ()


def test_a_failed_round_says_why(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        change_state(session.merge(open_round.round), FAILED, "Memory ran out.")
    assert [need.text for need in card_of(open_round).needs] == ["Round 1 is failed: Memory ran out."]


def test_a_training_that_waits_for_the_worker_says_so(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        change_state(session.merge(open_round.round), TRAINING)
    assert card_of(open_round).round.training == "waits for the worker"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("images/phantom-00001.png", "phantoms"),
        ("images/000001-planted.png", "planted"),
        ("a.png", None),
        ("phantom-of-heart.png", None),
    ],
)
def test_drawn_images_are_called_that_among_others_too(
    open_round: OpenRound, name: str, made: str | None
) -> None:
    with open_round.backend.store.begin() as session:
        first, second, *_ = session.scalars(select(Sample).order_by(Sample.id))
        first.name, second.name = name, "000.png"
    assert card_of(open_round).made == made


def test_phantoms_that_are_imported_later_are_called_that(open_round: OpenRound) -> None:
    assert card_of(open_round).made is None
    with open_round.backend.store.begin() as session:
        sample = session.get_one(Sample, 1)
        make_transient(sample)
        sample.id, sample.key, sample.name = 1000, "later", "phantom-00001.png"
        session.add(sample)
    assert card_of(open_round).made == "phantoms"


def queue(open_round: OpenRound) -> Queue:
    return queue_of(open_round.backend, open_round.dataset.id)


def test_the_queue_holds_what_waits_and_what_comes_next(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).policy = {"budget": 1.0, "fill_budget": True}
    answer(open_round, (1, PAINTED, 1))
    found = queue(open_round)
    assert found.round == 1
    assert [each.name for each in found.waiting.shown] == ["train-0", "train-2", "train-3"]
    assert [each.rank for each in found.waiting.shown] == [1, 3, 4]
    assert found.waiting.shown[0].task == (
        f"https://label-studio.example.org/projects/3/data?task={open_round.tasks[0]}"
    )
    assert {each.name for each in found.following.shown} == {f"train-{number}" for number in range(4, 8)}
    assert found.following.shown[0].why.startswith("The model was right")
    assert found.problem is None


def test_a_round_that_is_being_pushed_has_not_been_answered(open_round: OpenRound) -> None:
    assert not queue(open_round).is_pushing
    with open_round.backend.store.begin() as session:
        change_state(session.merge(open_round.round), PUSHING)
    assert queue(open_round).is_pushing


def test_a_task_of_two_readers_waits_for_the_second(open_round: OpenRound) -> None:
    change_round(open_round, readers=2)
    answer(open_round, (0, PAINTED, 1), (1, PAINTED, 1), (1, PAINTED, 7))
    assert [each.name for each in queue(open_round).waiting.shown] == ["train-0", "train-2", "train-3"]


def test_the_queue_says_whose_label_is_doubted(open_round: OpenRound) -> None:
    path = Path(open_round.version.directory) / MINING_FILE
    records = read_json(path)
    for record in records:
        record["likely_label_error"] = record["key"] == "key-train-3"
    write_json(path, records)
    whys = {each.name: each.why for each in queue(open_round).waiting.shown}
    assert "label may be wrong" in whys["train-3"]
    assert whys["train-0"] == "The model was wrong."


def test_without_a_champion_the_queue_says_what_to_do(backend: Backend, dataset: Dataset) -> None:
    found = queue_of(backend, dataset.id)
    assert found.following.count == 0
    assert "imil train" in str(found.problem)


def annotators(open_round: OpenRound) -> Annotators:
    return annotators_of(open_round.backend, open_round.dataset.id)


@on_both_databases
def test_annotators_have_counts_times_and_agreement(open_round: OpenRound) -> None:
    wide = region(mask_of(1, 2, 3, 4))
    answer(open_round, (0, PAINTED, 1), (0, wide, 7), (1, PAINTED, 1), (1, PAINTED, 7), (2, UNREADABLE, 7))
    with open_round.backend.store.begin() as session:
        for number, annotation in enumerate(session.scalars(select(Annotation).order_by(Annotation.id))):
            annotation.lead_time = None if number == 4 else 10.0 * number
    first, second = annotators(open_round).annotators
    assert (first.name, second.name) == ("annotator A", "annotator B")
    assert (dict(first.answers), dict(second.answers)) == ({"blackout": 2}, {"blackout": 2, "unreadable": 1})
    assert (first.seconds, first.timed) == (10.0, 2)
    assert (second.seconds, second.timed) == (20.0, 2)
    assert first.dice == second.dice == pytest.approx((2 * 2 / 6 + 1) / 2)
    assert first.shared == 2
    (pair,) = annotators(open_round).pairs
    assert (pair.names, pair.samples, pair.same) == (("annotator A", "annotator B"), 2, 2)
    assert pair.dice == first.dice


def test_what_the_simulated_clinician_painted_is_not_told_of_who_ran_it(open_round: OpenRound) -> None:
    """One user ran it in the second task, and answered the first one and a gold task in person."""
    simulated = [{**item, "meta": META} for item in region(mask_of(3))]
    answer(open_round, (0, PAINTED, 1), (0, PAINTED, 7), (1, simulated, 1), (1, PAINTED, 7), (2, PAINTED, 1))
    with open_round.backend.store.begin() as session:
        task = session.scalars(select(Task).where(Task.label_studio_id == open_round.tasks[2])).one()
        task.purpose = Purpose.GOLD.value
        task.sample.clinician_mask = str(write_mask(open_round.backend.path("known.png"), mask_of(1, 2)))
        task.sample.clinician_mask_means = "irrelevant"
    page = annotators(open_round)
    found = {each.name: (each.dice, each.shared, bool(each.gold)) for each in page.annotators}
    assert found["annotator A"] == (1.0, 1, True)
    assert found["simulated clinician"] == (0.0, 1, False)
    assert found["annotator B"] == (0.5, 2, False)
    assert [(pair.names, pair.dice) for pair in page.pairs] == [
        (("annotator A", "annotator B"), 1.0),
        (("simulated clinician", "annotator B"), 0.0),
    ]


def test_a_pair_differs_where_one_says_unreadable(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1), (0, UNREADABLE, 7))
    (pair,) = annotators(open_round).pairs
    assert (pair.samples, pair.same, pair.dice) == (1, 0, None)


def test_what_was_set_aside_has_its_reason_and_link(open_round: OpenRound) -> None:
    answer(open_round, (0, [*PAINTED, *chosen("nothing_to_black_out")], 1))
    (unused,) = annotators(open_round).set_aside
    assert unused.reason
    assert str(unused.link).endswith(f"data?task={open_round.tasks[0]}")


def with_names(open_round: OpenRound) -> Annotators:
    settings = {**open_round.backend.settings.model_dump(), "dashboard_names": True, "_env_file": None}
    open_round.backend.settings = Settings(**settings)
    return annotators(open_round)


def test_names_are_shown_if_the_settings_say_so(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 7), (1, PAINTED, 5))
    assert [each.name for each in annotators(open_round).annotators] == ["annotator A", "annotator B"]
    assert [each.name for each in with_names(open_round).annotators] == ["bob@example.org", "annotator B"]


def test_where_label_studio_is_down_letters_do(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 7))
    open_round.label_studio.down = True
    assert [each.name for each in with_names(open_round).annotators] == ["annotator A"]


def test_what_is_kept_in_memory_follows_the_answers(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1))
    assert [each.count for each in annotators(open_round).annotators] == [1]
    assert card_of(open_round).needs == ()
    answer(open_round, (0, UNREADABLE, 7))
    assert [each.count for each in annotators(open_round).annotators] == [1, 1]
    assert len(card_of(open_round).needs) == 1
    open_round.label_studio.delete(2)
    reconcile(open_round.backend, open_round.project)
    assert [each.count for each in annotators(open_round).annotators] == [1]
    assert card_of(open_round).needs == ()


def test_an_erasure_ends_what_is_kept_in_memory(open_round: OpenRound) -> None:
    answer(open_round, (0, PAINTED, 1))
    assert [each.count for each in annotators(open_round).annotators] == [1]
    with open_round.backend.store.begin() as session:
        session.execute(delete(Annotation))
        audit.note(session, open_round.dataset.id, audit.ERASED, what="samples")
    assert annotators(open_round).annotators == ()


def test_the_next_questions_follow_policy_and_champion(open_round: OpenRound) -> None:
    assert queue(open_round).following.count == 0
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).policy = {"budget": 1.0, "fill_budget": True}
    assert queue(open_round).following.count == 4
    make_version(open_round.backend, open_round.dataset, "next", wrong=["train-6"])
    assert queue(open_round).following.shown[0].name == "train-6"

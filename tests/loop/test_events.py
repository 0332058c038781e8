from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import FakeLabelStudio, FakeQueues, OpenRound, chosen, make_dataset, make_project
from sqlalchemy.exc import OperationalError

from imil_backend.errors import NotFoundError, RoundError, StoreError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import FAILED, PUSHING, TRAINING
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.running.events import MANY, Events
from imil_backend.store.tables import Round

PAYLOADS = sorted((Path(__file__).parents[1] / "fixtures" / "payloads").glob("*.json"))


def payload(name: str) -> Any:
    exchange = json.loads((PAYLOADS[0].parent / f"{name}.json").read_text(encoding="utf-8"))
    return exchange.get("json", exchange.get("request"))


@pytest.fixture
def events(backend: Backend, queues: FakeQueues) -> Events:
    events = Events(backend)
    events._queues = queues  # type: ignore[assignment]
    return events


@pytest.fixture
def ours(backend: Backend) -> None:
    """The projects that the payloads were recorded in."""
    dataset = make_dataset(backend)
    make_project(backend, dataset, 3)


def project(name: str) -> int:
    return int(payload(name)["project"]["id"])


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_every_recorded_payload_of_another_project_is_answered_and_not_used(
    events: Events, queues: FakeQueues, path: Path
) -> None:
    receipt = events.record(payload(path.stem) or {})
    assert not receipt.accepted
    assert receipt.reason
    assert queues.enqueued == []


@pytest.mark.parametrize(
    "name", ["annotation_created_brush_and_choices", "annotation_updated", "annotation_created_skip_empty"]
)
def test_an_annotation_event_is_one_hint(
    events: Events, queues: FakeQueues, backend: Backend, name: str
) -> None:
    make_project(backend, make_dataset(backend), project(name))
    receipt = events.record(payload(name))
    assert receipt.accepted
    assert receipt.workflow_ids == ["workflow-1"]
    number = payload(name)["annotation"]["id"]
    assert queues.enqueued == [("sync_annotation", (project(name), number))]


@pytest.mark.usefixtures("ours")
def test_a_deletion_is_synced_like_any_other_change(events: Events, queues: FakeQueues) -> None:
    events.record(payload("annotations_deleted_one"))
    assert queues.enqueued == [("sync_annotation", (3, 18))]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    "event",
    [
        {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 18}], "project": {}},
        {"action": "ANNOTATION_CREATED"},  # send_payload=false
        {"action": "ANNOTATION_CREATED", "annotation": "?", "project": 5},
    ],
)
def test_an_event_that_names_no_project_has_all_of_them_compared(
    events: Events, queues: FakeQueues, event: dict[str, Any]
) -> None:
    assert events.record(event).accepted
    assert queues.enqueued == [("reconcile_all", ())]


@pytest.mark.usefixtures("ours")
def test_an_event_about_tasks_or_very_many_annotations_is_one_reconciliation(
    events: Events, queues: FakeQueues
) -> None:
    annotations = [{"id": number + 1} for number in range(MANY + 1)]
    for event in (
        {"action": "TASKS_DELETED", "tasks": [{"id": 25}]},
        {"action": "ANNOTATIONS_CREATED", "annotations": annotations},
    ):
        events.record({**event, "project": {"id": 3}})
    assert queues.enqueued == [("reconcile_project", (3, False))] * 2
    queues.enqueued.clear()
    events.record({"action": "ANNOTATIONS_CREATED", "annotations": annotations[:2], "project": {"id": 3}})
    assert queues.enqueued == [("sync_annotation", (3, 1)), ("sync_annotation", (3, 2))]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    "event",
    [
        {},
        {"action": None},
        {"action": ["ANNOTATION_CREATED"]},
        {"action": "PROJECT_UPDATED", "project": {"id": 3}},
        {"action": "ANNOTATION_CREATED", "project": {"id": 4}, "annotation": {"id": 1}},
    ],
)
def test_what_is_of_no_use_is_answered_with_the_reason(
    events: Events, queues: FakeQueues, event: dict[str, Any]
) -> None:
    receipt = events.record(event)
    assert (receipt.accepted, queues.enqueued) == (False, [])
    assert receipt.reason


@pytest.mark.usefixtures("ours")
def test_numbers_that_no_label_studio_gives_do_not_reach_the_database(
    events: Events, queues: FakeQueues
) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 10**30}, "annotation": {"id": -1}}
    assert events.record(event).accepted
    assert queues.enqueued == [("reconcile_all", ())]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    "ids",
    [
        {"project": {"id": True}, "annotation": {"id": 1}},
        {"project": {"id": 3}, "annotation": {"id": True}},
        {"project": {"id": 3}, "annotations": [{"id": 1}, {"id": False}]},
        {"project": {}, "annotation": {"id": 1, "project": True}},
    ],
)
def test_an_id_that_is_true_is_refused(events: Events, queues: FakeQueues, ids: dict[str, Any]) -> None:
    receipt = events.record({"action": "ANNOTATION_UPDATED", **ids})
    assert (receipt.accepted, receipt.malformed, queues.enqueued) == (False, True, [])


def test_the_button_closes_the_open_round_and_gives_its_workflow(
    events: Events, queues: FakeQueues, open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    with pytest.raises(RoundError, match="answered yet"):
        events.start_training(3)
    label_studio.annotate(open_round.tasks[0], chosen("nothing_to_black_out"))
    reconcile(open_round.backend, open_round.project)
    workflow_id = events.start_training(3)
    assert events.start_training(3) == workflow_id
    assert queues.enqueued == [("train_round", (open_round.id,))]
    assert open_round.round.state == TRAINING


@pytest.mark.parametrize("state", [PUSHING, "closed"])
def test_the_button_says_when_there_is_nothing_to_train(
    events: Events, open_round: OpenRound, state: str
) -> None:
    with open_round.backend.store.begin() as session:
        change_state(session.get_one(Round, open_round.id), state)
    with pytest.raises(RoundError, match=state):
        events.start_training(3)
    with pytest.raises(NotFoundError):
        events.start_training(99)


def test_the_button_tries_a_failed_training_again(events: Events, open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        change_state(session.get_one(Round, open_round.id), FAILED, "no")
    assert events.start_training(3).endswith("-2")


def test_a_workflow_that_ended_with_an_error_has_failed(events: Events, queues: FakeQueues) -> None:
    queues.statuses = {"a": "ENQUEUED", "b": "PENDING", "c": "SUCCESS", "d": "SUCCESS", "e": "ERROR"}
    queues.results = {"c": {"verdict": "promote"}, "d": {"error": "It is damaged."}}
    assert [events.workflow_status(each) for each in "abcdef"] == [
        "pending", "running", "done", "failed", "failed", "unknown",
    ]  # fmt: skip


def test_a_store_that_cannot_be_used_is_told(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr("imil_backend.loop.running.events.find_project", broken)
    with pytest.raises(StoreError, match="disk I/O error"):
        events.record({"action": "ANNOTATION_CREATED", "project": {"id": 3}})

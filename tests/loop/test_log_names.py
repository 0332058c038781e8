from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable

import pytest
from loop_fakes import OpenRound

from imil_backend.errors import RoundError
from imil_backend.json_logs import JsonLines, add_log_fields
from imil_backend.loop.running import log_names, steps, workflows
from imil_backend.loop.running.log_names import Fields, named_in_logs
from imil_backend.store.tables import Round


def fields() -> dict[str, object]:
    """Those that a record made now carries."""
    record = logging.LogRecord("imil_backend", logging.INFO, "", 1, "x", (), None)
    shown = json.loads(JsonLines().format(record))
    return {name: shown[name] for name in shown.keys() - {"time", "level", "logger", "event"}}


@pytest.fixture(autouse=True)
def worker(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_names, "DBOS", type("DBOS", (), {"workflow_id": "w"}))
    monkeypatch.setattr(steps, "_process", {"backend": open_round.backend})


def test_the_records_of_a_workflow_name_what_it_works_on_and_no_others_do(open_round: OpenRound) -> None:
    def of_one(find: Callable[..., Fields], number: int) -> dict[str, object]:
        return named_in_logs(find)(lambda _: fields())(number)

    films = {"workflow": "w", "dataset": "films"}
    assert of_one(workflows._of_round, open_round.id) == {**films, "round": 1}
    assert of_one(workflows._of_project, open_round.project.label_studio_id) == films
    assert of_one(workflows._of_dataset, open_round.dataset.id) == films
    assert of_one(workflows._of_round, 4711) == of_one(workflows._of_project, 4711) == {"workflow": "w"}
    assert named_in_logs()(fields)() == {"workflow": "w"}
    assert fields() == {}


def test_a_workflow_that_fails_leaves_its_fields_to_no_other() -> None:
    def fail() -> None:
        add_log_fields(version="candidate")
        raise RoundError(f"Nothing to train on in {fields()}.")

    with pytest.raises(RoundError, match="'version': 'candidate'"):
        named_in_logs()(fail)()
    assert fields() == {}


def test_the_last_record_of_a_workflow_tells_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "imil_backend"):
        named_in_logs()(fields)()
    (ended,) = caplog.records
    assert ended.getMessage() == "Workflow fields has ended."
    assert 0 <= ended.duration < 60  # type: ignore[attr-defined]


def test_a_training_names_its_version_and_tells_how_long_it_took(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(round_id: int) -> None:
        with open_round.backend.store.begin() as session:
            session.get_one(Round, round_id).version_name = "candidate"

    for step in ("bring_in_line", "run_training", "report", "tell", "open_next"):
        monkeypatch.setattr(steps, step, lambda _: {})
    monkeypatch.setattr(steps, "prepare_training", prepare)
    monkeypatch.setattr(steps, "conclude", lambda *_: fields())
    train = named_in_logs(workflows._of_round)(inspect.unwrap(workflows.train_round))
    with caplog.at_level(logging.INFO, "imil_backend"):
        named = train(open_round.id)
    assert named == {"workflow": "w", "dataset": "films", "round": 1, "version": "candidate"}
    assert [each.getMessage() for each in caplog.records if hasattr(each, "duration")] == [
        f"The training of round {open_round.id} has ended.",
        "Workflow train_round has ended.",
    ]

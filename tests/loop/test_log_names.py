from __future__ import annotations

import json
import logging

import pytest
from loop_fakes import OpenRound

from imil_backend.errors import RoundError
from imil_backend.json_logs import JsonLines
from imil_backend.loop.running import log_names
from imil_backend.loop.running.log_names import named_in_logs, round_named_in_logs


def fields() -> dict[str, object]:
    """Those that a record made now carries."""
    record = logging.LogRecord("imil_backend", logging.INFO, "", 1, "x", (), None)
    shown = json.loads(JsonLines().format(record))
    return {name: shown[name] for name in shown.keys() - {"time", "level", "logger", "event"}}


def test_the_records_of_a_rounds_workflow_name_it_and_no_others_do(open_round: OpenRound) -> None:
    def fail(round_id: int) -> None:
        raise RoundError(f"Nothing to train on in {fields()}.")

    named = round_named_in_logs(lambda: open_round.backend)
    found = named(lambda round_id: (round_id, fields()))(open_round.id)
    assert found == (open_round.id, {"dataset": open_round.dataset.name, "round": 1})
    assert named(lambda round_id: fields())(4711) == {}
    with pytest.raises(RoundError, match=open_round.dataset.name):
        named(fail)(open_round.id)
    assert fields() == {}


def test_the_records_of_a_workflow_carry_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_names, "DBOS", type("DBOS", (), {"workflow_id": "round-1-1"}))
    assert named_in_logs(fields)() == {"workflow": "round-1-1"}

from __future__ import annotations

from typing import Any

import pytest
from dbos import DBOS
from loop_fakes import OpenRound, chosen
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from support.conditions import wait_until

from imil_backend.loop.queues import watchdog
from imil_backend.loop.queues.engine import APPLICATION, SYNC_QUEUE, prepare
from imil_backend.loop.queues.names import SYNC_WORKFLOW
from imil_backend.loop.running.worker import running


class FillingDisk:
    """The disk under DBOS's tables: full when a workflow's first step is recorded, until there is `room`."""

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        self.room = False
        self.refused = 0

    def __call__(self, _: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        written = statement.lstrip().startswith(("INSERT", "UPDATE"))
        is_record = "INTO main.operation_outputs" in statement and self.workflow in str(values)
        if written and not self.room and (self.refused or is_record):
            self.refused += 1
            raise OperationalError(statement, {}, Exception("database or disk is full"))


def test_a_workflow_that_could_not_be_recorded_goes_on_when_there_is_room_again(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, log_of_this_test: None
) -> None:
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.3)
    prepare(open_round.backend)
    answer = open_round.label_studio.annotate(open_round.tasks[0], chosen("nothing_to_black_out"))
    with running(open_round.backend) as queues:
        tables = DBOS(config={"name": APPLICATION})._sys_db.engine
        disk = FillingDisk("a hint")
        event.listen(tables, "before_cursor_execute", disk)
        workflow_id = queues.enqueue(
            SYNC_WORKFLOW, SYNC_QUEUE, open_round.project.label_studio_id, answer, workflow_id=disk.workflow
        )
        wait_until(lambda: queues.status(workflow_id) == "PENDING" and disk.refused > 5)
        disk.room = True
        wait_until(lambda: queues.status(workflow_id) == "SUCCESS")
        assert queues.result(workflow_id) == {"answer": "nothing"}
    assert [each.answer for each in open_round.annotations] == ["nothing"]

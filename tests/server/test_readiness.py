from __future__ import annotations

import threading

import pytest
from flask import Flask

from imil_backend.loop.monitoring.readiness import Readiness, ReadinessReport
from imil_backend.server.monitoring import readiness

REPORT = ReadinessReport(Readiness.READY, {})


def client_of(check):
    app = Flask(__name__)
    app.register_blueprint(readiness.readiness(check))
    return app.test_client()


@pytest.mark.parametrize(
    ("state", "status"), [(Readiness.READY, 200), (Readiness.DEGRADED, 200), (Readiness.NOT_READY, 503)]
)
def test_only_what_is_not_ready_is_no_200(state: Readiness, status: int) -> None:
    answer = client_of(lambda: ReadinessReport(state, {"worker": "There is none."})).get("/ready")
    assert answer.status_code == status
    assert answer.json == {"status": state.value, "problems": {"worker": "There is none."}}


def test_one_check_answers_all_who_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    client = client_of(lambda: checks.append(1) or REPORT)
    threads = [threading.Thread(target=client.get, args=["/ready"]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(checks) == 1
    monkeypatch.setattr(readiness, "FRESH_SECONDS", -1)
    client.get("/ready")
    assert len(checks) == 2


@pytest.mark.parametrize(("ended", "status"), [(0, 503), (1, 200)])
def test_nobody_waits_for_a_check_that_hangs(
    monkeypatch: pytest.MonkeyPatch, ended: int, status: int
) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", -1)
    began, go_on = threading.Event(), threading.Event()
    checks = []

    def check() -> ReadinessReport:
        checks.append(1)
        if len(checks) == ended + 1:
            began.set()
            assert go_on.wait(30)
        return REPORT

    client = client_of(check)
    for _ in range(ended):
        client.get("/ready")
    hanging = threading.Thread(target=client.get, args=["/ready"])
    hanging.start()
    assert began.wait(30)
    assert client.get("/ready").status_code == status
    assert len(checks) == ended + 1
    go_on.set()
    hanging.join()

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import typer
from flask import Flask

from imil_backend.cli.helpers import console
from imil_backend.errors import RoundError
from imil_backend.json_logs import JsonLines, log_fields, set_log_fields
from imil_backend.server.monitoring.endpoints import REQUEST_ID, add_monitoring


def line(message: str, *args: object, **extra: object) -> str:
    record = logging.LogRecord("imil_backend.server", logging.WARNING, "", 1, message, args, None)
    record.__dict__.update(extra)
    return JsonLines().format(record)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.values: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.values.append(json.loads(self.format(record)))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
    handler = Lines()
    ours = logging.getLogger("imil_backend")
    ours.addHandler(handler)
    with caplog.at_level(logging.INFO, "imil_backend"):
        yield handler.values
    ours.removeHandler(handler)
    set_log_fields()


def test_a_record_is_one_line_of_ascii_however_it_reads() -> None:
    text = line("before%safter", '\n{"level": "critical"}\u2028\ud800\x9b')
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["event"].startswith('before\n{"level"')


def test_only_known_fields_are_shown() -> None:
    shown = json.loads(line("x", patient="Jane Doe", duration=0.25))
    assert shown.pop("time").endswith("+00:00")
    assert shown == {"level": "warning", "logger": "imil_backend.server", "event": "x", "duration": 0.25}


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        shown = json.loads(line("It failed", exc_info=sys.exc_info()))
    assert shown["exception"].endswith("ValueError: wrong")


def test_fields_hold_for_their_block_and_their_thread() -> None:
    with log_fields(dataset="films", version=None), log_fields(round=2):
        assert json.loads(line("x")).keys() >= {"dataset", "round"}
        others = []
        thread = threading.Thread(target=lambda: others.append(line("x")))
        thread.start()
        thread.join()
    assert "version" not in line("x")
    assert "films" not in line("x") + others[0]


def test_the_records_of_a_request_have_its_id(lines: list[dict[str, object]]) -> None:
    app = Flask(__name__)
    add_monitoring(app, None)

    @app.get("/versions")
    def versions() -> str:
        logging.getLogger("imil_backend.loop").info("Looked.")
        return "ok"

    for number in ("1", "2"):
        app.test_client().get("/versions", environ_overrides={REQUEST_ID: number})
    assert [each["request"] for each in lines] == ["1", "2"]


def test_what_a_command_says_is_a_record(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RoundError("A worker is already running.")

    handler = Lines()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with caplog.at_level(logging.INFO, "imil_backend"):
        console.announce("Worker 'gpu-1' is running.")
        with pytest.raises(typer.Exit):
            console.says_what_went_wrong(fail)()
    assert [(each["level"], each["event"]) for each in handler.values] == [
        ("info", "Worker 'gpu-1' is running."),
        ("error", "A worker is already running."),
    ]
    assert capfd.readouterr() == ("", "")

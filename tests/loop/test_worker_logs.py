from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import PROJECT, make_backend, make_dataset, make_project
from support.conditions import wait_until
from support.http_server import Answer, Request, serve

from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Project

IMIL = Path(sys.executable).with_name("imil")


def refused(_: Request) -> Answer:
    """Unlike a time-out, it is not tried again."""
    return Answer(403, {"detail": "Not yours."})


@pytest.mark.slow
def test_a_worker_writes_nothing_but_json(tmp_path: Path) -> None:
    """A real one, whose Label Studio refuses it: reconciliation fails, and says so."""
    with serve(refused) as label_studio:
        backend = make_backend(tmp_path / "data", label_studio_url=label_studio.url)
        project = make_project(backend, make_dataset(backend))
        with backend.store.begin() as session:
            session.get_one(Project, project.id).instance = label_studio.url
        told = tmp_path / "told"

        def records() -> list[dict[str, Any]]:
            return [json.loads(line) for line in told.read_text().splitlines()]

        def has_ended() -> bool:
            return "Workflow reconcile_all has ended." in told.read_text()

        with told.open("wb") as file:
            worker = subprocess.Popen([IMIL, "worker"], env=environment(backend), stdout=file, stderr=file)
        try:
            wait_until(has_ended, 60)
        finally:
            worker.terminate()
            worker.wait(30)
        backend.close()
    assert all(each.keys() >= {"time", "level", "logger", "event"} for each in records())
    (failed,) = [each for each in records() if each["event"].startswith(f"Project {PROJECT} was")]
    assert (failed["level"], failed["dataset"]) == ("error", "films")
    (ended,) = [each for each in records() if "duration" in each]
    assert ended["workflow"] == failed["workflow"]


def environment(backend: Backend) -> dict[str, str]:
    return {
        **os.environ,
        "IMIL_DATA_DIR": str(backend.directory),
        "IMIL_LOG_FORMAT": "json",
        "LABEL_STUDIO_URL": backend.settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": "token",
    }

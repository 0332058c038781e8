"""`imil erase` that is killed anywhere: the same command finishes it, and the rest is as after any other."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from erasure_scene import PATIENT, erased, make_scene, traces, where
from loop_fakes import FakeLabelStudio, OpenRound, make_version, on_both_databases
from sqlalchemy import Engine, event, select
from support.killing import DATABASE, LABEL_STUDIO, REPLACING, killed_at
from support.postgres import replace_database

from imil_backend.learning.contract.training_job import write_json
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED, FAILED
from imil_backend.loop.erasure import erasing
from imil_backend.loop.erasure.erasing import finish_erasures
from imil_backend.loop.evaluation.kept import folder_of
from imil_backend.store.tables import AuditEntry, Base, Dataset, Round

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks")]

AUDIT = AuditEntry.__table__


class OtherProcess(FakeLabelStudio):
    """A Label Studio that outlives whoever asks it."""

    def __init__(self, state: Path) -> None:
        super().__init__()
        self.state = state

    def request(self, method: str, path: str, **request: Any) -> Any:
        sys.audit(LABEL_STUDIO)
        try:
            return super().request(method, path, **request)
        finally:
            self.state.write_bytes(pickle.dumps(vars(self)))

    def as_of_now(self) -> None:
        vars(self).update(pickle.loads(self.state.read_bytes()))  # what was written above


@pytest.fixture
def label_studio(tmp_path: Path) -> OtherProcess:
    return OtherProcess(tmp_path / "label-studio")


@pytest.fixture
def scene(
    open_round: OpenRound, label_studio: OtherProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenRound]:
    """A patient with traces everywhere: in a training that failed, and an earlier report, too."""
    scene = make_scene(open_round)
    scene.backend.group_key()  # is made when it is first needed
    backend, directory = scene.backend, scene.backend.directory
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, scene.dataset.id)
        earlier = make_version(backend, dataset, "earlier", baseline=scene.version, champion=False)
        for number, state, version in ((2, CLOSED, earlier.id), (3, FAILED, None)):
            session.add(
                Round(
                    dataset_id=dataset.id, number=number, state=state, version_id=version,
                    version_name=f"films-round{number}", mined_version_id=scene.version.id, verdict={},
                )
            )  # fmt: skip
        report = folder_of(earlier)
    shutil.copytree(scene.version.directory, directory / "versions" / "films-round3")
    report.mkdir()
    (report / "a.md").write_text(PATIENT)
    shutil.copy(directory / "originals" / "train-1.png", report / "before-after-1.png")
    monkeypatch.setattr(erasing, "report_round", _report)
    monkeypatch.setattr(type(backend), "label_studio", label_studio)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing here loses its power
    event.listen(Engine, "connect", _hurry)
    label_studio.request("GET", "/api/projects/3/file-uploads")  # is kept as it is
    backend.close()
    yield scene
    event.remove(Engine, "connect", _hurry)


def _report(backend: Backend, round_id: int) -> None:
    """In the place of a report and its plots, which take long to draw."""
    with backend.store.begin() as session:
        version = session.get_one(Round, round_id).version
        assert version is not None
    folder_of(version).mkdir(exist_ok=True)
    for name in ("evaluation.json", "report.md"):
        write_json(folder_of(version) / name, {})


def _hurry(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def begin_anew(scene: OpenRound, label_studio: OtherProcess, tmp_path: Path) -> Callable[[], None]:
    """Puts the data directory, the database and Label Studio back to what they are now."""
    backend, kept, there = scene.backend, tmp_path / "kept", label_studio.state.read_bytes()
    shutil.copytree(backend.directory, kept)
    url = backend.settings.database_url
    if url is not None:
        replace_database(f"{url}_kept", url)

    def put_back() -> None:
        backend.close()
        shutil.rmtree(backend.directory)
        shutil.copytree(kept, backend.directory)
        if url is not None:
            replace_database(url, f"{url}_kept")
        label_studio.state.write_bytes(there)
        label_studio.as_of_now()

    return put_back


def rest(scene: OpenRound) -> dict[str, Any]:
    """What is in a data directory, in its database and in Label Studio, but for times."""
    directory = scene.backend.directory
    kept: dict[str, Any] = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".sqlite" not in path.name and path.parent.name not in {"locks", "timestamps"}
    }
    with scene.backend.store.begin() as session:
        for name, table in Base.metadata.tables.items():
            # On PostgreSQL a number that an unfinished transaction took is gone.
            columns = [column for column in table.columns if column.key != "id" or table is not AUDIT]
            rows = session.execute(select(*columns).order_by(*table.primary_key))
            kept[name] = [[value for value in row if not isinstance(value, datetime)] for row in rows]
    there = scene.label_studio
    return deepcopy(
        {**kept, "tasks": there.tasks_there, "images": there.images, "answers": there.annotations}
    )


@on_both_databases
def test_an_erasure_that_is_killed_anywhere_is_finished_by_the_next(
    scene: OpenRound, label_studio: OtherProcess, begin_anew: Callable[[], None]
) -> None:
    # What is done with files is the same on both: on PostgreSQL every eighth transaction will do.
    on_sqlite = scene.backend.store.engine.dialect.name == "sqlite"
    changes, step, least = (REPLACING, 1, 60) if on_sqlite else ({DATABASE}, 8, 20)
    wanted, untouched = traces(scene), rest(scene)
    begin_anew()
    erased(scene)
    after = rest(scene)
    last: dict[str, Any] = {}
    for number in range(0, 1000, step):
        begin_anew()
        killed = killed_at(number, lambda: erased(scene), changes)
        label_studio.as_of_now()
        if not killed:
            break
        left, last = last, rest(scene)
        if left == last:
            continue
        if not finish_erasures(scene.backend):
            assert last == untouched, number
            erased(scene)
        assert where(scene, wanted) == [], number
        assert rest(scene) == after, number
    assert number > least

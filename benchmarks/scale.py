"""How import and reconciliation grow with a data set, on generated images and rows.

    python -m benchmarks scale [--images N ...] [--tasks N ...] [--answers N ...] [--json FILE]

`--images`: so many films of 32 x 32 px, each another one, two of a patient, are imported by a CSV. `--tasks`:
a project with so many tasks, each answered once, is reconciled with a stand-in for Label Studio, which serves
the same pages over HTTP in a process of its own; nothing has changed. `--answers`: so many of them are read
again (`imil reconcile --full`). Every size runs in a new process: its time on the clock and on the CPU (all
threads of the backend), its largest resident memory, and what the database takes on the disk. What is linear
doubles with the size.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image
from sqlalchemy import insert

from imil_backend.config import Settings
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.label_studio.labeling.task_data import ROUND_KEY, SAMPLE_KEY
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.loop.queues.engine import prepare
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version, now

PROJECT = 1
SIDE = 32
CLASSES = ["normal", "pneumonia"]
CHANGED = "2026-01-01T00:00:00.000000Z"  # every task, on Label Studio's clock
CONTEXT = multiprocessing.get_context("spawn")


def measured(what: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock and on the CPU, and the largest resident memory so far, in MB."""
    began, worked = time.monotonic(), time.process_time()
    what()
    return {
        "seconds": time.monotonic() - began,
        "CPU seconds": time.process_time() - worked,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def write_films(directory: Path, count: int) -> Path:
    """A CSV and its films: noise, so that no two look the same."""
    random = np.random.default_rng(0)
    (directory / "films").mkdir()
    table = directory / "films.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "group"])
        for number in range(count):
            path = f"films/film-{number:07d}.png"
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (SIDE, SIDE), np.uint8)).save(buffer, "PNG")
            (directory / path).write_bytes(buffer.getvalue())
            rows.writerow([path, CLASSES[number % 2], f"patient {number // 2}"])
    return table


def import_films(count: int) -> dict[str, Any]:
    """Import so many."""
    with tempfile.TemporaryDirectory() as scratch:
        table = write_films(Path(scratch), count)
        backend = _backend(Path(scratch), "http://localhost:1")
        found = measured(lambda: import_dataset(backend, table, name="films"))
        size = database_bytes(Path(scratch))
        backend.close()
    return {"what": "import", "size": count, **found, "database MB": size / 2**20}


def reconcile_tasks(count: int) -> dict[str, Any]:
    """Reconcile so many, of which nothing has changed."""
    return _reconciled("reconcile", count, full=False)


def read_answers(count: int) -> dict[str, Any]:
    """Read so many answers, whether they have changed or not."""
    return _reconciled("reconcile --full", count, full=True)


def _reconciled(name: str, count: int, *, full: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch, stand_in(count) as url:
        _alone(fill, scratch, url, count)  # or its memory would be measured
        backend = _backend(Path(scratch), url)
        with backend.store.begin() as session:
            project = session.get_one(Project, PROJECT)
        found = measured(lambda: _seen(backend, project, count, full))
        size = database_bytes(Path(scratch)) / 2**20
        backend.close()
    return {"what": name, "size": count, **found, "database MB": size}


def _seen(backend: Backend, project: Project, count: int, full: bool) -> None:
    found = reconcile(backend, project, full=full)
    assert (found.seen, found.synced, found.deleted) == (count, count * full, 0), found


def _backend(directory: Path, url: str) -> Backend:
    data = directory / "data"
    settings = Settings(
        _env_file=None, data_dir=data, label_studio_url=url, label_studio_api_key="none", device="cpu"
    )
    backend = Backend(settings)
    prepare(backend)
    return backend


def database_bytes(directory: Path) -> int:
    """What SQLite's files in the folder `data` of a directory take."""
    return sum(path.stat().st_size for path in (directory / "data").glob("*.sqlite*"))


def fill(directory: str, url: str, count: int) -> None:
    """A dataset whose only round asked about all samples."""
    backend = _backend(Path(directory), url)
    with backend.store.begin() as session:
        session.add(Dataset(name="films", classes=CLASSES, recipe=asdict(Recipe()), policy={}))
        session.flush()
        instance = backend.settings.label_studio_url
        project = Project(dataset_id=1, instance=instance, label_studio_id=PROJECT)
        version = Version(
            dataset_id=1, name="films-round0", directory="/nowhere", recipe=asdict(Recipe()), fingerprint="f",
            blacked_out=0, seconds=1.0, metrics={}, runtime_info={}, code_version="0",
        )  # fmt: skip
        session.add_all([project, version])
        session.flush()
        session.add(
            Round(dataset_id=1, number=1, state="open", mined_version_id=1, version_name="x", readers=1)
        )
        at = now()
        samples, tasks, answers = [], [], []
        for number in range(1, count + 1):
            samples.append(
                {
                    "dataset_id": 1, "key": _key(number), "name": f"film-{number}.png",
                    "path": f"/films/film-{number}.png", "sha256": 2 * _key(number), "width": 2000,
                    "height": 2500, "channels": 1, "shown_as_is": True, "label": CLASSES[number % 2],
                    "split": "train", "group": f"patient {number // 2}",
                }
            )  # fmt: skip
            tasks.append(
                {
                    "project_id": 1, "round_id": 1, "sample_id": number, "rank": number,
                    "label_studio_id": number,
                }
            )  # fmt: skip
            answers.append(
                {
                    "project_id": 1, "label_studio_id": number, "label_studio_created_at": at,
                    "label_studio_updated_at": at, "task_id": number, "sample_id": number, "annotator": 1,
                    "simulated": False, "answer": "nothing", "lead_time": 5.0, "task_updated_at": CHANGED,
                }
            )  # fmt: skip
        for table, rows in ((Sample, samples), (Task, tasks), (Annotation, answers)):
            session.execute(insert(table), rows)
    backend.close()


def _key(number: int) -> str:
    return f"{number:032x}"


class _LabelStudio(BaseHTTPRequestHandler):
    """What reconciliation asks of Label Studio: the project, pages of tasks, webhooks."""

    protocol_version = "HTTP/1.1"
    tasks = 0  # how many there are
    webhooks: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/tasks/":
            self._answer(self._page(asked))
        elif url.path.startswith("/api/annotations/"):
            number = int(url.path.split("/")[3])
            self._answer(self._task(number, "all")["annotations"][0])
        elif url.path == f"/api/projects/{PROJECT}/":
            self._answer({"id": PROJECT, "label_config": load_label_config("blackout")})
        else:
            self._answer(self.webhooks)

    def do_POST(self) -> None:
        hook = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.webhooks.append({"id": 1, "is_active": True, "send_payload": True, **hook})
        self._answer(self.webhooks[0])

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def _page(self, asked: dict[str, str]) -> dict[str, Any]:
        query = json.loads(asked["query"])
        items = query.get("filters", {}).get("items", [])
        named = [item["value"] for item in items if item["filter"] == "filter:tasks:id"]
        numbers = named or range(1, self.tasks + 1)
        size, page = int(asked["page_size"]), int(asked["page"])
        part = numbers[size * (page - 1) : size * page]
        return {"total": len(numbers), "tasks": [self._task(number, asked.get("fields")) for number in part]}

    @staticmethod
    def _task(number: int, fields: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": number,
            "updated_at": CHANGED,
            "annotations_ids": str(number),
            "data": {SAMPLE_KEY: _key(number), ROUND_KEY: 1, "image": f"/data/upload/1/{_key(number)}.png"},
        }
        if fields == "all":
            result = [
                {
                    "id": "a", "from_name": "review", "to_name": "image", "type": "choices",
                    "value": {"choices": ["nothing_to_black_out"]},
                }
            ]  # fmt: skip
            found["annotations"] = [
                {
                    "id": number, "task": number, "project": PROJECT, "completed_by": 1, "result": result,
                    "was_cancelled": False, "lead_time": 5.0, "created_at": CHANGED, "updated_at": CHANGED,
                }
            ]  # fmt: skip
        return found

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serve(count: int, told: Connection) -> None:
    _LabelStudio.tasks = count
    server = ThreadingHTTPServer(("127.0.0.1", 0), _LabelStudio)
    told.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def stand_in(count: int) -> Iterator[str]:
    """The URL of a stand-in for Label Studio with so many tasks, each answered once."""
    ours, theirs = multiprocessing.Pipe()
    process = CONTEXT.Process(target=_serve, args=(count, theirs), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ours.recv()}"
    process.terminate()
    process.join()


def _send(told: Connection, what: Callable[..., Any], *given: Any) -> None:
    told.send(what(*given))


def _alone(what: Callable[..., Any], *given: Any) -> Any:
    """What it returns in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = CONTEXT.Process(target=_send, args=(theirs, what, *given))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 20_000, 40_000])
    parser.add_argument("--tasks", type=int, nargs="*", default=[25_000, 50_000, 100_000])
    parser.add_argument("--answers", type=int, nargs="*", default=[1000, 2000, 4000])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| | size | seconds | CPU seconds | resident, MB | database, MB |\n|---|---|---|---|---|---|")
    kinds = (
        (import_films, options.images),
        (reconcile_tasks, options.tasks),
        (read_answers, options.answers),
    )
    for what, sizes in kinds:
        for size in sizes:
            row = _alone(what, size)
            rows.append(row)
            shown = (f"{row[name]:,.1f}" for name in ("seconds", "CPU seconds", "MB", "database MB"))
            print(f"| {row['what']} | {row['size']:,} | {' | '.join(shown)} |", flush=True)
    if options.json:
        from benchmarks.report import machine  # brings torch, which would be in all figures of memory

        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

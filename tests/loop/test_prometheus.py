"""A real Prometheus scrapes a backend in which everything has happened; it evaluates alerts and dashboard."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import requests
import yaml
from loop_fakes import OpenRound, make_round, mask_of, region
from prometheus_client import CollectorRegistry
from server_fakes import SECRET, FakeChampion, FakeEvents, make_settings, recorded
from sqlalchemy import select
from support.label_studio import free_port, missing

from imil_backend.learning.contract.training_job import PROGRESS_FILE, write_json
from imil_backend.loop.answers.reconcile import Differences, reconcile
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.states import CLOSED, TRAINING
from imil_backend.loop.monitoring.figures import LoopFigures
from imil_backend.loop.queues.engine import SYNC_QUEUE, prepare
from imil_backend.loop.queues.names import SYNC_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.running import counters
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.server.app import create_app
from imil_backend.server.monitoring.worker_port import worker_port
from imil_backend.store.tables import Round, Sample

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docker" / "monitoring"
ALERT_TESTS = sorted((ROOT / "tests" / "fixtures" / "alerts").glob("*.yml"))
TOKEN = "scrape-me"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"{name} (apt-get install prometheus)", "PATH")
    return str(found)


def dashboard_expressions() -> dict[str, str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$dataset", ".*")
        .replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", [])
    }


def documented() -> set[str]:
    """The metrics in the tables of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`imil_\w+`(?:, `imil_\w+`)*) \|", text, re.MULTILINE)
    return set(re.findall(r"imil_\w+", "".join(rows)))


def test_alerts_and_dashboard_ask_for_what_is_documented() -> None:
    alerts = (MONITORING / "alerts.yml").read_text()
    asked = re.findall(r"imil_\w+", alerts + "".join(dashboard_expressions().values()))
    assert {re.sub("_bucket$", "", name) for name in asked} <= documented()


@pytest.mark.external
@pytest.mark.parametrize("tests", ALERT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_are_to_and_not_before(tests: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", tests], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.external
def test_the_rules_are_valid() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", MONITORING / "alerts.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.external
def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    checking = [program("promtool"), "check", "config", "--syntax-only", tmp_path / "prometheus.yml"]
    subprocess.run(checking, check=True, capture_output=True)


@dataclass
class Watched:
    """A backend of three targets, and what happens in it again and again."""

    targets: list[str]

    def go_on(self) -> None:
        web = f"http://{self.targets[0]}"
        requests.post(f"{web}/webhook", json=recorded("annotation_updated"), headers=SECRET, timeout=10)
        requests.post(f"{web}/predict", json=recorded("ml_predict"), timeout=10)
        counters.count_reconciliation(Differences(synced=1))
        counters.reconciliation_seconds.observe(0.2)


@pytest.fixture
def watched(open_round: OpenRound) -> Iterator[Watched]:
    let_everything_happen(open_round)
    figures = CollectorRegistry()
    figures.register(LoopFigures(open_round.backend))
    app = create_app(make_settings(metrics_token=TOKEN), champion=FakeChampion(), events=FakeEvents())
    with ExitStack() as stack:
        ports = [stack.enter_context(served(app))]
        for registry in (figures, counters.WORKER):
            settings = make_settings(metrics_token=TOKEN, worker_port=free_port())
            ports.append(stack.enter_context(worker_port(settings, registry)))
        yield Watched([f"127.0.0.1:{port}" for port in ports])


def let_everything_happen(open_round: OpenRound) -> None:
    """A verdict that is undecided, the next round in training, answers, a queue, a backup, a worker."""
    backend, version = open_round.backend, open_round.version
    prepare(backend)
    with backend.store.begin() as session:
        round_ = session.get_one(Round, open_round.id)
        round_.verdict = {"verdict": "undecided"}
        change_state(round_, CLOSED)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    reconcile(backend, open_round.project)
    training = make_round(backend, open_round.label_studio, open_round.project, version, ["train-0"])
    with backend.store.begin() as session:
        round_ = session.get_one(Round, training.id)
        round_.version_name = "candidate"
        for sample in session.scalars(select(Sample)):
            sample.agreement = 0.75
        change_state(round_, TRAINING)
    progress = {"phase": "training", "epoch": 2, "epochs": 5, "images_per_second": 12.5, "updated_at": 9.0}
    write_json(directory_of(backend, "candidate") / PROGRESS_FILE, progress)
    queues = WorkflowQueues(backend)
    queues.enqueue(SYNC_WORKFLOW, SYNC_QUEUE, 1, 1)
    queues.close()
    timestamps.touch(backend, timestamps.WORKER, "gpu-1")
    timestamps.touch(backend, timestamps.BACKUP)


@contextmanager
def served(app: Any) -> Iterator[int]:
    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def prometheus(watched: Watched, tmp_path: Path) -> Iterator[str]:
    """The address of one that scrapes these targets each second."""
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(MONITORING / "alerts.yml")],
        "scrape_configs": [
            {
                "job_name": "imil",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": watched.targets}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def has_data(prometheus: str, expression: str) -> bool:
    answer = requests.get(f"{prometheus}/query", params={"query": expression}, timeout=10).json()
    assert answer["status"] == "success", answer
    return any(not math.isnan(float(each["value"][1])) for each in answer["data"]["result"])


@pytest.mark.external
def test_every_panel_has_data_and_every_rule_can_be_evaluated(watched: Watched, prometheus: str) -> None:
    wanted = dashboard_expressions()
    deadline = time.monotonic() + 60
    without = set(wanted)
    while without and time.monotonic() < deadline:
        watched.go_on()
        time.sleep(0.5)  # Prometheus scrapes by the clock
        try:
            without = {title for title in without if not has_data(prometheus, wanted[title])}
        except requests.ConnectionError:  # it is starting
            continue
    assert not without
    [group] = requests.get(f"{prometheus}/rules", timeout=10).json()["data"]["groups"]
    assert len(group["rules"]) == 13
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    alerts = requests.get(f"{prometheus}/alerts", timeout=10).json()["data"]["alerts"]
    assert {"ImilNoWorker"} <= {alert["labels"]["alertname"] for alert in alerts}


@pytest.mark.external
def test_metrics_keep_to_prometheus_conventions_and_are_documented(watched: Watched) -> None:
    names = set()
    for target in watched.targets:
        shown = requests.get(
            f"http://{target}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        ).text
        subprocess.run([program("promtool"), "check", "metrics"], input=shown, text=True, check=True)
        names |= {name for name, _ in re.findall(r"^# TYPE (imil_\w+) (\w+)", shown, re.MULTILINE)}
    assert {name for name in names if not name.endswith("_created")} == documented()

"""label-studio-ml 1.0.9, installed without its dependencies beside Flask 3, serves the champion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.installation import Installation
from support.label_configs import classification_config
from support.label_studio import RunningLabelStudio, missing
from support.push import png

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.timeout(900)]
MODEL = Path(__file__).parents[1] / "imil_backend" / "label_studio_ml_model.py"
PACKAGES = [
    "label-studio-ml==1.0.9",
    "label-studio-tools",
    "redis",
    "rq",
    "colorama",
    "attrs",
    "lxml",
    "appdirs",
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("label-studio-ml")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *PACKAGES]
    if subprocess.run(install, check=False).returncode:
        missing("label-studio-ml 1.0.9 from PyPI", "PIP_INDEX_URL")
    return target


@pytest.fixture
def project(installation: Installation, label_studio: RunningLabelStudio, baseline: Path) -> int:
    """A project with the champion's classes, connected, and a task in it that nobody has seen."""
    shutil.copytree(baseline, installation.data_dir)
    client = label_studio.client
    number = client.create_project("label-studio-ml", classification_config(["normal", "lesion"]), "")
    installation.imil("connect", "--project", str(number), "--write")
    client.import_tasks(number, [{"data": {"image": client.upload_image(number, "a.png", png())}}])
    return number


@pytest.fixture
def backend_directory(packages: Path, installation: Installation, tmp_path: Path) -> Iterator[Path]:
    """`label-studio-ml init` and `start`, where the webhook goes; gives the directory."""
    environment = installation.environment | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # `start` runs python
    }
    command = [sys.executable, str(packages / "bin" / "label-studio-ml")]
    init = [*command, "init", "ml", "--script", f"{MODEL}:ImilModel"]
    subprocess.run(init, env=environment, cwd=tmp_path, check=True, capture_output=True)
    start = [*command, "start", "ml", "--host", "127.0.0.1", "--port", environment["IMIL_PORT"]]
    with subprocess.Popen(start, env=environment, cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + 60
            while not installation.answers():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield tmp_path / "ml"
        finally:
            # `start` runs the server as a child of its own.
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()


def test_label_studio_gets_the_champions_prediction_and_its_events_are_recorded(
    installation: Installation, label_studio: RunningLabelStudio, project: int, backend_directory: Path
) -> None:
    registered = {"project": project, "url": installation.url, "title": "ml", "is_interactive": True}
    label_studio.request("POST", "/api/ml", json=registered).raise_for_status()
    [task] = label_studio.client.tasks(project)
    [prediction] = label_studio.ask(f"/api/tasks/{task['id']}/")["predictions"]
    [region] = prediction["result"]
    assert region["value"]["choices"][0] in {"normal", "lesion"}
    assert prediction["model_version"].startswith("phantoms-round0-")
    label_studio.client.create_annotation(task["id"], prediction["result"], 1.0)
    deadline = time.monotonic() + 60
    while not (results := list(backend_directory.glob("*/job_result.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert json.loads(results[0].read_text())["jobs"]

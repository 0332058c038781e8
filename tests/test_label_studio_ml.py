"""label-studio-ml 1.0.9, installed without its dependencies beside Flask 3, serves the champion."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.label_studio import RunningLabelStudio, free_port, missing
from support.push import png

from imil_backend.label_studio.config_map import classification_config

pytestmark = pytest.mark.label_studio
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
SERVE = """
import sys
from label_studio_ml.api import init_app
from imil_backend.label_studio_ml_model import ImilModel
init_app(model_class=ImilModel, model_dir=sys.argv[2]).run(port=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("label-studio-ml")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *PACKAGES]
    if subprocess.run(install, check=False).returncode:
        missing("label-studio-ml 1.0.9 from PyPI", "PIP_INDEX_URL")
    return target


@pytest.fixture
def served(packages: Path, label_studio: RunningLabelStudio, tmp_path: Path) -> Iterator[str]:
    """The address of a label-studio-ml on an empty data directory."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "PYTHONPATH": f"{Path(__file__).parents[1]}:{packages}",
        "PYTHONWARNINGS": "ignore",
        "IMIL_DATA_DIR": str(tmp_path / "data"),
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.api_key,
    }
    imil = str(Path(sys.executable).with_name("imil"))
    subprocess.run([imil, "status"], env=environment, check=True, capture_output=True)  # makes the tables
    command = [sys.executable, "-c", SERVE, str(port), str(tmp_path / "models")]
    with subprocess.Popen(command, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    requests.get(f"{url}/health", timeout=5).raise_for_status()
                    break
                except requests.ConnectionError:
                    assert process.poll() is None
            yield url
        finally:
            process.terminate()


def test_it_answers_health_setup_and_predict_and_label_studio_takes_it(
    served: str, label_studio: RunningLabelStudio
) -> None:
    client = label_studio.client
    config = classification_config(["normal", "sick"])
    project = client.create_project("label-studio-ml", config, "")
    path = client.upload_image(project, "a.png", png())
    [task] = client.import_tasks(project, [{"data": {"image": path}}])
    assert requests.get(f"{served}/health", timeout=10).json()["status"] == "UP"
    setup = {"project": f"{project}.1", "schema": config, "hostname": client.url, "access_token": "x"}
    assert requests.post(f"{served}/setup", json=setup, timeout=30).json()["model_version"]
    tasks = list(client.named_tasks(project, [task]))
    body = {"tasks": tasks, "project": f"{project}.1", "label_config": config, "params": {}}
    answer = requests.post(f"{served}/predict", json=body, timeout=60)
    assert answer.json()["results"] == [{"result": [], "model_version": "imil-untrained"}]
    registered = {"project": project, "url": served, "title": "ml"}
    label_studio.request("POST", "/api/ml", json=registered).raise_for_status()

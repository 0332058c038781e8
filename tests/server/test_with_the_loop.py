"""The application with the real loop behind it, on a data directory without a dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # processes

PROGRAM = """
import sys
from server_fakes import make_settings, recorded
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.server import run
from support.waiting import waits

settings = make_settings(data_dir=sys.argv[1], webhook_secrets="new-secret")
if sys.argv[2] == "prepared":
    prepare(Backend(settings))
made, make = [], Backend.__init__
Backend.__init__ = lambda self, settings: made.append(self) or make(self, settings)
client = run.create_app(settings).test_client()


def post(path, name):
    answer = client.post(path, json=recorded(name), headers={"X-IMIL-Secret": "new-secret"})
    print(path, answer.status_code, answer.text.strip())


print("/health", client.get("/health").status_code)
post("/setup", "ml_setup")
with waits() as waited:
    post("/setup", "ml_setup")
post("/webhook", "annotation_updated")
post("/webhook", "no_payload")
heavy = {"torch", "torchvision", "pandas", "cv2", "label_studio_sdk"} & sys.modules.keys()
print("loaded", sorted(heavy))
print("backends", len(made))
print("waited", waited)
"""


def run(data_dir: Path, state: str) -> list[str]:
    here = Path(__file__).parent
    program = f"import sys; sys.path[:0] = {[str(here), str(here.parent)]!r}{PROGRAM}"
    result = subprocess.run(
        [sys.executable, "-c", program, str(data_dir), state], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_before_the_first_dataset_all_is_answered_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    health, setup, _, update, no_payload, loaded, backends, waited = run(tmp_path, "prepared")
    assert health == "/health 200"
    assert setup == '/setup 200 {"model_version":"imil-untrained"}'
    assert update.startswith('/webhook 200 {"accepted":false')
    assert no_payload.startswith('/webhook 200 {"accepted":false')
    assert loaded == "loaded []"
    assert backends == "backends 1"
    assert waited == "waited []"  # at the second time


def test_without_a_usable_store_an_event_is_not_taken(tmp_path: Path) -> None:
    health, setup, _, update, *_ = run(tmp_path, "unprepared")
    assert health == "/health 200"
    assert setup.startswith("/setup 503")
    assert update.startswith("/webhook 503")

"""What `benchmarks.latency` measures, in a process that loads torch as a web process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.arms import Figures
from imil_backend.config import Settings
from imil_backend.label_studio.labeling.task_data import SAMPLE_KEY
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.serving.predictions import PredictionService
from imil_backend.server.app import create_app

PROJECT = 1
CLASSES = ("a", "b")
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="class" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>"""


def settings_of(directory: Path) -> Settings:
    """Those of the backend that is asked."""
    return Settings(_env_file=None, data_dir=directory / "data", label_studio_api_key="none", device="cpu")


def ask(directory: str, keys: list[str]) -> Figures:
    """Milliseconds of one task, of the forward pass before it, and of all tasks asked for at once."""
    settings = settings_of(Path(directory))
    champion = PredictionService(Backend(settings), patient=True)
    client = create_app(settings, champion=champion, events=None).test_client()

    def predict(key: str) -> None:
        body = {
            "project": f"{PROJECT}.1",
            "tasks": [{"id": 1, "data": {SAMPLE_KEY: key}}],
            "label_config": CONFIG,
        }
        answer = client.post("/predict", json=body).get_json()
        assert "score" in answer["results"][0], answer

    predict(keys[0])
    predict(keys[0])
    (predictor,) = champion._networks._loaded.values()
    size = predictor.config.image_size
    blank = np.zeros((size, size, 1), np.uint8)
    with ThreadPoolExecutor(len(keys)) as pool:
        forward, one, together = [], [], []
        for _ in range(5):
            forward.append(_milliseconds(lambda: predictor.predict([blank])))
            one.append(_milliseconds(lambda: predict(keys[0])))
            together.append(_milliseconds(lambda: list(pool.map(predict, keys))))
    return {
        "one": float(np.median(one)),
        "slowest": max(one),
        "forward": float(np.median(forward)),
        "beyond": float(np.median(np.subtract(one, forward))),
        "together": float(np.median(together)),
    }


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000

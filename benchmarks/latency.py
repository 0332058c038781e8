"""How long /predict takes beyond the forward pass: one task, and several clients at once.

    python -m benchmarks.latency [--quick] [--runs N] [--xrays ZIP] [--json FILE]

The whole application in this process, its store and JSON included, on files of its own: nothing is fetched.
The network has random weights. On the CPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import samples_of, write_pictures
from benchmarks.report import Options, Report, main, spread
from imil_backend.config import Settings
from imil_backend.label_studio.config_map import load_label_config
from imil_backend.learning.job import MODEL_FILE
from imil_backend.learning.network import ModelConfig, build_network, save_model
from imil_backend.loop.answers import Champion
from imil_backend.loop.backend import Backend
from imil_backend.loop.champion import LOOP, promote
from imil_backend.server.app import create_app
from imil_backend.store.tables import Dataset, Project, Sample, Version

PROJECT = 1
CLIENTS = 8
SIZES = {"224 px": None, "2000 x 2500": (2000, 2500)}


def measure(options: Options) -> Report:
    """Measure files of two sizes."""
    report = Report("latency", "milliseconds of a warm /predict; the forward pass is timed between requests")
    for size in SIZES.values():
        with tempfile.TemporaryDirectory() as scratch:
            kind = write_pictures(Path(scratch) / "pictures", options.xrays, CLIENTS, size)
            report.rows.append({"images": kind, **_measure(options, Path(scratch))})
    return report


def _measure(options: Options, directory: Path) -> dict[str, Any]:
    settings = Settings(
        _env_file=None, data_dir=directory / "data", label_studio_api_key="none", device="cpu"
    )
    keys = _lay_down(settings, directory, 32 if options.quick else 224)
    champion = Champion(settings)
    client = create_app(settings, champion=champion, events=None).test_client()

    def ask(key: str) -> None:
        body = {
            "project": f"{PROJECT}.1",
            "tasks": [{"id": 1, "data": {"imil_sample": key}}],
            "label_config": load_label_config("blackout"),
        }
        answer = client.post("/predict", json=body).get_json()
        assert "score" in answer["results"][0], answer

    def ask_all() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, keys))

    ask(keys[0])
    (predictor,) = champion._loaded.values()
    blank = np.zeros((1, predictor.config.image_size, predictor.config.image_size, 1), np.uint8)
    whole, forward, joined = [], [], []
    for _ in range(options.runs * (1 if options.quick else 5)):
        forward.append(_milliseconds(lambda: predictor._probabilities(blank)))
        whole.append(_milliseconds(lambda: ask(keys[0])))
        joined.append(_milliseconds(ask_all))
    beyond = [one - other for one, other in zip(whole, forward, strict=True)]
    return {
        "one task, ms": spread(whole),
        "forward pass, ms": spread(forward),
        "beyond it, ms": spread(beyond),
        f"{CLIENTS} clients at once, all answered, ms": spread(joined),
    }


def _lay_down(settings: Settings, directory: Path, size: int) -> list[str]:
    """A data set with a champion and a project in the store; the keys of its samples."""
    backend = Backend(settings)
    backend.store.migrate()
    model = backend.path("versions", "benchmark", "x").parent
    config = ModelConfig(("a", "b"), size, 1, "v1.5", name="benchmark")
    save_model(model / MODEL_FILE, build_network(2, "v1.5"), config)
    samples = samples_of(directory / "pictures")
    with backend.store.begin() as session:
        dataset = Dataset(name="benchmark", classes=["a", "b"])
        session.add(dataset)
        session.flush()
        project = {"dataset_id": dataset.id, "instance": settings.label_studio_url, "number": PROJECT}
        session.add(Project(**project))
        version = Version(
            dataset_id=dataset.id, name="benchmark", directory=str(model), recipe={}, metrics={}, choices={},
            fingerprint="", blacked_out=0, code_version="", seconds=0.0,
        )  # fmt: skip
        session.add(version)
        session.flush()
        promote(session, version, LOOP)
        for sample in samples:
            session.add(
                Sample(
                    dataset_id=dataset.id,
                    key=sample.key,
                    name=sample.key,
                    path=sample.image,
                    sha256=sample.sha256,
                    width=1,
                    height=1,
                    channels=1,
                    shown_as_is=True,
                    label="a",
                    split="train",
                    group=sample.group,
                )
            )
    backend.store.close()
    return [sample.key for sample in samples]


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main(__doc__, measure)

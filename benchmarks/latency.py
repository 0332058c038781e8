"""How long /predict takes beyond the forward pass: one task, several clients at once, beside a training.

    python -m benchmarks.latency [--quick] [--runs N] ... (see --help)

The whole application in a process of its own, its store and JSON included, on files of its own: nothing is
fetched. The network has random weights. The training beside it is a real child on all cores. On the CPU.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.answering import CLASSES, PROJECT, settings_of
from benchmarks.arms import Arm, in_turns
from benchmarks.loops import recipe_of
from benchmarks.pictures import samples_of, training_job_of, write_pictures
from benchmarks.report import Options, Report, main, spread
from imil_backend.errors import TrainingStoppedError
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import MODEL_FILE, read_progress, write_training_job
from imil_backend.learning.networks.network import ModelConfig, build_network, save_model
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.versions.champions import LOOP, promote
from imil_backend.server.ml_api import MOST_PREDICTIONS
from imil_backend.store.tables import Dataset, Project, Sample, Version

CLIENTS = MOST_PREDICTIONS  # more are told to ask again
SOURCES = (None, (2000, 2500))  # width and height of the files; None: 224 px
PATIENCE = 300  # seconds until the training beside has begun


def measure(options: Options) -> Report:
    """Measure files of two sizes, alone and beside a training."""
    report = Report(
        "latency", "milliseconds of a warm /predict; the forward pass is timed between the requests"
    )
    for size in options.px(224):
        for source in [None] if options.quick else SOURCES:
            with tempfile.TemporaryDirectory() as scratch:
                report.rows += _measure(options, size, source, Path(scratch))
    return report


def _measure(
    options: Options, size: int, source: tuple[int, int] | None, scratch: Path
) -> list[dict[str, Any]]:
    kind = write_pictures(scratch / "pictures", options.xrays, CLIENTS, source)
    keys = _lay_down(scratch, size)
    arm = Arm(
        "answering", "benchmarks.answering:ask", {"directory": str(scratch), "keys": keys}, as_child=False
    )
    alone = in_turns([arm], options.runs)[arm.name]
    with _training(scratch / "training", size):
        beside = in_turns([arm], options.runs)[arm.name]
    return [
        {
            "px": size,
            "images": kind,
            "machine": machine,
            "one task": spread([each["one"] for each in figures]),
            "slowest of five": spread([each["slowest"] for each in figures]),
            "forward pass": spread([each["forward"] for each in figures]),
            "beyond it": spread([each["beyond"] for each in figures]),
            f"{CLIENTS} clients at once, all answered": spread([each["together"] for each in figures]),
        }
        for machine, figures in (("idle", alone), ("training", beside))
    ]


@contextmanager
def _training(directory: Path, size: int) -> Iterator[None]:
    """A training on all cores, under way while the context lasts."""
    write_pictures(directory / "pictures", None, 64, None)
    recipe = replace(recipe_of(size, "cpu"), epochs=1000)
    write_training_job(
        directory / "job",
        training_job_of(directory / "cache", recipe, "cpu"),
        samples_of(directory / "pictures", held_out=8),
    )
    over, stop = [], threading.Event()

    def run() -> None:
        try:
            run_training(directory / "job", should_stop=stop.is_set)
        except TrainingStoppedError:
            return
        finally:
            over.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        _await_training(directory / "job", over)
        yield
        if over:
            raise RuntimeError("The training has ended; the figures are not those of a busy machine.")
    finally:
        stop.set()
        thread.join()


def _await_training(job: Path, over: list[bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (progress := read_progress(job)) is None or progress.phase != "training":
        if over or time.monotonic() > deadline:
            raise RuntimeError("The training did not begin.")
        time.sleep(0.5)


def _lay_down(directory: Path, size: int) -> list[str]:
    """A data set with a champion and a project in the store; the keys of its samples."""
    settings = settings_of(directory)
    backend = Backend(settings)
    backend.store.migrate()
    model = backend.path("versions", "benchmark", "x").parent
    config = ModelConfig(CLASSES, size, 1, "v1.5", name="benchmark")
    save_model(model / MODEL_FILE, build_network(2, "v1.5"), config)
    samples = samples_of(directory / "pictures")
    with backend.store.begin() as session:
        dataset = Dataset(name="benchmark", classes=list(CLASSES))
        session.add(dataset)
        session.flush()
        project = {
            "dataset_id": dataset.id,
            "instance": settings.label_studio_url,
            "label_studio_id": PROJECT,
        }
        session.add(Project(**project))
        version = Version(
            dataset_id=dataset.id, name="benchmark", directory=str(model), recipe={}, metrics={},
            runtime_info={}, fingerprint="", blacked_out=0, code_version="", seconds=0.0,
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


if __name__ == "__main__":
    main(__doc__, measure)

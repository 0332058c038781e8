"""A job on tiny images, for tests that train."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imil_backend.learning.child.training_process import run_training_job
from imil_backend.learning.contract.training_job import (
    RESULT_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    read_json,
    write_training_job,
)

SIZE = 32
TAG = 8  # pixels a side of planted tags, in images of 40
RECIPE = Recipe(
    backbone="resnet18", image_size=SIZE, epochs=3, batch_size=16, micro_batch_size=8, precision="float32"
)
JobMaker = Callable[..., Path]


def lay_down(
    root: Path,
    samples: list[TrainingSample],
    name: str = "job",
    recipe: dict[str, object] | None = None,
    **changes: object,
) -> Path:
    """A job directory; `changes` are the job's fields, those in `recipe` its recipe's."""
    job = TrainingJob(
        name=name,
        classes=("normal", "lesion"),
        channels=1,
        recipe=replace(RECIPE, **(recipe or {})),
        cache_dir=str(root / "cache"),
        device="cpu",
    )
    write_training_job(root / name, replace(job, **changes), samples)
    return root / name


def train(directory: Path) -> dict[str, Any]:
    """Do a job in this process, which has torch already, with one thread; its result."""
    with torch_as_before():
        torch.set_num_threads(1)
        run_training_job(directory)
    return dict(read_json(directory / RESULT_FILE))


@contextmanager
def torch_as_before() -> Iterator[None]:
    """Puts back what a training sets for its whole process."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark

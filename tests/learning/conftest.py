"""Tiny images that a network learns within seconds, and a job on them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_jobs import TAG, JobMaker, lay_down, torch_as_before

from imil_backend.learning.contract.training_job import MODEL_FILE, TrainingSample
from imil_backend.learning.networks.network import ModelConfig, build_network, save_model


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """Those of one test's trainings are not those of the next one's."""
    with torch_as_before():
        yield


@pytest.fixture
def one_thread(settings_of_torch: None) -> None:
    """Of torch: what is tiny is quicker so, beside busy neighbours above all."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def children_of_one_thread() -> Iterator[None]:
    """Training processes with one thread, so that their bits are comparable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingSample]:
    """40 training, 12 validation and 8 test images, in groups of two; a bright square is class 1."""
    directory = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    made = []
    for number in range(60):
        label = number // 2 % 2
        pixels = random.integers(0, 80, (40, 40), dtype=np.uint8)
        pixels[10:25, 10:25] += np.uint8(120 * label)
        path = directory / f"{number}.png"
        Image.fromarray(pixels).save(path)
        split = "train" if number < 40 else "validation" if number < 52 else "test"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        made.append(
            TrainingSample(f"sample-{number}", str(path), digest, label, split, f"group-{number // 2}")
        )
    return made


@pytest.fixture
def tagged(samples: list[TrainingSample], tmp_path: Path) -> list[TrainingSample]:
    """Each with a planted bright tag in one of two corners; every other training image is painted."""
    found = []
    for number, sample in enumerate(samples):
        pixels = np.array(Image.open(sample.image))
        mask = np.zeros(pixels.shape, bool)
        left = 0 if number % 3 else pixels.shape[1] - TAG
        mask[:TAG, left : left + TAG] = True
        pixels[mask] = 255
        image, painted = tmp_path / f"tagged-{number}.png", tmp_path / f"mask-{number}.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(painted)
        tagged = replace(sample, image=str(image), sha256=_digest(image))
        if sample.split == "train" and number % 2:
            tagged = replace(tagged, mask=str(painted), mask_sha256=_digest(painted), confirmed=True)
        found.append(tagged)
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def make_job(tmp_path: Path, samples: list[TrainingSample]) -> JobMaker:
    """Lays down a job directory on the tiny images, or on those `given`; see `lay_down`."""

    def make(name: str = "job", given: list[TrainingSample] | None = None, **changes: object) -> Path:
        return lay_down(tmp_path, given or samples, name, **changes)

    return make


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network for grey images of 32 px and three classes, as a training leaves it."""
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model(directory / MODEL_FILE, build_network(3, "v1"), ModelConfig(("a", "b", "c"), 32, 1, "v1"))
    return directory


@pytest.fixture(scope="session")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory for the whole session, so that the processor is measured once."""
    return tmp_path_factory.mktemp("remembered")

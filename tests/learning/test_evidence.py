"""Class evidence: equal to captum's Grad-CAM, adding up to the logit, kept for each sample of each split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_jobs import JobMaker

from imil_backend.errors import LearningError
from imil_backend.learning.child.training_process import run_training_job
from imil_backend.learning.contract.evidence import (
    EVIDENCE_FILE,
    Evidence,
    EvidenceFile,
    read_evidence,
    write_evidence,
)
from imil_backend.learning.contract.training_job import PREDICTIONS_FILE, TrainingSample, read_json
from imil_backend.learning.inference.evidence import WithEvidence
from imil_backend.learning.inference.prediction import Predictor
from imil_backend.learning.networks.network import build_network

SMALL = {"backbone": "resnet18", "epochs": 2}


def outputs_of(backbone: str, images: torch.Tensor) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A network of random weights, its logits (n, classes), and its maps (n, classes, cells, cells)."""
    torch.manual_seed(0)
    network = build_network(3, "v1.5", backbone).eval()
    with torch.inference_mode():
        outputs = WithEvidence(network, backbone)(images)
    return network, outputs[:, :3], outputs[:, 3:].reshape(len(images), 3, 7, 7)


@pytest.mark.external
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_it_equals_captums_grad_cam(backbone: str) -> None:
    from captum.attr import LayerGradCam

    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    network, _, maps = outputs_of(backbone, images)
    for label in range(3):
        ours = maps[:, label : label + 1]
        theirs = LayerGradCam(network, network.layer4).attribute(images, target=label)
        assert theirs.abs().max() > 1e-3
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=0, atol=2e-6)


def test_logits_are_the_networks_own_and_cells_add_up_to_them() -> None:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    network, logits, maps = outputs_of("resnet18", images)
    with torch.inference_mode():
        assert torch.equal(logits, network(images))
        assert torch.allclose(maps.sum((2, 3)) + network.fc.bias, logits, atol=1e-5)


def some(count: int, first: str = "sample") -> Evidence:
    random = np.random.default_rng(count)
    maps = random.normal(size=(2, count, 7, 7)).astype(np.float16)
    probabilities = random.random((count, 2), np.float32)
    keys = tuple(f"{first}-{number}" for number in range(count))
    return Evidence(keys, np.arange(count) % 2, probabilities, maps[0], maps[1])


def test_a_sample_is_found_by_its_key(tmp_path: Path) -> None:
    test = some(3, "other-sample")
    write_evidence(tmp_path / EVIDENCE_FILE, {"train": some(12), "validation": some(0), "test": test})
    file = read_evidence(tmp_path)
    assert file is not None
    found = file.sample("other-sample-2")
    assert found is not None
    np.testing.assert_array_equal(found.label, test.label[2])
    np.testing.assert_array_equal(found.predicted, test.predicted[2])
    np.testing.assert_array_equal(found.probabilities, test.probabilities[2])
    assert file.sample("sample") is None
    assert file.split("validation").keys == ()
    assert file.split("train").keys == some(12).keys


def test_versions_from_before_have_none_and_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    assert read_evidence(tmp_path) is None
    (tmp_path / EVIDENCE_FILE).write_bytes(b"{")
    with pytest.raises(LearningError, match="train the version again"):
        read_evidence(tmp_path)


@pytest.fixture
def painted(tagged: list[TrainingSample]) -> list[TrainingSample]:
    """Four are painted: too few for a mask network, which would be trained for a minute."""
    return [
        each if number < 8 else replace(each, mask=None, mask_sha256=None, confirmed=False)
        for number, each in enumerate(tagged)
    ]


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_a_training_keeps_it_for_all_splits_of_images_as_they_are(
    make_job: JobMaker, painted: list[TrainingSample], remembered: Path
) -> None:
    """In a training on blackouts, the evidence is that of the images before them."""
    job = make_job(given=painted, recipe=SMALL)
    run_training_job(job)
    file, predictions = EvidenceFile(job / EVIDENCE_FILE), read_json(job / PREDICTIONS_FILE)
    assert file.split("train").keys == tuple(each.key for each in painted if each.split == "train")
    for split in ("validation", "test"):
        kept = file.split(split)
        assert list(kept.keys) == predictions[split]["keys"]
        np.testing.assert_array_equal(kept.labels, predictions[split]["labels"])
        np.testing.assert_allclose(kept.probabilities, predictions[split]["probabilities"], atol=1e-5)
    predictor = Predictor(job, "cpu", remembered)
    asked = [predictor.squash(np.array(Image.open(each.image))) for each in painted[:8]]
    np.testing.assert_allclose(file.split("train").probabilities[:8], predictor.predict(asked), atol=1e-2)


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_where_last_layers_are_trained_it_is_kept_of_training_samples_that_were_asked(
    make_job: JobMaker, painted: list[TrainingSample]
) -> None:
    job = make_job(given=painted, recipe={**SMALL, "trainable": "layer4"})
    run_training_job(job)
    file = EvidenceFile(job / EVIDENCE_FILE)
    assert file.split("train").keys == tuple(each.key for each in painted if each.confirmed)
    assert len(file.split("test").keys) == 8

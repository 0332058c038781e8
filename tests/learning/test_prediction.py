import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imil_backend.errors import WeightsError
from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.images.reading import read_image
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.learning.inference.prediction import Predictor, predict_split
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.networks.fusion import fused_for_inference
from imil_backend.learning.networks.network import build_network, load_model
from imil_backend.learning.networks.precision import faster_precision
from imil_backend.learning.networks.runtime import Runtime
from imil_backend.learning.scoring.metrics import softmax


@pytest.mark.slow
def test_images_of_any_size_and_kind_are_predicted_in_order(model_dir: Path, remembered: Path):
    random = np.random.default_rng(0)
    shapes = [(50, 40), (32, 32), (64, 80, 3)] * 15  # more than one batch
    predictor = Predictor(model_dir, "cpu", remembered)
    images = [predictor.squash(random.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    probabilities = predictor.predict(images)
    assert probabilities.shape == (45, 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.allclose(predictor.predict(images[41:42])[0], probabilities[41], atol=0.02)
    assert predictor.predict([]).shape == (0, 3)


@pytest.mark.slow
def test_it_sees_what_training_saw(model_dir: Path, remembered: Path, tmp_path: Path):
    """The same probabilities from the image itself as from the pixel cache."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    cache = PixelCache(tmp_path / "cache", 32, 1, max_bytes=10**6, max_pixels=10**6)
    rows = cache.fill([CachedItem(path, hashlib.sha256(path.read_bytes()).hexdigest())])
    predictor = Predictor(model_dir, "cpu", remembered)
    samples = SampleSet(cache.pixels, rows, np.array([0]), ("key",), ("group",))
    network, config = load_model(model_dir / MODEL_FILE)
    cpu = torch.device("cpu")
    runtime = Runtime(cpu, faster_precision(cpu, remembered))
    logits = predict_split(network, samples, config, runtime, lambda _: None)
    image = predictor.squash(read_image(path, max_bytes=10**6, max_pixels=10**6))
    assert np.allclose(softmax(logits), predictor.predict([image]), atol=1e-6)


@pytest.mark.slow
def test_folding_the_norms_changes_no_prediction_and_not_the_network():
    torch.manual_seed(0)
    network = build_network(3, "v1").train()
    images = torch.rand(4, 3, 64, 64)
    for _ in range(5):
        network(images)  # running statistics of its own
    folded = fused_for_inference(network, Runtime(torch.device("cpu"), "float32"))
    assert network.training
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        assert torch.allclose(folded(images), network.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_directory_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"model\.json is missing"):
        Predictor(tmp_path, "cpu")

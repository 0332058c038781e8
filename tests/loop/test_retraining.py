"""What follows going on unchanged: another last layer, or an epoch without what was looked at most."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imil_backend.learning.contract.training_job import TrainingSample
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.trainings.attention import hide, most_attended
from imil_backend.loop.comparing.trainings.last_layer import RETRAININGS, retrained

pytestmark = pytest.mark.slow  # scikit-learn takes a second to load

CHANNELS, COUNT = 12, 200


def test_what_was_looked_at_most_is_hidden_and_nothing_else(backend: Backend, tmp_path: Path):
    evidence = np.zeros((2, 7, 7), np.float32)
    evidence[0, 2, 3] = evidence[0, 2, 4] = 5
    evidence[1] = 1  # it looked at nothing more than at all else
    films = np.random.default_rng(0).integers(1, 255, (3, 70, 140), np.uint8)
    samples = []
    for number, film in enumerate(films):
        path = tmp_path / f"{number}.png"
        Image.fromarray(film).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        samples.append(TrainingSample(str(number), str(path), digest, 0, "train", str(number)))
    seen = hide(backend, samples, ["0", "1"], evidence, tmp_path / "hidden")
    assert seen[2] == samples[2]
    changed = np.asarray(Image.open(seen[0].image)) != films[0]
    assert changed[20:30, 60:100].all() and changed.sum() == 10 * 40
    assert seen[0].sha256 == hashlib.sha256(Path(seen[0].image).read_bytes()).hexdigest()
    assert most_attended(np.eye(2, dtype=np.float32) * [[3], [1]]).tolist() == [[True, False], [False, False]]


def scene(marked: float = 0.95) -> tuple[dict[str, Any], dict[str, Any], frozenset[str]]:
    """Features of a finding and of a marker that mostly agrees with it; the network goes by the marker."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {"weight": np.zeros((2, CHANNELS)), "bias": np.zeros(2)}
    predictions, contradicting = {}, set()
    arrays["weight"][1, :2] = (0.5, 2.0)
    for split, agreement in (("validation", marked), ("test", 0.5)):
        labels = np.arange(COUNT) % 2
        agrees = random.random(COUNT) < agreement
        features = random.normal(0, 1, (COUNT, CHANNELS))
        features[:, 0] += 3 * (2 * labels - 1)
        features[:, 1] += 3 * (2 * np.where(agrees, labels, 1 - labels) - 1)
        keys = [f"{split}-{number}" for number in range(COUNT)]
        contradicting |= {key for key, own in zip(keys, agrees, strict=True) if not own}
        logits = features @ (arrays["weight"][1] - arrays["weight"][0])
        scores = 1 / (1 + np.exp(-logits))
        arrays[f"{split}_features"] = features.astype(np.float32)
        predictions[split] = {
            "keys": keys,
            "labels": labels.tolist(),
            "groups": [str(number // 2) for number in range(COUNT)],
            "probabilities": np.stack([1 - scores, scores], axis=1).tolist(),
        }
    arrays["early"] = np.array(predictions["validation"]["probabilities"]) * 0.5 + 0.25
    return arrays, predictions, frozenset(contradicting)


def accuracy(split: dict[str, Any]) -> float:
    return float((np.argmax(split["probabilities"], axis=1) == np.array(split["labels"])).mean())


@pytest.mark.parametrize(("name", "gained"), [("dfr", 0.1), ("self", 0.0)])
def test_the_last_layer_no_longer_goes_by_the_marker(name: str, gained: float):
    arrays, predictions, contradicting = scene()
    found, layer = retrained(arrays, predictions, contradicting, RETRAININGS[name], seed=1)
    assert found["test"]["keys"] == predictions["test"]["keys"]
    assert accuracy(found["test"]) > accuracy(predictions["test"]) + gained
    logits = arrays["test_features"] @ layer.weight.T + layer.bias
    np.testing.assert_array_equal(logits.argmax(axis=1), np.argmax(found["test"]["probabilities"], axis=1))


@pytest.mark.parametrize("name", RETRAININGS)
def test_half_of_the_patients_is_left_to_choose_by(name: str):
    arrays, predictions, contradicting = scene()
    found, again, other = (
        retrained(arrays, predictions, contradicting, RETRAININGS[name], seed)[0]["validation"]
        for seed in (1, 1, 2)
    )
    assert found == again and found["keys"] != other["keys"]
    assert len(found["keys"]) == COUNT // 2 and len(set(found["groups"])) == COUNT // 4


def test_a_kind_that_hardly_occurs_does_not_stop_it():
    arrays, predictions, contradicting = scene(marked=1.0)
    found, _ = retrained(arrays, predictions, contradicting, RETRAININGS["dfr"], seed=0)
    assert np.isfinite(found["test"]["probabilities"]).all()


def test_the_layer_that_is_tuned_begins_as_the_networks_own():
    arrays, predictions, contradicting = scene()
    kept, layer = retrained(
        arrays, predictions, contradicting, lambda held, _: (held.weight, held.bias), seed=0
    )
    np.testing.assert_allclose(kept["test"]["probabilities"], predictions["test"]["probabilities"], atol=1e-6)
    np.testing.assert_allclose(layer.weight[1], arrays["weight"][1] - arrays["weight"][0])
    np.testing.assert_allclose(layer.bias, 0, atol=1e-9)

"""What the end of a training asks the network: nothing twice. In this process, to count forward passes.

With ResNet-18, to be quick.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import JobMaker

from imil_backend.errors import WeightsError
from imil_backend.learning.child import training_process
from imil_backend.learning.child.ending import mining, results
from imil_backend.learning.child.steps import asking
from imil_backend.learning.contract.training_job import MINING, MINING_FILE, RESULT_FILE, read_json
from imil_backend.learning.inference import evidence
from imil_backend.learning.inference.prediction import Predictor, predict_split
from imil_backend.learning.networks.imagenet_weights import fetch_weights
from imil_backend.learning.networks.network import build_network

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

TRAIN, VALIDATION, TEST = 40, 12, 8
SMALL = {"backbone": "resnet18"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of samples of each prediction of a split."""
    counts: list[int] = []

    def predict(network, samples, *rest, **settings):
        counts.append(len(samples))
        return predict_split(network, samples, *rest, **settings)

    monkeypatch.setattr(evidence, "predict_split", predict)
    monkeypatch.setattr(mining, "predict_split", predict)
    monkeypatch.setattr(asking, "predict_split", predict)
    return counts


def test_every_epoch_validates_once_and_the_end_asks_once_about_each_split(
    make_job: JobMaker, asked: list[int]
):
    training_process.run_training_job(make_job(recipe=SMALL))
    assert asked == [VALIDATION, TRAIN, VALIDATION, VALIDATION, TRAIN, VALIDATION, TEST]


@pytest.mark.parametrize(("mode", "predictions"), [("final", [TRAIN]), ("out-of-fold", [20, 20])])
def test_mining_again_makes_no_forward_pass(
    make_job: JobMaker, asked: list[int], monkeypatch: pytest.MonkeyPatch, mode: str, predictions: list[int]
):
    """An end that was interrupted when all but the result was written goes on without the network."""
    job: Path = make_job(recipe={**SMALL, "mining": mode, "epochs": 2, "folds": 2})
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(results, "save_model", lambda *_: (_ for _ in ()).throw(InterruptedError))
        training_process.run_training_job(job)
    assert asked[2:] == [TRAIN, VALIDATION, TEST, *predictions]
    mined = read_json(job / MINING_FILE)

    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    asked.clear()
    training_process.run_training_job(job)
    assert asked == []
    assert read_json(job / MINING_FILE) == mined
    assert read_json(job / RESULT_FILE)["metrics"]["test"]["accuracy"] is not None
    assert not list(job.glob("kept-*"))


def test_a_training_that_starts_over_forgets_what_was_kept(make_job: JobMaker, asked: list[int]):
    job: Path = make_job(recipe={**SMALL, "epochs": 2})
    (job / "kept-evidence-test.npy").write_bytes(b"of another network")
    training_process.run_training_job(job)
    assert asked[-1] == TEST


def ask_for_the_opposite(context, learner, state):
    """A way of mining: each training sample is predicted wrong."""
    labels = context.split("train").labels
    return np.eye(2, dtype=np.float32)[1 - labels], ()


def test_one_entry_adds_a_way_of_mining(make_job: JobMaker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MINING, "opposite", f"{__name__}:{ask_for_the_opposite.__name__}")
    job: Path = make_job(recipe={**SMALL, "epochs": 2, "mining": "opposite"})
    training_process.run_training_job(job)
    records = read_json(job / MINING_FILE)
    assert len(records) == TRAIN and all(record["wrong"] for record in records)


@pytest.mark.parametrize("trainable", ["all", "layer4", "classifier"])
def test_another_backbone_is_trained_kept_and_asked(
    make_job: JobMaker, tmp_path: Path, remembered: Path, trainable: str
):
    torch.save(build_network(7, "v1.5", "resnet18").state_dict(), tmp_path / "mine.pth")
    weights = fetch_weights(str(tmp_path / "mine.pth"), tmp_path / "weights", backbone="resnet18")
    wrong = make_job("wrong", recipe={"backbone": "resnet50"}, weights=str(weights))
    with pytest.raises(WeightsError, match="holds weights of ResNet-18, and the recipe asks for ResNet-50"):
        training_process.run_training_job(wrong)
    job = make_job(recipe={**SMALL, "trainable": trainable, "epochs": 2}, weights=str(weights))
    training_process.run_training_job(job)
    predictor = Predictor(job, "cpu", remembered)
    assert predictor.config.backbone == "resnet18"
    assert predictor.predict([np.zeros((32, 32, 1), np.uint8)]).shape == (1, 2)

"""What the end of a training asks the network: nothing twice. In this process, to count forward passes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import JobMaker

from imil_backend.learning.child import training
from imil_backend.learning.child.ending import mining, results
from imil_backend.learning.contract.job import MINING, MINING_FILE, RESULT_FILE, read_json
from imil_backend.learning.inference.prediction import predict_split

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

TRAIN, VALIDATION, TEST = 40, 12, 8


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of samples of each prediction of a split."""
    counts: list[int] = []

    def predict(network, samples, *rest, **settings):
        counts.append(len(samples))
        return predict_split(network, samples, *rest, **settings)

    monkeypatch.setattr(mining, "predict_split", predict)
    return counts


def test_every_epoch_validates_once_and_the_end_asks_for_the_test_split_alone(
    make_job: JobMaker, asked: list[int]
):
    training.run_job(make_job())
    assert asked == [VALIDATION, TRAIN, VALIDATION, VALIDATION, TEST]


@pytest.mark.parametrize(("mode", "predictions"), [("final", [TEST, TRAIN]), ("out-of-fold", [TEST, 20, 20])])
def test_mining_again_makes_no_forward_pass(
    make_job: JobMaker, asked: list[int], monkeypatch: pytest.MonkeyPatch, mode: str, predictions: list[int]
):
    """An end that was interrupted when all but the result was written goes on without the network."""
    job: Path = make_job(recipe={"mining": mode, "epochs": 2, "folds": 2})
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(results, "save_model", lambda *_: (_ for _ in ()).throw(InterruptedError))
        training.run_job(job)
    assert asked[2:] == predictions
    mined = read_json(job / MINING_FILE)

    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    asked.clear()
    training.run_job(job)
    assert asked == []
    assert read_json(job / MINING_FILE) == mined
    assert read_json(job / RESULT_FILE)["metrics"]["test"]["accuracy"] is not None
    assert not list(job.glob("kept-*"))


def test_a_training_that_starts_over_forgets_what_was_kept(make_job: JobMaker, asked: list[int]):
    job: Path = make_job(recipe={"epochs": 2})
    (job / "kept-test.npy").write_bytes(b"of another network")
    training.run_job(job)
    assert asked[-1] == TEST


def ask_for_the_opposite(context, learner, state):
    """A way of mining: each training sample is predicted wrong."""
    labels = context.split("train").labels
    return np.eye(2, dtype=np.float32)[1 - labels], ()


def test_one_entry_adds_a_way_of_mining(make_job: JobMaker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MINING, "opposite", f"{__name__}:{ask_for_the_opposite.__name__}")
    job: Path = make_job(recipe={"epochs": 2, "mining": "opposite"})
    training.run_job(job)
    records = read_json(job / MINING_FILE)
    assert len(records) == TRAIN and all(record["wrong"] for record in records)

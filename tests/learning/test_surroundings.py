"""Which training samples are right for their surroundings alone."""

from pathlib import Path

import numpy as np
import pytest
from tiny_jobs import JobMaker

from imil_backend.learning.child import training_process
from imil_backend.learning.child.ending.surroundings import by_variety
from imil_backend.learning.contract.training_job import MINING_FILE, read_json


def test_each_next_one_is_as_different_as_can_be_from_those_before_it():
    features = np.array([[0.0], [1.0], [10.0], [10.5], [-20.0]], np.float32)
    assert by_variety(features).tolist() == [0, 3, 4, 2, 1]


def test_of_equals_each_has_a_place_and_those_beyond_the_most_follow_in_their_order():
    assert sorted(by_variety(np.zeros((4, 2), np.float32)).tolist()) == [0, 1, 2, 3]
    assert by_variety(np.arange(5, dtype=np.float32)[:, None], most=1).tolist() == [1, 2, 0, 3, 4]
    assert by_variety(np.empty((0, 2), np.float32)).tolist() == []


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_a_training_notes_whose_answer_changes(make_job: JobMaker):
    job: Path = make_job(recipe={"backbone": "resnet18", "epochs": 2})
    training_process.run_training_job(job)
    records = read_json(job / MINING_FILE)
    places = [record["variety"] for record in records if record["variety"] is not None]
    assert sorted(places) == list(range(len(places)))
    assert all(record["margin_deviation"] >= 0 for record in records)

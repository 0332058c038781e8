from __future__ import annotations

import pytest
from loop_fakes import OpenRound, chosen, make_dataset, make_version
from sqlalchemy import update
from sqlalchemy.orm import Session

from imil_backend.errors import RoundError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import Policy
from imil_backend.loop.versions.mispredictions import all_mispredictions, next_mispredictions
from imil_backend.store.tables import Dataset, Sample, Task

WRONG = ["train-3", "train-1", "train-6", "train-4"]  # classes: normal, normal, lesion, lesion


@pytest.fixture
def mined(backend: Backend) -> Dataset:
    dataset = make_dataset(backend, train=20)
    make_version(backend, dataset, wrong=WRONG)
    return dataset


def names(session: Session, dataset: Dataset, **policy: object) -> list[str]:
    return [item.sample.name for item in next_mispredictions(session, dataset, Policy(**policy))]  # type: ignore[arg-type]


def test_the_most_instructive_come_first_up_to_the_budget(session: Session, mined: Dataset) -> None:
    assert names(session, mined, budget=0.1) == WRONG[:2]
    assert names(session, mined, budget=1.0) == WRONG
    first = next_mispredictions(session, mined)[0]
    assert (first.rank, first.sample.label, first.predicted) == (1, "normal", "lesion")
    assert len(all_mispredictions(session, mined)) == 4


def test_what_has_left_training_since_is_not_asked(session: Session, mined: Dataset) -> None:
    session.execute(update(Sample).where(Sample.name == "train-1").values(excluded="copy in test"))
    assert names(session, mined, budget=1.0) == ["train-3", "train-6", "train-4"]


def test_the_least_certain_fill_the_budget_only_if_asked(session: Session, mined: Dataset) -> None:
    assert names(session, mined, budget=0.3, fill_budget=True) == [*WRONG, "train-0", "train-2"]


def test_a_class_quota_lets_the_classes_take_turns(session: Session, mined: Dataset) -> None:
    assert names(session, mined, budget=0.1, class_quota=True) == ["train-3", "train-6"]


def test_before_the_baseline_there_is_nothing_to_ask(session: Session, dataset: Dataset) -> None:
    with pytest.raises(RoundError, match="no trained version yet"):
        next_mispredictions(session, dataset)


def test_what_was_asked_is_not_asked_again_unless_it_was_answered_and_is_to_be_repeated(
    open_round: OpenRound,
) -> None:
    with open_round.backend.store.begin() as session:
        assert names(session, open_round.dataset, budget=1.0, repeat=True) == []  # all wait for an answer
    open_round.label_studio.annotate(open_round.tasks[2], chosen("nothing_to_black_out"))
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        assert names(session, open_round.dataset, budget=1.0) == []
        assert names(session, open_round.dataset, budget=1.0, repeat=True) == ["train-2"]
        session.get_one(Task, 1).deleted = True
        session.flush()
        assert names(session, open_round.dataset, budget=1.0) == ["train-0"]


def test_what_a_round_has_already_counts_in_its_budget(session: Session, mined: Dataset) -> None:
    asked = next_mispredictions(session, mined, Policy(budget=0.15), chosen={"key-train-4", "key-train-0"})
    assert [item.sample.name for item in asked] == ["train-3", "train-4", "train-0"]

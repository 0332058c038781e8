from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from loop_fakes import OpenRound, mask_of

from imil_backend.errors import MaskError
from imil_backend.loop.answers.sample_states import (
    SampleState,
    load_mask,
    mask_path,
    remove_mask,
    sample_states,
    save_mask,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Annotation, Dataset, Sample, Task


def state(
    open_round: OpenRound, *answers: tuple[int, str, tuple[int, ...]], annotators: str = "latest"
) -> SampleState:
    """Of a sample after the answers (annotator, answer, painted columns), oldest first."""
    backend = open_round.backend
    with backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).policy = {"annotators": annotators}
        task = session.get_one(Task, 1)
        for number, (annotator, answer, columns) in enumerate(answers, start=1):
            moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number)
            session.add(
                Annotation(
                    project_id=open_round.project.id, label_studio_id=number, label_studio_created_at=moment,
                    label_studio_updated_at=moment, task_id=task.id, sample_id=task.sample_id,
                    annotator=annotator, answer=answer,
                    mask_sha256=save_mask(backend, mask_of(*columns)) if columns else None,
                )
            )  # fmt: skip
    with backend.store.begin() as session:
        states = sample_states(backend, session, session.get_one(Dataset, open_round.dataset.id))
        return states[task.sample_id]


def columns(backend: Backend, found: SampleState) -> set[int]:
    assert found.mask_sha256 is not None
    mask = load_mask(backend, found.mask_sha256, Sample(key="k", width=8, height=6))
    return set(np.flatnonzero(mask.any(axis=0)))


@pytest.mark.parametrize(
    ("annotators", "painted"),
    [("latest", {2, 3}), ("union", {0, 1, 2, 3, 4}), ("intersection", {2}), ("majority", {1, 2, 3})],
)
def test_several_annotators_are_combined_as_the_policy_says(
    open_round: OpenRound, annotators: str, painted: set[int]
) -> None:
    answers = [(1, "blackout", (5,)), (1, "blackout", (0, 1, 2)), (2, "blackout", (1, 2, 3, 4)),
               (3, "blackout", (2, 3))]  # fmt: skip
    found = state(open_round, *answers, annotators=annotators)
    assert (
        columns(open_round.backend, found) == painted
    )  # the first annotator's earlier answer does not count


def test_nothing_to_black_out_is_an_empty_mask_beside_other_annotators(open_round: OpenRound) -> None:
    answers = [(1, "blackout", (1,)), (2, "nothing", ())]
    assert columns(open_round.backend, state(open_round, *answers, annotators="union")) == {1}


def test_nothing_in_common_leaves_the_original(open_round: OpenRound) -> None:
    answers = [(1, "blackout", (1,)), (2, "nothing", ())]
    assert state(open_round, *answers, annotators="intersection") == SampleState(None, None)


@pytest.mark.parametrize("answer", ["label_wrong", "unreadable"])
def test_the_latest_answer_decides_whether_a_sample_leaves_training(
    open_round: OpenRound, answer: str
) -> None:
    assert state(open_round, (1, "blackout", (1,)), (2, answer, ())) == SampleState(None, answer)


def test_a_sample_comes_back_when_a_later_answer_paints_it(open_round: OpenRound) -> None:
    found = state(open_round, (1, "label_wrong", (4,)), (2, "blackout", (1,)), annotators="union")
    assert columns(open_round.backend, found) == {1}


@pytest.mark.parametrize("answer", ["skipped", "set_aside"])
def test_what_is_no_answer_changes_nothing(open_round: OpenRound, answer: str) -> None:
    assert columns(open_round.backend, state(open_round, (1, "blackout", (1,)), (2, answer, ()))) == {1}


def test_a_mask_is_removed_unless_it_was_asked_for_since(backend: Backend) -> None:
    path = mask_path(backend, save_mask(backend, mask_of(1)))
    os.utime(path, (0, 0))
    assert not remove_mask(path, unused_since=0)
    save_mask(backend, mask_of(1))
    assert not remove_mask(path, unused_since=1)
    os.utime(path, (0, 0))
    assert remove_mask(path, unused_since=1)
    assert not remove_mask(path, unused_since=1)


def test_a_mask_is_kept_once_and_a_damaged_one_is_made_good(backend: Backend) -> None:
    sha256 = save_mask(backend, mask_of(1))
    path = mask_path(backend, sha256)
    path.write_bytes(b"damaged")
    assert save_mask(backend, mask_of(1)) == sha256
    sample = Sample(key="k", width=8, height=6)
    assert (load_mask(backend, sha256, sample) == mask_of(1)).all()
    path.unlink()
    with pytest.raises(MaskError, match=r"sample k .* `imil reconcile --full`"):
        load_mask(backend, sha256, sample)

"""The audit trail: everything once, in the transaction of what it tells of, and never changed."""

from __future__ import annotations

from typing import Any

import pytest
from loop_fakes import LENIENT, RESULT, OpenRound, chosen, mask_of, on_both_databases, region, write_results
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from imil_backend.errors import NotFoundError, StoreError
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.audit import find_sample, history
from imil_backend.loop.rounds import training
from imil_backend.loop.rounds.lifecycle import close_round
from imil_backend.loop.versions.champions import ROLLBACK, promote
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.store.tables import Annotator, Dataset, Round, Version

pytestmark = on_both_databases


def trail(open_round: OpenRound, sample: str | None = None) -> list[dict[str, Any]]:
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        return history(session, dataset, find_sample(session, dataset, sample) if sample else None)


def test_who_painted_what_is_told_once_for_each_change(open_round: OpenRound) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    number = label_studio.annotate(task, region(mask_of(1)), by=7)
    for _ in range(3):
        sync_annotation(open_round.backend, open_round.project, number)
    reconcile(open_round.backend, open_round.project, full=True)
    label_studio.update(number, result=chosen("unreadable"))
    reconcile(open_round.backend, open_round.project)
    label_studio.delete(number)
    reconcile(open_round.backend, open_round.project)
    reconcile(open_round.backend, open_round.project)
    painted, unreadable, withdrawn = trail(open_round, "train-0")
    assert (painted["event"], painted["answer"]) == ("answered", "blackout")
    with open_round.backend.store.begin() as session:
        [annotator] = session.scalars(select(Annotator))
    assert (painted["annotator"], annotator.label_studio_id) == (annotator.key, 7)
    assert (painted["version"], painted["round"]) == ("baseline", 1)  # which asked for it
    assert len(painted["mask_sha256"]) == 64
    assert (unreadable["event"], unreadable["answer"]) == ("answered", "unreadable")
    assert (withdrawn["event"], withdrawn["annotation"]) == ("withdrawn", number)
    assert trail(open_round, "key-train-0") == [painted, unreadable, withdrawn]
    assert trail(open_round, "train-1") == []


def test_what_a_version_was_trained_on_and_its_promotion_are_told_once(open_round: OpenRound) -> None:
    backend = open_round.backend
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        dataset.policy = dict(LENIENT)
    number = open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    sync_annotation(backend, open_round.project, number)
    with backend.store.begin() as session:
        close_round(session, session.get_one(Round, open_round.id))
    training.prepare_round_training(backend, open_round.id)
    directory = directory_of(backend, str(open_round.round.version_name))
    write_results(directory, read_samples(directory))
    for _ in range(2):
        training.conclude(backend, open_round.id, RESULT)
    answered, trained = trail(open_round, "train-0")
    assert (trained["event"], trained["version"]) == ("trained", open_round.round.version_name)
    assert trained["mask_sha256"] == answered["mask_sha256"]
    with backend.store.begin() as session:
        promote(session, session.get_one(Version, open_round.version.id), ROLLBACK, who="someone")
    told = [(entry["event"], entry["version"], entry["by"]) for entry in trail(open_round) if "by" in entry]
    assert told == [
        ("promoted", "baseline", "loop"),
        ("promoted", open_round.round.version_name, "loop"),
        ("rolled back", "baseline", "someone"),
    ]


@pytest.mark.parametrize("table", ["audit", "versions"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id + 100", "DELETE FROM {}"])
def test_the_database_refuses_changes(open_round: OpenRound, table: str, change: str) -> None:
    with (
        pytest.raises((IntegrityError, StoreError), match="only ever added to"),
        open_round.backend.store.begin() as session,
    ):
        session.execute(text(change.format(table)))


def test_a_change_that_fails_is_not_told_of(open_round: OpenRound) -> None:
    before = trail(open_round)
    with pytest.raises(RuntimeError), open_round.backend.store.begin() as session:
        version = Version(**{
            name: getattr(open_round.version, name)
            for name, _ in Version.__mapper__.column_attrs.items()
            if name not in {"id", "name"}
        }, name="other")  # fmt: skip
        session.add(version)
        session.flush()
        assert promote(session, version, "loop")
        raise RuntimeError
    assert trail(open_round) == before


def test_a_sample_that_is_not_there_is_told(open_round: OpenRound) -> None:
    with pytest.raises(NotFoundError, match="no sample with the key or name 'nobody'"):
        trail(open_round, "nobody")

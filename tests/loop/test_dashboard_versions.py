"""What the pages of versions show."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import RESULT, OpenRound, make_version

from imil_backend.errors import NotFoundError
from imil_backend.learning.contract.training_job import RESULT_FILE, Recipe, write_json
from imil_backend.learning.scoring.metrics import compute_metrics
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.dashboard.versions import Versions, plot_of, version_page, versions_of
from imil_backend.loop.evaluation.kept import evaluate_version
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.versions.champions import reject
from imil_backend.store.tables import Dataset, Version

EPOCHS = [{"epoch": 1, "train_loss": 0.7, "validation": {"loss": 0.5, "accuracy": 0.75}}]


def keep_evaluation(open_round: OpenRound, version: Version) -> None:
    result = {**RESULT, "epochs": EPOCHS, "best_epoch": 1}
    write_json(Path(version.directory) / RESULT_FILE, result)
    with open_round.backend.store.begin() as session:
        evaluate_version(session, version)


@pytest.fixture
def candidate(open_round: OpenRound) -> Version:
    """Of round 1, compared with the baseline, rejected."""
    version = make_version(open_round.backend, open_round.dataset, "candidate", champion=False)
    other = Version(
        dataset_id=version.dataset_id, name="second", parent_id=open_round.version.id,
        baseline_id=open_round.version.id, directory=version.directory,
        recipe=asdict(Recipe(pretrained=False, seed=7)), metrics=version.metrics, runtime_info={},
        fingerprint="g", blacked_out=3, code_version="0", seconds=2.0,
    )  # fmt: skip
    with open_round.backend.store.begin() as session:
        session.add(other)
        session.flush()
        round_ = session.merge(open_round.round)
        round_.version_id, round_.verdict = other.id, {"verdict": "reject", "reason": "Worse."}
        change_state(round_, CLOSED)
    return other


def shown(open_round: OpenRound) -> Versions:
    return versions_of(open_round.backend, open_round.dataset.id)


def test_versions_stand_below_the_champion_that_they_were_compared_with(
    open_round: OpenRound, candidate: Version
) -> None:
    lines = [(line.name, line.depth, line.is_champion, line.verdict) for line in shown(open_round).lines]
    assert lines == [
        ("baseline", 0, True, None),
        ("second", 1, False, "reject"),
        ("candidate", 0, False, None),
    ]
    assert [each.version for each in shown(open_round).promotions] == ["baseline"]


def test_versions_of_an_earlier_release_have_no_figures(open_round: OpenRound, candidate: Version) -> None:
    page = shown(open_round)
    assert page.plot is None
    assert {line.evaluation for line in page.lines} == {None}
    with pytest.raises(NotFoundError):
        plot_of(open_round.backend, open_round.dataset.id, candidate.id, "roc-test.svg")


def test_a_version_says_what_it_is_and_how_often_the_test_split_was_looked_at(
    open_round: OpenRound, candidate: Version
) -> None:
    page = version_page(open_round.backend, open_round.dataset.id, candidate.id)
    assert page.compared_with == "baseline"
    assert [(each.name, each.before, each.now) for each in page.differences] == [("seed", 0, 7)]
    assert page.looks == 3
    assert page.simulated == 0


def test_a_version_without_a_test_split_has_not_looked_at_it(
    open_round: OpenRound, candidate: Version
) -> None:
    assert candidate.metrics["test"]["accuracy"] is not None
    without = {**candidate.metrics, "test": compute_metrics(np.empty((0, 2)), np.empty(0, np.int64))}
    with open_round.backend.store.begin() as session:
        session.add(
            Version(
                dataset_id=candidate.dataset_id, name="third", parent_id=candidate.id, metrics=without,
                directory=candidate.directory, recipe={}, runtime_info={}, fingerprint="f", blacked_out=0,
                code_version="0", seconds=1.0,
            )
        )  # fmt: skip
    assert version_page(open_round.backend, open_round.dataset.id, candidate.id).looks == 3


def test_a_person_who_rejects_is_named_beside_the_verdict(open_round: OpenRound, candidate: Version) -> None:
    assert [line.rejected for line in shown(open_round).lines] == [False] * 3
    with open_round.backend.store.begin() as session:
        session.merge(open_round.round).verdict = {"verdict": "undecided", "reason": "Few samples."}
        reject(session, session.get_one(Version, candidate.id), who="ann")
    lines = {line.name: (line.verdict, line.rejected) for line in shown(open_round).lines}
    assert lines["second"] == ("undecided", True)
    assert lines["baseline"] == (None, False)


def test_plots_come_from_the_report_and_from_nowhere_else(open_round: OpenRound) -> None:
    version = open_round.version
    keep_evaluation(open_round, version)
    number = open_round.dataset.id
    assert b"<svg" in plot_of(open_round.backend, number, version.id, "roc-validation.svg")
    for name in ("evaluation.json", "../result.json", "nothing.svg"):
        with pytest.raises(NotFoundError):
            plot_of(open_round.backend, number, version.id, name)


def test_a_version_belongs_to_its_dataset(open_round: OpenRound, backend: Backend) -> None:
    with backend.store.begin() as session:
        session.add(other := Dataset(name="other", classes=[]))
    with pytest.raises(NotFoundError):
        version_page(backend, other.id, open_round.version.id)
    assert versions_of(backend, other.id).lines == ()

"""A proposed mask counts only once a person has submitted it, whatever else happens to its task."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from loop_fakes import (
    MAPPING,
    FakeLabelStudio,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
)
from sqlalchemy import select

from imil_backend.learning.contract.proposed import Proposed, Quality
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import sample_states
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.proposals.refresh import refresh_proposals
from imil_backend.loop.proposals.sources import ProposedMasks
from imil_backend.store.tables import Dataset, Project, Sample

pytestmark = pytest.mark.slow  # long histories, each on a store of its own

NAMES = ("train-0", "train-1", "train-2")
SIZE = 8


def masks(columns: int) -> ProposedMasks:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, :columns] = True
    packed = np.repeat(np.packbits(mask.reshape(1, -1), axis=1), len(NAMES), axis=0)
    quality = Quality((0.9,), 0.9, 0.8, 1.0, 3, 3)
    proposed = Proposed(True, "", quality, SIZE, packed, np.ones(len(NAMES), np.float32))
    return ProposedMasks(proposed, {f"key-{name}": place for place, name in enumerate(NAMES)}, False, "")


class Proposals(RuleBasedStateMachine):
    """Everything that can happen to tasks with proposed masks; `submitted` is what people have sent."""

    tasks = st.integers(0, 2)

    @initialize(columns=st.integers(1, 7))
    def propose(self, columns: int) -> None:
        self.directory = TemporaryDirectory()
        self.backend = make_backend(Path(self.directory.name))
        self.there = FakeLabelStudio()
        self.backend.__dict__["label_studio"] = self.there
        dataset = make_dataset(self.backend)
        with self.backend.store.begin() as session:
            session.get_one(Dataset, 1).policy = {"control_share": 0.1}
        project = make_project(self.backend, dataset)
        make_round(self.backend, self.there, project, make_version(self.backend, dataset, wrong=NAMES), NAMES)
        self.numbers = sorted(self.there.tasks_there)
        self.submitted: set[int] = set()
        self.propose_anew(columns)

    @property
    def project(self) -> Project:
        with self.backend.store.begin() as session:
            return session.scalars(select(Project)).one()

    def prefilled(self, task: int) -> bool:
        return any(each["task"] == self.numbers[task] and each["result"] for each in self.shown)

    @property
    def shown(self) -> list[dict[str, object]]:
        return list(self.there.predictions.values())

    @rule(columns=st.integers(1, 7))
    def propose_anew(self, columns: int) -> None:
        refresh_proposals(self.backend, self.project, MAPPING, masks(columns))

    @rule(task=tasks)
    def a_person_accepts(self, task: int) -> None:
        if self.prefilled(task):
            self.submitted.add(self.there.accept(self.numbers[task]))

    @rule(task=tasks)
    def a_person_skips_what_is_prefilled(self, task: int) -> None:
        if self.prefilled(task):
            self.there.update(self.there.accept(self.numbers[task]), was_cancelled=True)

    @rule(task=tasks)
    def a_draft_is_kept(self, task: int) -> None:
        if self.prefilled(task):
            prediction = next(each for each in self.shown if each["task"] == self.numbers[task])
            self.there.tasks_there[self.numbers[task]]["drafts"] = [deepcopy(prediction["result"])]

    @rule(task=tasks)
    def annotations_are_made_of_predictions_in_bulk(self, task: int) -> None:
        if self.prefilled(task):
            self.there.update(self.there.accept(self.numbers[task]), lead_time=None)

    @rule(task=tasks)
    def the_task_is_exported_and_imported_again(self, task: int) -> None:
        number = self.numbers[task]
        copied = self.there.add_task(self.there.tasks_there[number]["data"])
        for prediction in self.shown:
            if prediction["task"] == number:
                self.there.predict(copied, prediction)

    @precondition(lambda self: self.there.annotations)
    @rule(data=st.data(), cancelled=st.booleans())
    def a_person_updates(self, data: st.DataObject, cancelled: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.there.annotations)))
        self.there.update(number, was_cancelled=cancelled, lead_time=5.0)
        (self.submitted.discard if cancelled else self.submitted.add)(number)

    @precondition(lambda self: self.there.annotations)
    @rule(data=st.data())
    def an_annotation_is_deleted(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.there.annotations)))
        self.there.delete(number)
        self.submitted.discard(number)

    @precondition(lambda self: self.there.annotations)
    @rule(data=st.data())
    def an_event_arrives(self, data: st.DataObject) -> None:
        sync_annotation(
            self.backend, self.project, data.draw(st.sampled_from(sorted(self.there.annotations)))
        )

    @rule()
    def the_project_is_gone_and_restored(self) -> None:
        self.there.gone = True
        reconcile(self.backend, self.project)
        self.there.gone = False

    @rule(full=st.booleans())
    def it_is_reconciled(self, full: bool) -> None:
        reconcile(self.backend, self.project, full=full)
        submitted = {
            self.there.tasks_there[self.there.annotations[number]["task"]]["data"]["imil_sample"]
            for number in self.submitted
        }
        assert self._masked() == submitted

    def _masked(self) -> set[str]:
        with self.backend.store.begin() as session:
            states = sample_states(self.backend, session, session.get_one(Dataset, 1))
            return {
                session.get_one(Sample, number).key
                for number, state in states.items()
                if state.mask_sha256 is not None
            }

    def teardown(self) -> None:
        if hasattr(self, "submitted"):
            self.it_is_reconciled(full=False)
            self.backend.close()
            self.directory.cleanup()


TestProposals = Proposals.TestCase
TestProposals.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)

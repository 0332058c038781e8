"""Clinicians do anything in any order, and events come or do not: reconciliation makes the store equal."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from loop_fakes import (
    FakeLabelStudio,
    OpenRound,
    chosen,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    region,
)

from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation

pytestmark = pytest.mark.slow  # long histories, each on a store of its own


class Clinicians(RuleBasedStateMachine):
    """Anything that can happen there, with events that are lost, late, doubled or in any order."""

    numbers = st.integers(1, 6)
    results = st.sampled_from([[], region(mask_of(1)), region(mask_of(2)), chosen("unreadable")])

    @initialize()
    def open_a_round(self) -> None:
        self.directory = TemporaryDirectory()
        backend = make_backend(Path(self.directory.name))
        self.label_studio = FakeLabelStudio()
        backend.__dict__["label_studio"] = self.label_studio
        dataset = make_dataset(backend)
        project = make_project(backend, dataset)
        names = ["train-0", "train-1", "train-2"]
        version = make_version(backend, dataset, wrong=names)
        round_ = make_round(backend, self.label_studio, project, version, names)
        self.open = OpenRound(backend, self.label_studio, dataset, version, project, round_.id)
        self.tasks = self.open.tasks

    @rule(number=numbers, task=st.integers(0, 2), result=results, by=st.integers(1, 2))
    def annotate(self, number: int, task: int, result: list[Any], by: int) -> None:
        if number not in self.label_studio.annotations and self.tasks[task] in self.label_studio.tasks_there:
            self.label_studio.annotate(self.tasks[task], result, number=number, by=by)

    @rule(number=numbers, result=results, skipped=st.booleans())
    def update(self, number: int, result: list[Any], skipped: bool) -> None:
        if number in self.label_studio.annotations:
            self.label_studio.update(number, result=result, was_cancelled=skipped)

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        if number in self.label_studio.annotations:
            self.label_studio.delete(number)

    @rule(task=st.integers(0, 2))
    def delete_task_and_use_its_number_again(self, task: int) -> None:
        number = self.tasks[task]
        self.label_studio.delete_task(number)
        self.label_studio.add_task({"imil_sample": f"key-train-{(task + 1) % 3}"}, number=number)

    @rule(number=numbers)
    def an_event_arrives(self, number: int) -> None:
        sync_annotation(self.open.backend, self.open.project, number)

    @rule()
    def the_store_equals_label_studio_after_reconciliation(self) -> None:
        reconcile(self.open.backend, self.open.project)
        there = {
            (number, self.label_studio.tasks_there[raw["task"]]["data"]["imil_sample"], raw["completed_by"])
            for number, raw in self.label_studio.annotations.items()
        }
        stored = [(row.label_studio_id, row.sample.key, row.user) for row in self.open.annotations]
        assert sorted(stored) == sorted(there)
        for row in self.open.annotations:
            raw = self.label_studio.annotations[row.label_studio_id]
            assert (row.answer == "skipped") == raw["was_cancelled"]
            assert (row.answer == "set_aside") == (not raw["was_cancelled"] and not raw["result"])

    @invariant()
    def no_annotation_is_doubled(self) -> None:
        if hasattr(self, "open"):
            numbers = [row.label_studio_id for row in self.open.annotations]
            assert len(numbers) == len(set(numbers))

    def teardown(self) -> None:
        if hasattr(self, "open"):
            self.the_store_equals_label_studio_after_reconciliation()
            self.open.backend.close()
            self.directory.cleanup()


TestClinicians = Clinicians.TestCase
TestClinicians.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)

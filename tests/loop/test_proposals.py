"""Masks that are proposed in the editor: to whom, from where, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from loop_fakes import (
    HEIGHT,
    MAPPING,
    PROJECT,
    WIDTH,
    FakeLabelStudio,
    FakeQueues,
    OpenRound,
    chosen,
    make_project,
    make_version,
    mask_of,
    region,
)
from sqlalchemy import select

from imil_backend.cli.commands import push
from imil_backend.images.masks.masks import annotation_mask
from imil_backend.learning.contract.proposed import PROPOSED_FILE, Proposed, Quality, write_proposed
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.cleanup.needed import needed_masks
from imil_backend.loop.proposals import reasons, renewal
from imil_backend.loop.proposals.figures import proposal_figures
from imil_backend.loop.proposals.offers import in_control_group
from imil_backend.loop.proposals.refresh import refresh_proposals
from imil_backend.loop.proposals.renewal import enqueue_due_renewals, renew_proposals, renewal_step
from imil_backend.loop.proposals.sources import ProposedMasks, kept_masks
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.running import steps
from imil_backend.loop.serving.predictions import PredictionService
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Annotation, Dataset, Project, Proposal, Sample, Task, Version

SIZE = 96
LEFT = np.arange(WIDTH) < 4  # columns
NAMES = [f"train-{number}" for number in range(4)]


def proposed(count: int, columns: int = SIZE // 2, confidence: float = 0.9) -> Proposed:
    """Masks of the left columns for so many samples."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, :columns] = True
    packed = np.repeat(np.packbits(mask.reshape(1, -1), axis=1), count, axis=0)
    quality = Quality((0.9,) * count, 0.9, 0.8, 1.0, count, 3)
    return Proposed(True, "On painted masks.", quality, SIZE, packed, np.full(count, confidence, np.float32))


def masks_of(names: Sequence[str], **how: Any) -> ProposedMasks:
    places = {f"key-{name}": place for place, name in enumerate(names)}
    return ProposedMasks(proposed(len(names), **how), places, False, "painted masks")


def keep_with(version: Version, names: Sequence[str] = NAMES, **how: Any) -> None:
    path = Path(version.directory) / PROPOSED_FILE
    write_proposed(path, [f"key-{name}" for name in names], proposed(len(names), **how))


def set_policy(backend: Backend, **policy: Any) -> None:
    with backend.store.begin() as session:
        session.get_one(Dataset, 1).policy = {"budget": 1.0, "control_share": 0, **policy}


def pushed(backend: Backend, dataset: Dataset) -> int:
    with backend.store.begin() as session:
        round_ = lifecycle.open_round(session, session.get_one(Dataset, dataset.id))
    push_round(backend, round_.id)
    return round_.id


@pytest.fixture
def version(backend: Backend, dataset: Dataset) -> Version:
    """The champion, which was trained with proposed masks; nothing is pushed yet."""
    version = make_version(backend, dataset, wrong=NAMES)
    make_project(backend, dataset)
    keep_with(version)
    set_policy(backend)
    return version


def project_of(backend: Backend) -> Project:
    with backend.store.begin() as session:
        return session.scalars(select(Project)).one()


def rows(backend: Backend) -> list[Proposal]:
    with backend.store.begin() as session:
        return list(session.scalars(select(Proposal).order_by(Proposal.id)))


def answers(backend: Backend) -> list[tuple[str, str | None, float | None]]:
    with backend.store.begin() as session:
        found = session.scalars(select(Annotation).order_by(Annotation.label_studio_id))
        return [(each.answer, each.outcome, each.proposal_dice) for each in found]


def test_tasks_are_pushed_with_the_masks_that_the_version_was_trained_with(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    assert len(label_studio.predictions) == 4
    assert label_studio.shown == {PROJECT: {"show_collab_predictions": True, "model_version": version.name}}
    for prediction in label_studio.predictions.values():
        assert (prediction["score"], prediction["model_version"]) == (0.9, version.name)
        mask = annotation_mask(prediction["result"], MAPPING.labels, WIDTH, HEIGHT)
        assert (mask == LEFT).all()


def test_a_push_works_each_mask_out_once(
    backend: Backend, dataset: Dataset, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out: list[str] = []
    of = ProposedMasks.of
    monkeypatch.setattr(
        ProposedMasks, "of", lambda self, sample: (worked_out.append(sample.name), of(self, sample))[1]
    )
    pushed(backend, dataset)
    assert sorted(worked_out) == NAMES


@pytest.mark.parametrize(
    ("policy", "how"),
    [({"proposals": False}, {}), ({}, {"confidence": 0.4}), ({}, {"columns": 0}), ({}, {"columns": SIZE})],
)
def test_nothing_is_proposed_where_that_was_not_wished_or_nothing_is_known(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version, policy: Any, how: Any
) -> None:
    set_policy(backend, **policy)
    keep_with(version, **how)
    pushed(backend, dataset)
    assert (label_studio.predictions, label_studio.shown, rows(backend)) == ({}, {}, [])


def test_a_teams_project_gets_proposals_only_if_it_takes_predictions_and_has_a_brush(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    with backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = {}
    pushed(backend, dataset)
    assert (label_studio.predictions, label_studio.shown) == ({}, {})

    with backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = {"ml_backend": {}}
    project, masks = project_of(backend), masks_of(NAMES)
    boxes = MAPPING.__class__("image", "image", MAPPING.labels)
    assert refresh_proposals(backend, project, boxes, masks) == 0
    assert refresh_proposals(backend, project, MAPPING, masks) == 4
    assert len(label_studio.predictions) == 4
    assert label_studio.shown == {}  # its settings are its team's


def test_the_control_group_is_drawn_by_chance_and_always_the_same() -> None:
    keys = [f"key-{number}" for number in range(2000)]
    drawn = {key for key in keys if in_control_group(key, 1, 0.1)}
    assert drawn == {key for key in keys if in_control_group(key, 1, 0.1)}
    assert 150 < len(drawn) < 250
    assert drawn != {key for key in keys if in_control_group(key, 2, 0.1)}
    assert drawn < {key for key in keys if in_control_group(key, 1, 0.3)}
    assert not any(in_control_group(key, 1, 0) for key in keys)


def test_the_control_group_sees_no_mask_and_is_compared(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    set_policy(backend, control_share=1)
    pushed(backend, dataset)
    assert label_studio.predictions == {}
    assert [row.shown for row in rows(backend)] == [False] * 4
    task = min(label_studio.tasks_there)
    sync_annotation(backend, project_of(backend), label_studio.annotate(task, region(mask_of(0, 1))))
    assert answers(backend) == [("blackout", "control", pytest.approx(2 * 2 / (2 + 4)))]
    told = status(backend)["datasets"][0]["proposals"]["told"]
    assert "0.67 (1 answers) in the control group" in told[1]


def test_what_becomes_of_a_proposal_is_told(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    first, second, third, fourth = sorted(label_studio.tasks_there)
    label_studio.accept(first)
    label_studio.accept(second, region(mask_of(0, 1, 2)))
    label_studio.accept(third, chosen("nothing_to_black_out"))
    label_studio.annotate(fourth, region(mask_of(7)))
    reconcile(backend, project_of(backend))
    assert answers(backend) == [
        ("blackout", "accepted", 1.0),
        ("blackout", "corrected", pytest.approx(6 / 7)),
        ("nothing", "rejected", 0.0),
        ("blackout", "painted", 0.0),
    ]
    with backend.store.begin() as session:
        sample = audit.find_sample(session, session.get_one(Dataset, 1), "key-train-0")
        assert audit.history(session, session.get_one(Dataset, 1), sample)[-1]["proposal"] == "accepted"
        figures = proposal_figures(session.scalars(select(Annotation)))
    assert figures is not None
    assert figures.sentences[0] == (
        "4 answers to tasks with a proposed mask: 1 accepted as proposed, 1 corrected, 1 rejected, 1 painted "
        "without it."
    )


def test_a_skipped_task_has_no_outcome(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    number = label_studio.accept(min(label_studio.tasks_there))
    label_studio.update(number, was_cancelled=True)
    reconcile(backend, project_of(backend))
    assert answers(backend) == [("skipped", None, None)]


def test_an_annotation_made_of_a_prediction_in_bulk_counts_when_somebody_has_looked_at_it(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    number = label_studio.accept(min(label_studio.tasks_there))
    label_studio.update(number, lead_time=None)
    reconcile(backend, project_of(backend))
    assert answers(backend) == [("set_aside", None, None)]
    label_studio.update(number, lead_time=3.0)
    reconcile(backend, project_of(backend))
    assert answers(backend) == [("blackout", "accepted", 1.0)]


def test_proposals_are_replaced_where_nobody_has_answered_and_not_piled_up(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    label_studio.predict(max(label_studio.tasks_there), {"result": [], "model_version": "somebody else's"})
    answered = label_studio.accept(min(label_studio.tasks_there))
    before = deepcopy(label_studio.predictions)
    kept = label_studio.annotations[answered]["parent_prediction"]
    wider = masks_of(NAMES, columns=SIZE * 3 // 4)
    assert refresh_proposals(backend, project_of(backend), MAPPING, wider) == 3
    assert label_studio.predictions.keys() == before.keys()  # an open editor names the one that it shows
    changed = {number for number in before if label_studio.predictions[number] != before[number]}
    assert changed == before.keys() - {kept, 5}
    assert refresh_proposals(backend, project_of(backend), MAPPING, wider) == 0
    # The one that the editor had shown before was accepted all the same.
    label_studio.annotate(max(label_studio.tasks_there), before[4]["result"])
    label_studio.update(max(label_studio.annotations), parent_prediction=4, lead_time=1.0)
    reconcile(backend, project_of(backend))
    assert [outcome for _, outcome, _ in answers(backend)] == ["accepted", "accepted"]


def test_what_an_interrupted_refresh_has_left_out_the_next_one_does(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    (Path(version.directory) / PROPOSED_FILE).unlink()
    pushed(backend, dataset)
    request = label_studio.request

    def dying(method: str, path: str, **more: Any) -> Any:
        if path.endswith("/import/predictions"):
            request(method, path, **more)
            raise KeyboardInterrupt
        return request(method, path, **more)

    label_studio.request = dying  # type: ignore[method-assign]
    masks = masks_of(NAMES)
    with pytest.raises(KeyboardInterrupt):
        refresh_proposals(backend, project_of(backend), MAPPING, masks)
    label_studio.request = request  # type: ignore[method-assign]
    assert refresh_proposals(backend, project_of(backend), MAPPING, masks) == 4
    assert (len(label_studio.predictions), len(rows(backend))) == (4, 4)


def test_masks_come_out_of_predict_and_nobody_waits_for_a_network(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    service = PredictionService(backend)
    odd = [{"id": number, "data": next(label_studio.tasks(PROJECT))["data"]} for number in ("x", 2**70)]
    tasks = [*label_studio.tasks(PROJECT), *odd]
    found = service.predict(PROJECT, tasks)
    assert found[:4] == [
        {name: prediction[name] for name in ("result", "score", "model_version")}
        for prediction in label_studio.predictions.values()
    ]
    assert found[4:] == [{"result": [], "model_version": version.name}] * 2
    set_policy(backend, proposals=False)
    assert service.predict(PROJECT, tasks)[0]["result"] == []


def test_masks_painted_outside_are_proposed_so(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    (Path(version.directory) / PROPOSED_FILE).unlink()
    pushed(backend, dataset)
    masks = masks_of(NAMES)
    outside = ProposedMasks(masks.proposed, masks.places, True, "painted masks")
    refresh_proposals(backend, project_of(backend), MAPPING, outside)
    [item] = label_studio.predictions[1]["result"]
    assert item["value"]["brushlabels"] == ["Relevant"]
    label_studio.accept(label_studio.predictions[1]["task"])
    reconcile(backend, project_of(backend))
    assert answers(backend) == [("blackout", "accepted", 1.0)]


@pytest.mark.parametrize(("groups", "step"), [(0, None), (5, None), (6, 0), (7, 0), (8, 1), (10, 1), (11, 2)])
def test_masks_are_learned_again_when_a_third_more_is_painted(groups: int, step: int | None) -> None:
    assert renewal_step(groups) == step


def test_an_open_round_learns_from_what_was_painted_in_it(
    open_round: OpenRound, queues: FakeQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, label_studio = open_round.backend, open_round.label_studio
    set_policy(backend)
    monkeypatch.setattr(renewal, "FEWEST_GROUPS", 2)
    asked = []

    def learn(_backend: Backend, _dataset: Dataset, wanted: set[str], name: str) -> ProposedMasks:
        asked.append((wanted, name))
        return masks_of(NAMES)

    monkeypatch.setattr(renewal, "learned_masks", learn)
    for task in open_round.tasks[:2]:
        enqueue_due_renewals(backend, queues, 1)  # type: ignore[arg-type]
        assert queues.enqueued == []
        sync_annotation(backend, open_round.project, label_studio.annotate(task, region(mask_of(1))))
    for _ in range(2):
        enqueue_due_renewals(backend, queues, 1)  # type: ignore[arg-type]
    assert queues.enqueued == [("propose_masks", (open_round.id, 0))]
    assert renew_proposals(backend, open_round.id, 0) == 2
    assert asked == [({"key-train-2", "key-train-3"}, f"round-{open_round.id}")]
    assert {each["task"] for each in label_studio.predictions.values()} == set(open_round.tasks[2:])
    sync_annotation(
        backend, open_round.project, label_studio.annotate(open_round.tasks[2], region(mask_of(1)))
    )
    assert renew_proposals(backend, open_round.id, 0) == 0  # a later step is due
    assert len(asked) == 1


def test_masks_as_exact_as_painted_are_learned_as_soon_as_a_round_is_pushed(
    open_round: OpenRound, queues: FakeQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "FEWEST_GROUPS", 2)
    steps.use(open_round.backend, queues)  # type: ignore[arg-type]
    push_tasks = steps.push_tasks.__wrapped__  # the step itself, without DBOS
    for painted in range(3):
        assert push_tasks(open_round.id) == len(open_round.tasks)
        assert queues.enqueued == ([("propose_masks", (open_round.id, 0))] if painted == 2 else [])
        task = open_round.tasks[painted]
        answer = open_round.label_studio.annotate(task, region(mask_of(1)))
        sync_annotation(open_round.backend, open_round.project, answer)


def test_a_push_by_hand_has_them_learned_too(
    open_round: OpenRound, imil: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "FEWEST_GROUPS", 2)
    monkeypatch.setattr(push, "open_backend", lambda _: nullcontext(open_round.backend))
    prepare(open_round.backend)
    for task in open_round.tasks[:2]:
        answer = open_round.label_studio.annotate(task, region(mask_of(1)))
        sync_annotation(open_round.backend, open_round.project, answer)
    for _ in range(2):
        pushed = imil("push")
        assert pushed.exit_code == 0, pushed.output
    with closing(WorkflowQueues(open_round.backend)) as queues:
        assert queues.status(f"propose-round-{open_round.id}-0") == "ENQUEUED"


def test_the_latest_version_that_has_masks_proposes_them(backend: Backend, dataset: Dataset) -> None:
    versions = [make_version(backend, dataset, name=f"v{number}") for number in range(3)]
    keep_with(versions[0])
    keep_with(versions[1])
    with backend.store.begin() as session:
        found = kept_masks(session, session.get_one(Dataset, 1))
        assert found is not None
        assert found.source == "version v1"
        sample = session.scalars(select(Sample).where(Sample.name == "train-1")).one()
        other = session.scalars(select(Sample).where(Sample.name == "train-7")).one()
        mask, confidence = found.of(sample) or (None, None)
        assert (mask == LEFT).all()
        assert confidence == pytest.approx(0.9)
        assert found.of(other) is None


def test_masks_that_were_proposed_are_kept(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    with backend.store.begin() as session:
        assert {row.mask_sha256 for row in rows(backend)} <= needed_masks(backend, session)
        assert session.scalars(select(Task)).all()


def regions_shown(label_studio: FakeLabelStudio) -> dict[int, int]:
    """How many regions each task begins with."""
    return {each["task"]: len(each["result"]) for each in label_studio.predictions.values()}


def test_switched_off_in_an_open_round_open_tasks_show_none_and_answers_stay_as_they_are(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version
) -> None:
    pushed(backend, dataset)
    first, second, third, fourth = sorted(label_studio.tasks_there)
    label_studio.accept(first)
    begun = deepcopy(label_studio.predictions)  # of an editor that is open meanwhile
    set_policy(backend, proposals=False)
    pushed(backend, dataset)
    assert regions_shown(label_studio) == {first: 1, second: 0, third: 0, fourth: 0}
    label_studio.asked.clear()
    pushed(backend, dataset)
    assert label_studio.asked == []
    [own] = [each for each in begun.values() if each["task"] == second]
    result = [{**item, "origin": "prediction"} for item in own["result"]]
    label_studio.update(label_studio.annotate(second, result), parent_prediction=own["id"], lead_time=2.0)
    label_studio.annotate(third, region(mask_of(0, 1, 2, 3)))
    reconcile(backend, project_of(backend))
    assert [outcome for _, outcome, _ in answers(backend)] == ["accepted", "accepted", "painted"]
    set_policy(backend)
    pushed(backend, dataset)
    assert regions_shown(label_studio) == {first: 1, second: 0, third: 0, fourth: 1}


def why(backend: Backend) -> str | None:
    [told] = status(backend)["datasets"]
    return told["nothing_proposed"]  # type: ignore[no-any-return]


def test_the_status_says_why_nothing_is_proposed(
    backend: Backend, label_studio: FakeLabelStudio, dataset: Dataset, version: Version, tmp_path: Path
) -> None:
    assert why(backend) is None  # nothing is asked
    set_policy(backend, proposals=False)
    pushed(backend, dataset)
    assert "switched off" in (why(backend) or "")
    set_policy(backend)
    assert "images of 0 groups (patients) are painted, and at least 6 are needed" in (why(backend) or "")


def test_the_status_tells_what_the_mask_networks_said_that_learned_last(
    backend: Backend,
    label_studio: FakeLabelStudio,
    dataset: Dataset,
    version: Version,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    set_policy(backend, proposals=False)
    pushed(backend, dataset)
    set_policy(backend)
    monkeypatch.setattr(reasons, "painted_groups", lambda *_: 6)
    path = tmp_path / PROPOSED_FILE
    refused = replace(proposed(0), usable=False, reason="No masks are proposed: too far apart.")
    write_proposed(path, [], refused)
    reasons.note_reason(backend, dataset.id, path)
    assert why(backend) == "No masks are proposed: too far apart."
    write_proposed(path, ["key-train-0"], proposed(1))
    reasons.note_reason(backend, dataset.id, path)
    assert "the worker has not learned them" in (why(backend) or "")

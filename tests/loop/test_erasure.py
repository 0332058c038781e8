"""`imil erase`: after it no byte of a patient is found, whenever it was killed; the rest is as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from erasure_scene import PATIENT, UNPACKED, erased, fill_cache, make_scene, patient, traces, where
from loop_fakes import (
    HEIGHT,
    WIDTH,
    FakeLabelStudio,
    OpenRound,
    mask_of,
    on_both_databases,
    region,
)
from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError
from typer.testing import Result

from imil_backend.errors import NotFoundError, RoundError, StoreError
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, EvidenceFile
from imil_backend.learning.contract.proposed import (
    PROPOSED_FILE,
    read_proposed,
)
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import (
    LOCK_FILE,
    MINING_FILE,
    PREDICTIONS_FILE,
    SHORTCUT_FILE,
    read_json,
    read_samples,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import mask_path
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import locked
from imil_backend.loop.base.states import FAILED, TRAINING, Purpose
from imil_backend.loop.comparing.runs import COMPARE, Runs
from imil_backend.loop.erasure import erasing
from imil_backend.loop.erasure.annotators import find_annotator, forget_annotator
from imil_backend.loop.erasure.erasing import Outcome, finish_erasures, preview
from imil_backend.loop.erasure.subject import subject_of_group, subject_of_sample
from imil_backend.loop.erasure.sweeping import copies_of_everything
from imil_backend.loop.erasure.tidying import tidy
from imil_backend.loop.views.status import status
from imil_backend.store.tables import (
    Annotation,
    Annotator,
    AuditEntry,
    Dataset,
    Erasure,
    Round,
    Sample,
    SetAside,
    Task,
)


@pytest.fixture
def scene(open_round: OpenRound) -> OpenRound:
    return make_scene(open_round)


@on_both_databases
def test_no_byte_of_a_patient_is_left_and_the_others_are_as_they_were(scene: OpenRound) -> None:
    backend, label_studio = scene.backend, scene.label_studio
    wanted = traces(scene)
    places = {place for place, _ in where(scene, wanted)}
    for part in (f"{UNPACKED}/index.csv", "cache/8px_1ch/pixels.u8", "versions/candidate/samples.json"):
        assert part in places  # the test can fail
    team = backend.directory.parent / "team" / f"{PATIENT}.png"
    images = {task: data["data"]["image"] for task, data in label_studio.tasks_there.items()}
    gone, *others = scene.tasks
    findings, outcome = erased(scene)
    assert (outcome.problem, outcome.tasks, outcome.still_found) == (None, 1, ())
    assert outcome.uploads == (images[gone].removeprefix("/data/"),)
    assert where(scene, wanted) == []
    assert (findings.trained, findings.measured) == (("baseline", "candidate"), ())
    assert findings.outside == (str(team),)
    assert team.exists()
    assert [backup.partition(" ")[0] for backup in findings.backups] == ["/backups/imil.tar"]
    assert set(label_studio.tasks_there) == set(others)
    assert set(label_studio.images) == {images[task] for task in others}
    with backend.store.begin() as session:
        assert len(session.scalars(select(Sample)).all()) == 12
        kept = session.scalars(select(Annotation)).all()
        assert [each.sample.name for each in kept] == ["train-1", "train-2", "train-3"]
        assert all(mask_path(backend, str(each.mask_sha256)).exists() for each in kept)
        assert session.scalars(select(SetAside.reference)).all() == ["other"]
        assert session.scalars(select(Erasure)).all() == []
    directory = backend.directory / "versions" / "candidate"
    assert len(read_samples(directory)) == 12
    assert len(read_json(directory / MINING_FILE)) == 7
    predicted = read_json(directory / PREDICTIONS_FILE)["validation"]
    assert {len(values) for values in predicted.values()} == {3}
    assert len(read_json(directory / SHORTCUT_FILE)["candidate"]["any_class"]) == 3
    assert read_proposed(directory / PROPOSED_FILE)[0] == ("key-train-1",)
    assert EvidenceFile(directory / EVIDENCE_FILE).split("train").keys == ("key-train-1",)
    (run,) = Runs(backend.directory / COMPARE / "one")
    assert (run.test.keys, run.test.groups, run.test.contradicting) == (
        ("key-train-1",),
        ("other",),
        frozenset(),
    )
    assert (directory / "training.log").read_text() == "fine\n"
    assert (backend.directory / UNPACKED / "index.csv").read_text() == "image,label\nimages/x.png,normal\n"
    assert PATIENT not in (directory / "report" / "report.md").read_text()


def test_a_dry_run_tells_the_same_and_changes_nothing(scene: OpenRound) -> None:
    wanted = traces(scene)
    before = where(scene, wanted)
    _, findings = preview(scene.backend, patient(scene))
    assert where(scene, wanted) == before
    assert len(scene.label_studio.tasks_there) == 4
    assert erased(scene)[0] == findings


@pytest.fixture
def interrupted(scene: OpenRound, monkeypatch: pytest.MonkeyPatch) -> OpenRound:
    """With an erasure that was killed when the rows had gone, and nothing else."""

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(erasing, "sweep", Mock(side_effect=Killed))
        erased(scene)
    return scene


def test_an_interrupted_erasure_is_told_and_finished_once(interrupted: OpenRound) -> None:
    assert status(interrupted.backend)["unfinished_erasures"] == ["It was interrupted."]
    assert [outcome.problem for outcome in finish_erasures(interrupted.backend)] == [None]
    assert finish_erasures(interrupted.backend) == []


def test_the_same_command_finishes_an_interrupted_erasure(
    interrupted: OpenRound, imil: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backend, "label_studio", interrupted.label_studio)
    command = ("erase", "--group", PATIENT, "--reason", "request no. 12")
    assert "no group" in imil(*command, "--dry-run").output
    result = imil(*command)
    assert (result.exit_code, finish_erasures(interrupted.backend)) == (0, [])
    assert "interrupted is finished now" in result.output
    assert "Nothing more was erased: Dataset 'films' has no group" in result.output
    assert imil(*command).exit_code == 1


def test_where_label_studio_is_down_it_says_so_and_goes_on_later(scene: OpenRound) -> None:
    wanted, label_studio = traces(scene), scene.label_studio
    task, number = scene.tasks[0], 1
    label_studio.down = True
    _, outcome = erased(scene)
    assert outcome.problem is not None
    assert "does not answer" in outcome.problem
    assert {what for what in where(scene, wanted) if what[0].startswith("versions")} == set()
    assert status(scene.backend)["unfinished_erasures"] == [outcome.problem]
    label_studio.down = False
    assert sync_annotation(scene.backend, scene.project, number) == "not ours"  # its key is not noted anew
    fill_cache(scene.backend)
    (outcome,) = finish_erasures(scene.backend)
    assert (outcome.problem, outcome.tasks) == (None, 1)
    assert task not in label_studio.tasks_there
    assert (scene.backend.cache / "8px_1ch").exists()  # what was done is not done again
    assert where(scene, wanted) == []


def test_it_is_refused_while_something_trains_pushes_or_copies(scene: OpenRound) -> None:
    backend = scene.backend
    with locked(backend, "push", scene.id), pytest.raises(RoundError, match="being pushed"):
        erased(scene)
    comparing = only_training_in(backend.path(COMPARE, "one", LOCK_FILE))
    with comparing, pytest.raises(RoundError, match="The comparison 'one' is under way"):
        erased(scene)
    with locked(backend, "cleanup"), pytest.raises(StoreError, match="backup is under way"):
        erased(scene)
    with backend.store.begin() as session:
        session.get_one(Round, scene.id).state = TRAINING
    with pytest.raises(RoundError, match="Round 1 is being trained"):
        erased(scene)
    assert where(scene, {"group": PATIENT.encode()})


def test_a_training_that_failed_begins_anew_without_the_patient(scene: OpenRound) -> None:
    directory = scene.backend.directory / "versions" / "films-round2"
    shutil.copytree(Path(scene.version.directory), directory)
    with scene.backend.store.begin() as session:
        failed = Round(
            dataset_id=scene.dataset.id, number=2, state=FAILED, version_name="films-round2",
            mined_version_id=scene.version.id, error=f"{PATIENT} cannot be read.",
        )  # fmt: skip
        session.add(failed)
    erased(scene)
    assert not directory.exists()
    with scene.backend.store.begin() as session:
        assert session.get_one(Round, failed.id).error == "What went wrong named something that was erased."


def test_copies_of_an_image_go_with_it_and_a_group_elsewhere_is_told(scene: OpenRound) -> None:
    with scene.backend.store.begin() as session:
        other = Dataset(name="other", classes=["a", "b"])
        session.add(other)
        session.flush()
        original = session.scalars(select(Sample).where(Sample.key == "key-train-0")).one()
        for key, sha256 in (("copy", original.sha256), ("another", "0" * 64)):
            session.add(
                Sample(
                    dataset_id=other.id,
                    key=key,
                    name=key,
                    path="/team/x.png",
                    sha256=sha256,
                    width=WIDTH,
                    height=HEIGHT,
                    channels=1,
                    shown_as_is=True,
                    label="a",
                    split="test",
                    group=PATIENT,
                )
            )
    findings, _ = erased(scene)
    assert (len(findings.samples), findings.copies, findings.elsewhere) == (3, 1, ("other",))
    with scene.backend.store.begin() as session:
        assert session.scalars(select(Sample.key).where(Sample.group == PATIENT)).all() == ["another"]


def test_a_patients_review_and_gold_task_go_with_their_answers(scene: OpenRound) -> None:
    backend, label_studio = scene.backend, scene.label_studio
    first, *others = scene.tasks
    data = label_studio.tasks_there[first]["data"]
    with backend.store.begin() as session:
        asked = session.scalars(select(Task).where(Task.label_studio_id == first)).one()
        names = ("project_id", "round_id", "sample_id", "rank")
        for column, purpose in enumerate((Purpose.REVIEW, Purpose.GOLD), start=5):
            [number] = label_studio.import_tasks(3, [{"data": data}])
            values = {name: getattr(asked, name) for name in names}
            session.add(Task(**values, label_studio_id=number, purpose=purpose.value))
            label_studio.annotate(number, region(mask_of(column)), by=8)
    reconcile(backend, scene.project)
    wanted = traces(scene)
    assert sum(name.startswith("pixels of mask") for name in wanted) == 4  # three answers and a proposal
    _, outcome = erased(scene)
    assert (outcome.problem, outcome.tasks, outcome.still_found) == (None, 3, ())
    assert where(scene, wanted) == []
    assert set(label_studio.tasks_there) == set(others)


def test_a_mask_that_another_sample_has_too_stays(scene: OpenRound) -> None:
    label_studio = scene.label_studio
    label_studio.update(2, result=region(mask_of(0, 1)))  # as train-0 was painted
    reconcile(scene.backend, scene.project)
    erased(scene)
    with scene.backend.store.begin() as session:
        kept = session.scalars(select(Annotation).order_by(Annotation.id)).all()
    assert mask_path(scene.backend, str(kept[0].mask_sha256)).exists()


def test_what_is_not_there_is_told(scene: OpenRound) -> None:
    with scene.backend.store.begin() as session:
        dataset = session.get_one(Dataset, scene.dataset.id)
        with pytest.raises(NotFoundError, match="no group 'nobody'"):
            subject_of_group(scene.backend, session, dataset, "nobody")
        with pytest.raises(NotFoundError, match="'nobody'"):
            subject_of_sample(session, dataset, "nobody")


@on_both_databases
def test_the_audit_trail_tells_that_something_was_erased_and_not_what(scene: OpenRound) -> None:
    with scene.backend.store.begin() as session:
        before = len(session.scalars(select(AuditEntry)).all())
    erased(scene)
    with scene.backend.store.begin() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
        told = audit.history(session, session.get_one(Dataset, scene.dataset.id))
    assert len(entries) == before + 1
    assert entries[-1].details == {
        "by": "ann", "reason": "the patient has asked for it", "what": "samples", "count": 2,
        "trained": ["baseline", "candidate"],
    }  # fmt: skip
    assert [each.event for each in entries if not each.details and each.event != "promoted"] == ["answered"]
    assert [each["event"] for each in told][-2:] == ["backed up", "erased"]
    assert "answered" not in {each["event"] for each in told}


@pytest.mark.external
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresqls_statistics_forget_a_table_that_became_empty(backend: Backend, dataset: Dataset) -> None:
    statistics = text(
        "SELECT histogram_bounds::text FROM pg_stats WHERE (tablename, attname) = (:table, :column)"
    )
    with backend.store.begin() as session:
        session.add_all(
            [
                SetAside(dataset_id=dataset.id, kind="image", reference=f"{PATIENT} {n}", reason="r")
                for n in (1, 2)
            ]
        )
        session.flush()
        session.execute(text("ANALYZE"))
        asked = {"table": SetAside.__tablename__, "column": "reference"}
        assert PATIENT in session.scalars(statistics, asked).one()
        session.execute(delete(SetAside))
    tidy(backend)
    with backend.store.begin() as session:
        assert session.scalars(statistics, asked).all() == []


CHANGES = ("SET details = '{}', sample_id = NULL", "SET details = '{}', sample_id = NULL, event = 'x'")


@on_both_databases
@pytest.mark.parametrize(
    ("pending", "change", "allowed"),
    [
        (False, CHANGES[0], False),
        (True, CHANGES[0], True),
        (True, CHANGES[1], False),
        (True, "SET details = '[]'", False),
    ],
)
def test_an_erasure_alone_may_blank_entries_and_change_nothing_else(
    open_round: OpenRound, pending: bool, change: str, allowed: bool
) -> None:
    with open_round.backend.store.begin() as session:
        audit.note(session, open_round.dataset.id, audit.PROMOTED, by="ann")
        if pending:
            session.add(Erasure(plan={}))
    refused: Any = pytest.raises((IntegrityError, StoreError), match="only ever added to")
    with open_round.backend.store.begin() as session:
        if allowed:
            session.execute(text(f"UPDATE audit {change}"))
            return
    with refused, open_round.backend.store.begin() as session:
        session.execute(text(f"UPDATE audit {change}"))


@pytest.fixture
def user(scene: OpenRound) -> Iterator[Annotator]:
    yield find_annotator(scene.backend, "Bob@example.org")


def test_an_annotator_is_forgotten_by_one_row_and_the_answers_stay(scene: OpenRound, user: Annotator) -> None:
    backend: Backend = scene.backend
    label_studio: FakeLabelStudio = scene.label_studio
    assert user.label_studio_id == 7
    assert forget_annotator(backend, user, "ann", "has left") == Outcome()
    with backend.store.begin() as session:
        assert session.scalars(select(Annotator)).all() == []
    reconcile(backend, scene.project, full=True)
    assert {(each.annotator, each.user) for each in scene.annotations} == {(user.key, None)}
    with pytest.raises(NotFoundError, match="'7'"):
        find_annotator(backend, "7")
    label_studio.annotate(scene.tasks[1], region(mask_of(3)), by=7)
    reconcile(backend, scene.project)
    assert scene.annotations[-1].annotator not in {user.key, None}  # somebody new
    with backend.store.begin() as session:
        entry = audit.latest(session, scene.dataset.id, audit.ERASED)
    assert entry is not None
    assert entry.details == {"by": "ann", "reason": "has left", "what": "annotator"}


def test_copies_that_say_who_an_annotator_is_go_and_backups_are_told(
    scene: OpenRound, imil: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backend, "label_studio", scene.label_studio)
    directory = scene.backend.directory
    for name in ("imil.sqlite.before-0009", "postgresql.before-0009.dump", ".before-restore-1/imil.sqlite"):
        scene.backend.path(name).write_bytes(b"7")
    with scene.backend.store.begin() as session:
        before = datetime(2020, 1, 1, tzinfo=timezone.utc)
        early = {"event": audit.BACKED_UP, "details": {"file": "/backups/early.tar"}, "at": before}
        session.add(AuditEntry(dataset_id=scene.dataset.id, **early))
    told = imil("erase", "--annotator", "bob@example.org", "--dry-run").output
    assert ("/backups/imil.tar" in told, "/backups/early.tar" in told) == (True, False)
    assert len(copies_of_everything(directory)) == 4
    done = imil("erase", "--annotator", "bob@example.org", "--reason", "has left", "--json")
    assert [each.partition(" ")[0] for each in json.loads(done.output)["backups"]] == ["/backups/imil.tar"]
    assert copies_of_everything(directory) == []


def test_reports_of_earlier_releases_do_not_name_a_forgotten_annotator(
    scene: OpenRound, user: Annotator
) -> None:
    report = scene.backend.directory / "versions" / "candidate" / "report" / "report.md"
    report.write_text("annotator 7: blackout; annotator 77: nothing")
    partial(forget_annotator, scene.backend, user, "ann", "has left")()
    assert report.read_text() == f"annotator {user.key}: blackout; annotator 77: nothing"

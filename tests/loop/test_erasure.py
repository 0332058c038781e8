"""`imil erase`: after it no byte of a patient is found, whenever it was killed; the rest is as it was."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_fakes import (
    HEIGHT,
    WIDTH,
    FakeLabelStudio,
    OpenRound,
    make_version,
    mask_of,
    on_both_databases,
    region,
    shortcut_results,
    write_image,
)
from PIL import Image
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError, RoundError, StoreError
from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, Evidence, EvidenceFile, write_evidence
from imil_backend.learning.contract.proposed import (
    PROPOSED_FILE,
    Proposed,
    Quality,
    read_proposed,
    write_proposed,
)
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import (
    LOCK_FILE,
    MINING_FILE,
    PREDICTIONS_FILE,
    SHORTCUT_FILE,
    read_json,
    read_samples,
    write_json,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import mask_path, save_mask
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import locked
from imil_backend.loop.base.states import CLOSED, FAILED, TRAINING
from imil_backend.loop.comparing.runs import COMPARE, WORK, Predictions, Run, Runs, Setting
from imil_backend.loop.dashboard.samples.thumbnails import thumbnail
from imil_backend.loop.erasure import erasing
from imil_backend.loop.erasure.annotators import find_annotator, forget_annotator
from imil_backend.loop.erasure.erasing import Outcome, erase, finish_erasures, preview
from imil_backend.loop.erasure.plan import Findings
from imil_backend.loop.erasure.subject import Subject, subject_of_group, subject_of_sample
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.views.status import status
from imil_backend.store.tables import (
    Annotation,
    Annotator,
    AuditEntry,
    Base,
    Dataset,
    Erasure,
    Proposal,
    Round,
    Sample,
    SetAside,
)

PATIENT = "patient-0815"  # group, name and more of what is erased
UNPACKED = "datasets/0123456789abcdef"


class Killed(BaseException):
    """Stands for kill -9: nothing after it is done."""


@pytest.fixture
def scene(open_round: OpenRound) -> OpenRound:
    """A closed round whose first two samples are a patient's, with traces of them everywhere."""
    backend, label_studio = open_round.backend, open_round.label_studio
    prepare(backend)
    _make_patient(open_round)
    for place, task in enumerate(open_round.tasks):
        data = label_studio.tasks_there[task]["data"]
        data["image"] = label_studio.upload_images(3, [(f"{data['imil_sample']}.png", b"image")])[0]
        label_studio.annotate(task, region(mask_of(place, place + 1)), by=7)
    reconcile(backend, open_round.project)
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        version = make_version(backend, dataset, "candidate", baseline=open_round.version, champion=False)
        round_ = session.get_one(Round, open_round.id)
        round_.state, round_.version_id = CLOSED, version.id
        round_.verdict = {"verdict": "reject", "reason": "It is worse."}
        session.add(SetAside(dataset_id=dataset.id, kind="training", reference=PATIENT, reason="r"))
        session.add(
            Proposal(
                task_id=1, mask_sha256=save_mask(backend, mask_of(7)), outside=False, confidence=0.9,
                shown=True, version="v", source="s",
            )
        )  # fmt: skip
        session.add(SetAside(dataset_id=dataset.id, kind="image", reference="other", reason="r"))
        audit.note(session, dataset.id, audit.BACKED_UP, file="/backups/imil.tar")
    directory = Path(version.directory)
    write_json(directory / SHORTCUT_FILE, shortcut_results("baseline", [1.0] * 4, [0.5] * 4))
    nothing = Proposed(
        False, "No good.", Quality((0.1,), 0.1, 0.0, 0.2, 3, 3), 96, np.zeros((0, 1152), np.uint8), np.ones(0)
    )
    write_proposed(directory / PROPOSED_FILE, ["key-train-0", "key-train-1"], nothing)
    write_evidence(directory / EVIDENCE_FILE, {"train": _evidence("key-train-0", "key-train-1")})
    (directory / "training.log").write_text(f"fine\n{PATIENT}: slow\n")
    write_report(backend, open_round.id)
    _compare(backend)
    _fill_cache(backend)
    thumbnail(backend, dataset.id, "key-train-0")
    shutil.copy(backend.directory / "imil.sqlite", backend.directory / "imil.sqlite.before-0001") if (
        backend.directory / "imil.sqlite"
    ).exists() else None
    return open_round


def _compare(backend: Backend) -> None:
    """A finished run of a comparison, and one under way."""
    split = Predictions(
        ("key-train-0", "key-train-1"), np.zeros(2, np.int64), (PATIENT, "other"), np.ones((2, 2)),
        frozenset({"key-train-0"}),
    )  # fmt: skip
    run = Run(Setting("films", None, None, 0.04, "mispredicted"), "spread", 0, 1.0, 2, "0" * 64, split, split)
    directory = backend.path(COMPARE, "one", WORK).parent
    Runs(directory).add(run)
    backend.path(COMPARE, "one", WORK, "0-0", "samples.json").write_text(f'["{PATIENT}"]')


def _evidence(*keys: str) -> Evidence:
    maps = np.ones((len(keys), 2, 2), np.float16)
    return Evidence(keys, np.zeros(len(keys), np.int64), np.ones((len(keys), 2), np.float32), maps, maps)


def _make_patient(open_round: OpenRound) -> None:
    """Of train-0, in what was unpacked of a zip with a table, and of validation-0, outside of all that."""
    backend = open_round.backend
    top = backend.path(UNPACKED, "index.csv")
    inside = write_image(top.parent / "images" / f"{PATIENT}.png", seed=4711)
    top.write_text(f"image,label\nimages/{PATIENT}.png,lesion\nimages/x.png,normal\n")
    outside = write_image(backend.directory.parent / "team" / f"{PATIENT}.png", seed=4712)
    with backend.store.begin() as session:
        for name, path in (("train-0", inside), ("validation-0", outside)):
            values: dict[str, Any] = {
                "path": str(path),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "group": PATIENT,
            }
            if name == "train-0":
                values["name"] = PATIENT
            session.execute(update(Sample).where(Sample.name == name).values(values))
            (backend.directory / "originals" / f"{name}.png").unlink()
    samples = read_samples(Path(open_round.version.directory))
    changed = [
        {**vars(each), "group": PATIENT} if each.key in PATIENTS_KEYS else vars(each) for each in samples
    ]
    write_json(Path(open_round.version.directory) / "samples.json", changed)


PATIENTS_KEYS = ("key-train-0", "key-validation-0")


def _fill_cache(backend: Backend) -> None:
    with backend.store.begin() as session:
        paths = {sample.sha256: Path(sample.path) for sample in session.scalars(select(Sample))}
    cache = PixelCache(backend.cache, WIDTH, 1, max_bytes=10**6, max_pixels=10**6)
    cache.fill([CachedItem(path, sha256) for sha256, path in paths.items()])


def traces(open_round: OpenRound) -> dict[str, bytes]:
    """What the patient is told by: words, and pixels as they are in files and in the cache."""
    backend = open_round.backend
    with backend.store.begin() as session:
        samples = session.scalars(select(Sample).where(Sample.group == PATIENT)).all()
        masks = session.scalars(
            select(Annotation.mask_sha256).where(Annotation.sample_id.in_([each.id for each in samples]))
        ).all()
    found = {"group": PATIENT.encode()}
    for sample in samples:
        content = Path(sample.path).read_bytes()
        pixels = np.asarray(Image.open(sample.path))
        found |= {
            f"key {sample.key}": sample.key.encode(),
            f"hash of {sample.key}": sample.sha256.encode(),
            f"file of {sample.key}": content[41:],
            f"pixels of {sample.key}": pixels.tobytes()[:WIDTH],
        }
    with backend.store.begin() as session:
        masks = [*masks, *session.scalars(select(Proposal.mask_sha256))]
    return found | {f"mask {sha}": str(sha).encode() for sha in masks}


def where(open_round: OpenRound, wanted: dict[str, bytes]) -> list[tuple[str, str]]:
    """In which files of the data directory, or tables of PostgreSQL, which traces are."""
    backend = open_round.backend
    contents = {
        str(path.relative_to(backend.directory)): path.read_bytes() + path.name.encode()
        for path in backend.directory.rglob("*")
        if path.is_file()
    }
    if backend.store.engine.dialect.name != "sqlite":
        with backend.store.engine.connect() as connection:
            for table in Base.metadata.tables:
                rows = connection.execute(text(f"SELECT t::text FROM {table} t")).scalars()
                contents[table] = "\n".join(rows).replace('""', '"').encode()
    return [
        (name, what) for name, data in contents.items() for what, trace in wanted.items() if trace in data
    ]


def patient(open_round: OpenRound) -> Callable[[Session], Subject]:
    return lambda session: subject_of_group(
        open_round.backend, session, session.get_one(Dataset, open_round.dataset.id), PATIENT
    )


def erased(open_round: OpenRound) -> tuple[Findings, Outcome]:
    return erase(open_round.backend, patient(open_round), "ann", "the patient has asked for it")


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


STEPS = ("sweep", "remove_ended_workflows", "_write_reports", "delete_tasks_of", "still_found", "tidy")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_is_finished_by_the_next(
    scene: OpenRound, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = traces(scene)

    with monkeypatch.context() as patched:
        patched.setattr(erasing, step, _die)
        with pytest.raises(Killed):
            erased(scene)
    assert status(scene.backend)["unfinished_erasures"] == ["It was interrupted."]
    assert [outcome.problem for outcome in finish_erasures(scene.backend)] == [None]
    assert where(scene, wanted) == []
    assert finish_erasures(scene.backend) == []


def test_killed_after_ever_more_changes_of_files_it_is_finished_at_last(
    scene: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = traces(scene)
    with pytest.raises(Killed), monkeypatch.context() as patched:
        patched.setattr(erasing, "sweep", _die)
        erased(scene)
    for changes in range(1, 100):
        with monkeypatch.context() as patched:
            _die_after(patched, changes)
            try:
                finish_erasures(scene.backend)
                break
            except Killed:
                continue
    assert 3 < changes < 99  # the test can fail
    assert where(scene, wanted) == []


def _die(*_: Any) -> None:
    raise Killed


def _die_after(patched: pytest.MonkeyPatch, changes: int) -> None:
    """Let this process die when it would change one file more."""
    done = [0]

    def limited(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(path: Path, *args: Any, **kwargs: Any) -> Any:
            if done[0] == changes:
                raise Killed
            done[0] += Path(path).exists()
            return function(path, *args, **kwargs)

        return run

    for name in ("unlink", "replace", "rename"):
        patched.setattr(Path, name, limited(getattr(Path, name)))
    patched.setattr(shutil, "rmtree", limited(shutil.rmtree))


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
    _fill_cache(scene.backend)
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


def test_reports_of_earlier_releases_do_not_name_a_forgotten_annotator(
    scene: OpenRound, user: Annotator
) -> None:
    report = scene.backend.directory / "versions" / "candidate" / "report" / "report.md"
    report.write_text("annotator 7: blackout; annotator 77: nothing")
    partial(forget_annotator, scene.backend, user, "ann", "has left")()
    assert report.read_text() == f"annotator {user.key}: blackout; annotator 77: nothing"

"""A patient with traces everywhere in a data directory and its database, and where they are found."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from loop_fakes import (
    WIDTH,
    OpenRound,
    make_version,
    mask_of,
    region,
    shortcut_results,
    write_image,
)
from PIL import Image
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from imil_backend.files import unfinished
from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, Evidence, write_evidence
from imil_backend.learning.contract.proposed import (
    PROPOSED_FILE,
    Proposed,
    Quality,
    write_proposed,
)
from imil_backend.learning.contract.training_job import (
    SHORTCUT_FILE,
    read_samples,
    write_json,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import mask_path, save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.comparing.runs import COMPARE, WORK, Predictions, Run, Runs, Setting
from imil_backend.loop.dashboard.samples.thumbnails import thumbnail
from imil_backend.loop.erasure.erasing import Outcome, erase
from imil_backend.loop.erasure.plan import Findings
from imil_backend.loop.erasure.subject import Subject, subject_of_group
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds.report import write_report
from imil_backend.store.tables import (
    Annotation,
    Dataset,
    Proposal,
    Round,
    Sample,
    SetAside,
)

PATIENT = "patient-0815"  # group, name and more of what is erased
UNPACKED = "datasets/0123456789abcdef"


def make_scene(open_round: OpenRound) -> OpenRound:
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
    fill_cache(backend)
    thumbnail(backend, dataset.id, "key-train-0")
    if backend.store.engine.dialect.name != "sqlite":
        with backend.store.begin() as session:
            session.execute(text("ANALYZE"))  # as autovacuum does, which keeps values in its statistics
    mask = mask_path(backend, next(iter(backend.directory.glob("masks/*/*.png"))).stem)
    shutil.copy(mask, unfinished(mask))  # of a process that was killed
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


def fill_cache(backend: Backend) -> None:
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
    for sha256 in filter(None, masks):
        content = mask_path(backend, sha256).read_bytes()
        found |= {f"mask {sha256}": sha256.encode(), f"pixels of mask {sha256}": content}
    return found


def where(open_round: OpenRound, wanted: dict[str, bytes]) -> list[tuple[str, str]]:
    """In which files of the data directory, or tables of PostgreSQL, which traces are."""
    backend = open_round.backend
    contents = {
        str(path.relative_to(backend.directory)): path.read_bytes() + path.name.encode()
        for path in backend.directory.rglob("*")
        if path.is_file()
    }
    if backend.store.engine.dialect.name != "sqlite":
        contents |= _of_postgresql(backend.store.engine)
    return [
        (name, what) for name, data in contents.items() for what, trace in wanted.items() if trace in data
    ]


def _of_postgresql(engine: Engine) -> dict[str, bytes]:
    """Its tables, which may be compressed in its files; and its files, those of the statistics included."""
    with engine.connect() as connection:
        connection.execute(text("CHECKPOINT"))
        top = Path(str(connection.scalar(text("SHOW data_directory"))))
        paths = (
            "SELECT oid::regclass, pg_relation_filepath(oid) FROM pg_class WHERE relkind IN ('r', 'i', 't')"
        )
        files = connection.execute(text(paths)).all()
        contents = {f"file of {name}": (top / path).read_bytes() for name, path in files}
        tables = "SELECT relid::regclass::text FROM pg_stat_user_tables"
        for table in connection.scalars(text(tables)).all():
            rows = connection.scalars(text(f"SELECT t::text FROM {table} t"))
            contents[table] = "\n".join(rows).replace('""', '"').encode()
    return contents


def patient(open_round: OpenRound) -> Callable[[Session], Subject]:
    return lambda session: subject_of_group(
        open_round.backend, session, session.get_one(Dataset, open_round.dataset.id), PATIENT
    )


def erased(open_round: OpenRound) -> tuple[Findings, Outcome]:
    return erase(open_round.backend, patient(open_round), "ann", "the patient has asked for it")

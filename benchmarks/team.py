"""A team's weeks with one dataset, simulated: what `benchmarks.growth` lets grow."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.dashboard import SHARES, write_maps, write_results
from imil_backend.config import Settings
from imil_backend.learning.contract.proposed import PROPOSED_FILE, Proposed, Quality, write_proposed
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    INTERMEDIATE_FILE,
    MODEL_FILE,
    Recipe,
    Trainable,
    TrainingJob,
    write_training_job,
)
from imil_backend.loop.answers.sample_states import save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import locked
from imil_backend.loop.base.states import CANCELLED, CLOSED, OPEN, PAINTED, REVIEWED
from imil_backend.loop.dashboard.samples.thumbnails import thumbnail
from imil_backend.loop.evaluation.kept import REPORT_FOLDER, evaluate_round
from imil_backend.loop.queues.engine import SYNC_QUEUE, prepare, system_database_url
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.versions.champions import LOOP, champion_of, promote
from imil_backend.loop.versions.training_jobs import (
    baseline_of,
    directory_of,
    new_version_name,
    record_version,
    training_samples,
)
from imil_backend.store.database import Store
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, now

CLASSES = ["normal", "pneumonia"]
WIDTH, HEIGHT = 1024, 1280
SECONDS_OF_A_DAY = 24 * 3600
DAYS, ROUNDS_A_DAY, ASKED, LOOKED_AT = 7, 2, 70, 20
CANCELLED_ON, BASELINE_ON = 1, 3  # days of a week
VERDICTS = ("undecided", "reject", "promote", "undecided", "reject")  # of a round after the other
RECONCILIATIONS = 288  # a day: every five minutes

# Bytes, measured on trainings of ResNet-50 at 224 px; in caches of an image, and of its entry.
SIZES = {MODEL_FILE: 94_293_992, INTERMEDIATE_FILE: 188_471_543, CHECKPOINT_FILE: 119_907_505}
PIXELS, FEATURES, ENTRY = 224 * 224, 2 * 1024 * 14 * 14, 48
MEASURED = {"accuracy": 0.8, "balanced_accuracy": 0.8, "auc": 0.9, "loss": 0.5}
QUALITY = Quality((0.8,), 0.8, 0.7, 0.9, 60, 3)
PROPOSED_AT = 96  # pixels a side


class Team:
    """A dataset, and what a team does with it.

    Args:
        directory: an empty one.
        images: how many there are.
        share: of the measured sizes, for a trial.
    """

    def __init__(self, directory: Path, images: int, share: float) -> None:
        settings = Settings(
            _env_file=None, data_dir=directory / "data", label_studio_api_key="none", device="cpu"
        )
        self.backend = Backend(settings)
        prepare(self.backend)
        self._queues = WorkflowQueues(self.backend)
        self._share = share
        self._random = np.random.default_rng(0)
        self._splits = np.repeat([name for name, _ in SHARES], [round(each * images) for _, each in SHARES])
        self._labels = self._random.integers(0, 2, len(self._splits))
        self._keys = [f"{number:032x}" for number in range(len(self._splits))]
        self._groups = [f"patient {number // 2}" for number in range(len(self._splits))]
        self._unasked = self._random.permutation(np.flatnonzero(self._splits == "train")).tolist()
        self._rounds = 0
        self._reported: Path | None = None
        self._import(directory / "film.jpg")
        self._begin_anew("layer4")

    def work_for_a_week(self) -> None:
        """Its last day is today."""
        self._let_time_pass()
        for day in range(DAYS):
            if day == CANCELLED_ON:
                self._cancel_a_training(days_ago=DAYS - day)
            if day == BASELINE_ON:
                self._begin_anew("all")
            for _ in range(ROUNDS_A_DAY):
                self._hold_a_round(VERDICTS[self._rounds % len(VERDICTS)])
            for _ in range(RECONCILIATIONS):
                self._queues.enqueue("reconcile", SYNC_QUEUE, 1)
            self._end_workflows(days_ago=DAYS - 1 - day)

    def close(self) -> None:
        """Close the databases."""
        self._queues.close()
        self.backend.close()

    def _import(self, film: Path) -> None:
        """The images lie outside the data directory; all rows name one file."""
        shades = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 256
        Image.fromarray(shades.astype(np.uint8)).save(film)
        with self.backend.store.begin() as session:
            session.add(Dataset(name="films", classes=CLASSES, policy={}))
            session.flush()
            session.add(Project(dataset_id=1, instance="http://label-studio", label_studio_id=1))
            session.add_all(
                Sample(
                    dataset_id=1, key=key, name=f"films/{number}.jpg", path=str(film), sha256=2 * key,
                    width=WIDTH, height=HEIGHT, channels=1, shown_as_is=True, split=str(self._splits[number]),
                    label=CLASSES[self._labels[number]], group=self._groups[number],
                )
                for number, key in enumerate(self._keys)
            )  # fmt: skip

    def _begin_anew(self, trainable: Trainable) -> None:
        """Train a baseline, with another cache than the one before if other layers are trained."""
        whole = trainable == "all"
        cache = "224px_1ch" if whole else f"before-{trainable}_224px_0123456789abcdef"
        of_an_image = {"lock": 0, "index.bin": ENTRY, "rows": PIXELS if whole else FEATURES}
        for name, size in of_an_image.items():
            _allocate(self.backend.path("cache", cache, name), size * len(self._keys))
        with self.backend.store.begin() as session:
            session.get_one(Dataset, 1).recipe = asdict(Recipe(pretrained=False, trainable=trainable))
            round_ = self._begin_round(session, mined=None)
            self._train(session, round_, "promote")
        self._report(round_)

    def _hold_a_round(self, verdict: str) -> None:
        """Ask, answer, train, judge."""
        with self.backend.store.begin() as session:
            champion = champion_of(session, 1)
            assert champion is not None  # the baseline was promoted
            round_ = self._begin_round(session, mined=champion.id)
            asked, self._unasked = self._unasked[:ASKED], self._unasked[ASKED:]
            for rank, place in enumerate(asked, start=1):
                self._answer(session, round_, rank, place)
        for place in asked[:LOOKED_AT]:
            thumbnail(self.backend, 1, self._keys[place])
        with self.backend.store.begin() as session:
            self._train(session, session.get_one(Round, round_.id), verdict)
        self._report(round_)

    def _begin_round(self, session: Session, mined: int | None) -> Round:
        for kind in ("push", "round"):
            with locked(self.backend, kind, self._rounds + 1):
                pass
        self._queues.enqueue("train", SYNC_QUEUE, self._rounds + 1)
        name = new_version_name(session.get_one(Dataset, 1), self._rounds)
        round_ = Round(
            dataset_id=1, number=self._rounds, state=OPEN, mined_version_id=mined, version_name=name
        )
        session.add(round_)
        session.flush()
        self._rounds += 1
        return round_

    def _answer(self, session: Session, round_: Round, rank: int, place: int) -> None:
        """A task with its answer: two thirds are painted."""
        number = round_.id * 1000 + rank
        task = Task(project_id=1, round_id=round_.id, sample_id=place + 1, label_studio_id=number, rank=rank)
        session.add(task)
        session.flush()
        audit.note_asked(session, task)
        painted, at = rank % 3 > 0, now()
        answer = Annotation(
            project_id=1, label_studio_id=number, label_studio_created_at=at, label_studio_updated_at=at,
            task_id=task.id, sample_id=place + 1, annotator=1, answer=PAINTED if painted else REVIEWED,
            mask_sha256=save_mask(self.backend, self._mask()) if painted else None, lead_time=20.0,
        )  # fmt: skip
        session.add(answer)
        session.flush()
        audit.note_answer(session, audit.ANSWERED, answer)
        self._queues.enqueue("sync_annotation", SYNC_QUEUE, 1, number)

    def _mask(self) -> NDArray[np.bool_]:
        rows, columns = np.ogrid[:HEIGHT, :WIDTH]
        row, column, radius = self._random.integers((200, 200, 50), (HEIGHT - 200, WIDTH - 200, 150))
        mask: NDArray[np.bool_] = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        return mask

    def _train(self, session: Session, round_: Round, verdict: str) -> None:
        """What a training leaves behind, and what follows from it."""
        directory = self._write_job(session, round_)
        write_results(directory, self._random, self._splits, self._labels, self._keys, self._groups)
        write_maps(directory, self._random, self._splits, self._labels, self._keys)
        self._allocate(directory / MODEL_FILE)
        if round_.is_baseline:
            self._allocate(directory / INTERMEDIATE_FILE)
        else:
            self._propose(directory)
        measured = {"validation": MEASURED, "test": MEASURED}
        result = {"metrics": measured, "choices": {}, "seconds": 1.0, "set_aside": []}
        version = record_version(self.backend, session, round_, champion_of(session, 1), result)
        round_.state, round_.verdict = CLOSED, {"verdict": verdict, "reason": "Simulated."}
        if verdict == "promote":
            promote(session, version, LOOP)

    def _write_job(self, session: Session, round_: Round) -> Path:
        dataset = session.get_one(Dataset, 1)
        baseline = None if round_.is_baseline else baseline_of(session, 1)
        name = str(round_.version_name)
        job = TrainingJob(
            name, tuple(CLASSES), 1, Recipe(**dataset.recipe), str(self.backend.cache),
            resume_from=str(Path(baseline.directory) / INTERMEDIATE_FILE) if baseline else None,
        )  # fmt: skip
        directory = directory_of(self.backend, name)
        write_training_job(directory, job, training_samples(self.backend, session, dataset, baseline))
        return directory

    def _report(self, round_: Round) -> None:
        """That of the first round is made, and copied for the next ones: it takes seconds to draw."""
        folder = directory_of(self.backend, str(round_.version_name)) / REPORT_FOLDER
        if round_.is_baseline:
            folder.mkdir()
        elif self._reported is None:
            write_report(self.backend, round_.id)
            evaluate_round(self.backend, round_.id)
            self._reported = folder
        else:
            shutil.copytree(self._reported, folder)

    def _propose(self, directory: Path) -> None:
        keys = [key for key, split in zip(self._keys, self._splits, strict=True) if split == "train"]
        packed = self._random.integers(0, 256, (len(keys), PROPOSED_AT**2 // 8), np.uint8)
        confidence = self._random.random(len(keys), np.float32)
        proposed = Proposed(True, "Simulated.", QUALITY, PROPOSED_AT, packed, confidence)
        write_proposed(directory / PROPOSED_FILE, keys, proposed)

    def _cancel_a_training(self, days_ago: int) -> None:
        with self.backend.store.begin() as session:
            champion = champion_of(session, 1)
            round_ = self._begin_round(session, mined=champion.id if champion else None)
            directory = self._write_job(session, round_)
            round_.state = CANCELLED
        for name in (CHECKPOINT_FILE, "best-3.safetensors"):
            self._allocate(directory / name)
        _age([directory], days_ago)

    def _allocate(self, path: Path) -> None:
        _allocate(path, round(self._share * SIZES.get(path.name, SIZES[MODEL_FILE])))

    def _let_time_pass(self) -> None:
        """All that has been done was done a week earlier, as far as a cleanup looks at its time."""
        _age([self.backend.path(name, "x").parent for name in ("versions", "masks")], DAYS)
        week = 1000 * SECONDS_OF_A_DAY * DAYS
        self._change_workflows("UPDATE workflow_status SET completed_at = completed_at - :time", time=week)

    def _end_workflows(self, days_ago: int) -> None:
        ended = 1000 * (time.time() - SECONDS_OF_A_DAY * days_ago)
        self._change_workflows(
            "UPDATE workflow_status SET status = 'SUCCESS', completed_at = :time WHERE completed_at IS NULL",
            time=round(ended),
        )

    def _change_workflows(self, statement: str, **values: int) -> None:
        store = Store(system_database_url(self.backend))
        with store.begin() as session:
            session.execute(text(statement), values)
        store.close()


def _allocate(path: Path, size: int) -> None:
    """A file with room on the disk, of which nobody reads what is in it."""
    with path.open("wb") as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)


def _age(directories: Iterable[Path], days: int) -> None:
    for path in (path for directory in directories for path in (directory, *directory.rglob("*"))):
        then = path.stat().st_mtime - SECONDS_OF_A_DAY * days
        os.utime(path, (then, then))

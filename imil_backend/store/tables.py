"""The tables. Everything hangs on a dataset, so that one backend serves several."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return value.astimezone(timezone.utc) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back to an aware datetime."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=timezone.utc)


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(timezone.utc)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime, float: Double, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Dataset(Base):
    """A set of samples with its classes, its recipe and its round policy."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    classes: Mapped[list[str]]
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)
    policy: Mapped[dict[str, Any]] = mapped_column(default=dict)
    source_instance: Mapped[str | None] = mapped_column(String(500))  # the Label Studio it was imported from
    source_project: Mapped[int | None]  # and the classification project's id there
    shown_window: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # None: the files' own
    created_at: Mapped[datetime] = mapped_column(default=now)


class Project(Base):
    """The Label Studio project in which a dataset's tasks are answered."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("instance", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), unique=True)
    instance: Mapped[str] = mapped_column(String(500))  # Label Studio's address
    label_studio_id: Mapped[int] = mapped_column("number")  # the project's id there
    created_at: Mapped[datetime] = mapped_column(default=now)
    gone_at: Mapped[datetime | None]  # since when Label Studio has it no longer
    meanings: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # options of read_label_config
    connected: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # what `imil connect` changed there
    disconnected_at: Mapped[datetime | None]
    dataset: Mapped[Dataset] = relationship(lazy="joined")


class Sample(Base):
    """One image with its label, split and group."""

    __tablename__ = "samples"
    __table_args__ = (
        UniqueConstraint("dataset_id", "name"),
        Index("ix_samples_split", "dataset_id", "split"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    key: Mapped[str] = mapped_column(String(32), unique=True)  # what Label Studio and reports see
    name: Mapped[str] = mapped_column(String(1000))  # in the source it was imported from
    path: Mapped[str] = mapped_column(String(4000))  # where the original lies
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    width: Mapped[int]  # natural size in pixels, after EXIF orientation
    height: Mapped[int]
    channels: Mapped[int]
    shown_as_is: Mapped[bool]  # whether a browser can show the original
    label: Mapped[str] = mapped_column(String(200))
    split: Mapped[str] = mapped_column(String(10))
    group: Mapped[str] = mapped_column(String(200))
    excluded: Mapped[str | None] = mapped_column(String(40))  # one of loop.splitting.exclusion
    pixels_sha256: Mapped[str | None] = mapped_column(String(64))  # None: from before it was kept
    perceptual_hash: Mapped[str | None] = mapped_column(String(128))  # None: flat, or from before
    clinician_mask: Mapped[str | None] = mapped_column(String(4000))  # for the simulated clinician alone
    clinician_mask_means: Mapped[str] = mapped_column(String(10), default="relevant")
    agreement: Mapped[float | None]  # mean Dice between its annotators' masks, 0..1; None with one of them
    address: Mapped[str | None] = mapped_column(String(4000))  # its image's in the source project
    source_task: Mapped[int | None]  # its task's id in the source project
    imported_at: Mapped[datetime] = mapped_column(default=now)


class FetchedImage(Base):
    """The image of an address, kept under the hash of its content."""

    __tablename__ = "fetched_images"

    address_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    fetched_at: Mapped[datetime] = mapped_column(default=now)


class SetAside(Base):
    """Something that could not be used, and why."""

    __tablename__ = "set_aside"
    __table_args__ = (UniqueConstraint("dataset_id", "kind", "reference"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    kind: Mapped[str] = mapped_column(String(20))  # image, class, row, training, annotation
    reference: Mapped[str] = mapped_column(String(1000))
    reason: Mapped[str] = mapped_column(String(2000))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Version(Base):
    """A trained model. Never changed once written: the database refuses it."""

    __tablename__ = "versions"

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    name: Mapped[str] = mapped_column(String(120), unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))  # the champion to compare with
    baseline_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))  # it goes on from this one
    directory: Mapped[str] = mapped_column(String(4000))
    recipe: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]  # by split
    runtime_info: Mapped[dict[str, Any]] = mapped_column("choices")  # device, precision, threads
    fingerprint: Mapped[str] = mapped_column(String(64))  # of the samples and masks it was trained on
    blacked_out: Mapped[int]  # how many training samples were
    code_version: Mapped[str] = mapped_column(String(40))
    model_sha256: Mapped[str | None] = mapped_column(String(64))  # None: from before it was kept
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Promotion(Base):
    """An entry of a dataset's champions; the latest one names the champion."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    by: Mapped[str] = mapped_column(String(20))  # loop, person, rollback
    reason: Mapped[str] = mapped_column(String(2000), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    version: Mapped[Version] = relationship(lazy="joined")


class Round(Base):
    """One turn of the loop, from the push to the candidate's verdict. A baseline is one without a push."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("dataset_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(20))
    mined_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))  # asked; none: a baseline
    version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))  # what came out
    version_name: Mapped[str | None] = mapped_column(String(120))  # fixed before training starts
    verdict: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[str | None] = mapped_column(String(4000))
    readers: Mapped[int] = mapped_column(default=1)  # different people who are to answer each of its tasks
    attempt: Mapped[int] = mapped_column(default=1)  # at training; each is a workflow of its own
    created_at: Mapped[datetime] = mapped_column(default=now)
    changed_at: Mapped[datetime] = mapped_column(default=now)
    version: Mapped[Version | None] = relationship(foreign_keys=[version_id], lazy="joined")

    @property
    def is_baseline(self) -> bool:
        """Whether it trains from the start instead of going on from a baseline with answers."""
        return self.mined_version_id is None


class Task(Base):
    """A sample as a Label Studio task: a misprediction that is asked, a review, or a gold task."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("round_id", "sample_id", "purpose"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), index=True)
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), index=True)
    label_studio_id: Mapped[int] = mapped_column("number")  # the task's id there
    rank: Mapped[int]
    # A value of loop.base.states.Purpose.
    purpose: Mapped[str] = mapped_column(String(10), default="asked", server_default="asked")
    deleted: Mapped[bool] = mapped_column(default=False)
    pushed_at: Mapped[datetime] = mapped_column(default=now)
    sample: Mapped[Sample] = relationship(lazy="joined")


class Proposal(Base):
    """A mask that was proposed for a task. Never an answer; the latest one of a task is the one shown."""

    __tablename__ = "proposals"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    mask_sha256: Mapped[str] = mapped_column(String(64))
    outside: Mapped[bool]  # shown as what is relevant; the mask is all else
    confidence: Mapped[float]  # 0..1, the Dice coefficient that the mask network expects of it
    shown: Mapped[bool]  # False: the task is in the control group
    version: Mapped[str] = mapped_column(String(120))  # the prediction's model_version in Label Studio
    source: Mapped[str] = mapped_column(String(120))  # what the mask network was trained with
    made_at: Mapped[datetime] = mapped_column(default=now)


class Annotation(Base):
    """A clinician's answer, as Label Studio has it now."""

    __tablename__ = "annotations"
    # Label Studio on SQLite hands out the ids of deleted annotations again; their time of creation differs.
    __table_args__ = (UniqueConstraint("project_id", "number", "label_studio_created_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    label_studio_id: Mapped[int] = mapped_column("number")  # the annotation's id there
    label_studio_created_at: Mapped[datetime]
    label_studio_updated_at: Mapped[datetime]
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), index=True)
    annotator: Mapped[int | None]  # a key of Annotator, whose row goes when the person is forgotten
    simulated: Mapped[bool] = mapped_column(default=False)  # painted by the simulated clinician
    answer: Mapped[str] = mapped_column(String(20))  # a value of label_studio.labeling.answers.Answer
    mask_sha256: Mapped[str | None] = mapped_column(String(64))
    # Relevant parts were painted, so that all else is irrelevant.
    outside: Mapped[bool] = mapped_column(default=False, server_default=false())
    lead_time: Mapped[float | None]  # seconds, as Label Studio counted them; None: it has not told
    reason: Mapped[str | None] = mapped_column(String(2000))  # why it was set aside; what was passed over
    # What became of the task's proposed mask: a value of loop.base.states.Outcome; None: there was none.
    outcome: Mapped[str | None] = mapped_column(String(20))
    proposal_dice: Mapped[float | None]  # of the proposed mask and what was painted, 0..1
    # The answers of gold tasks are compared with it, by `imil gold`.
    gold: Mapped[bool] = mapped_column(default=False, server_default=false())
    deleted: Mapped[bool] = mapped_column(default=False)
    task_updated_at: Mapped[str | None] = mapped_column(String(40))  # of the listing that it was synced from
    synced_at: Mapped[datetime] = mapped_column(default=now)  # when what it says was taken in, by our clock
    task: Mapped[Task] = relationship(lazy="joined")
    sample: Mapped[Sample] = relationship(lazy="joined")
    person: Mapped[Annotator | None] = relationship(
        primaryjoin=lambda: foreign(Annotation.annotator) == Annotator.key, viewonly=True, lazy="joined"
    )

    @property
    def user(self) -> int | None:
        """The id in Label Studio of who answered; None once that person is forgotten."""
        return self.person.label_studio_id if self.person else None


class Annotator(Base):
    """Whom the random key of an annotator stands for. Nothing else names a person who has answered."""

    __tablename__ = "annotators"
    __table_args__ = (UniqueConstraint("instance", "number"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    instance: Mapped[str] = mapped_column(String(500))  # Label Studio's address
    label_studio_id: Mapped[int] = mapped_column("number")  # the user's id there


class Erasure(Base):
    """An erasure that is not finished: what is left to do. Its row goes when it is.

    While there is one, the database lets entries of the audit trail be blanked.
    """

    __tablename__ = "erasures"

    id: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[dict[str, Any]]  # of loop.erasure.plan; empty once nothing but the tidying is left
    begun_at: Mapped[datetime] = mapped_column(default=now)
    problem: Mapped[str | None] = mapped_column(String(2000))  # why it could not be finished yet


class AuditEntry(Base):
    """Something that was done, by whom. Only ever added: the database refuses deletions, and changes but one.

    An erasure takes the sample and the details from the entries that were about it.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_dataset_id_event", "dataset_id", "event"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    event: Mapped[str] = mapped_column(String(20))  # one of those of loop.base.audit
    sample_id: Mapped[int | None] = mapped_column(ForeignKey("samples.id"), index=True)
    version_id: Mapped[int | None] = mapped_column(
        ForeignKey("versions.id")
    )  # that asked, trained, was promoted
    round_id: Mapped[int | None] = mapped_column(ForeignKey("rounds.id"))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)

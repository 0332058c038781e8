"""The trainings under way, with what each epoch came to so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.dashboard.datasets import made_as
from imil_backend.loop.rounds.training import training_progress
from imil_backend.store.tables import Dataset, Round

WIDTH, HEIGHT = 320, 120  # of the curves, in the units of the drawing


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    number: int
    training_loss: float
    validation_loss: float | None
    accuracy: float | None  # in validation
    images_per_second: float


@dataclass(frozen=True)
class Training:
    """A training under way; the numbers are those of its phase.

    Attributes:
        told: when it last told where it is; None: it has not begun.
        done: images of this phase or epoch.
        total: likewise, in all.
    """

    dataset: str
    made: str | None  # "phantoms" or "planted", where its images are
    round: int
    version: str | None
    phase: str
    epoch: int
    epochs: int
    done: int
    total: int
    images_per_second: float
    told: datetime | None
    history: tuple[Epoch, ...]

    def curve(self, name: str) -> str:
        """The points of a loss over the epochs, as SVG's polyline wants them; the highest loss is on top.

        It begins with its first point twice: one point alone would not be drawn.
        """
        losses = [(each.number, getattr(each, name)) for each in self.history]
        known = [(number, loss) for number, loss in losses if loss is not None]
        highest = max(
            (loss for each in self.history for loss in (each.training_loss, each.validation_loss) if loss),
            default=1.0,
        )
        return " ".join(
            f"{WIDTH * number / max(self.epochs, 1):.1f},{HEIGHT * (1 - loss / highest):.1f}"
            for number, loss in (*known[:1], *known)
        )


def trainings(backend: Backend, session: Session) -> list[Training]:
    """Those of all datasets."""
    found = select(Round, Dataset.name).join(Dataset, Dataset.id == Round.dataset_id)
    rows = session.execute(found.where(Round.state == TRAINING).order_by(Round.id)).all()
    return [
        _training(name, made_as(session, round_.dataset_id), round_, training_progress(backend, round_))
        for round_, name in rows
    ]


def _training(dataset: str, made: str | None, round_: Round, progress: Mapping[str, Any] | None) -> Training:
    told = progress or {}
    updated = told.get("updated_at")
    return Training(
        dataset=dataset,
        made=made,
        round=round_.number,
        version=round_.version_name,
        phase=told.get("phase", "waits for the worker"),
        epoch=told.get("epoch", 0),
        epochs=told.get("epochs", 0),
        done=told.get("done", 0),
        total=told.get("total", 0),
        images_per_second=told.get("images_per_second", 0.0),
        told=datetime.fromtimestamp(updated, timezone.utc) if updated else None,
        history=tuple(_epochs(told.get("history", ()))),
    )


def _epochs(history: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    return [
        Epoch(
            number=each["epoch"],
            training_loss=each["train_loss"],
            validation_loss=each["validation"]["loss"],
            accuracy=each["validation"]["accuracy"],
            images_per_second=each["images_per_second"],
        )
        for each in history
    ]

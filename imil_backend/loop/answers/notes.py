"""What a task says beside its image: why it is asked, and why again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.base.states import ANSWERS, Purpose
from imil_backend.store.tables import Annotation, Round, Task

_WORDS = {
    Answer.BLACKOUT.value: "painted",
    Answer.NOTHING.value: "choice_nothing",
    Answer.LABEL_WRONG.value: "choice_label_wrong",
    Answer.UNREADABLE.value: "choice_unreadable",
}


@dataclass(frozen=True)
class Earlier:
    """The latest answer to a sample in an earlier round."""

    round_number: int
    answer: str


def earlier_answers(session: Session, round_: Round) -> dict[int, Earlier]:
    """The latest answers in the rounds of the same dataset before this one, by sample id."""
    found = (
        select(Annotation.sample_id, Round.number, Annotation.answer)
        .join(Task, Task.id == Annotation.task_id)
        .join(Round, Round.id == Task.round_id)
        .where(Round.dataset_id == round_.dataset_id, Round.number < round_.number)
        .where(~Annotation.deleted, Annotation.answer.in_(ANSWERS), Task.purpose != Purpose.GOLD.value)
        .order_by(Annotation.label_studio_updated_at)
    )
    return {sample: Earlier(number, answer) for sample, number, answer in session.execute(found)}


def answer_in_words(language: str, answer: str) -> str:
    """One of ANSWERS in the clinician's language."""
    return words_of(language)[_WORDS[answer]]


def note(language: str, *, wrong: bool, likely_label_error: bool, earlier: Earlier | None) -> str:
    """A task's note in the clinician's language, "" where there is nothing to say.

    Args:
        language: one of LANGUAGES.
        wrong: whether the model gets the sample wrong.
        likely_label_error: whether the label is more likely wrong than the model.
        earlier: the answer that it got before, if it is asked again.
    """
    words, parts = words_of(language), []
    if earlier is not None:
        told = words["note_again" if wrong else "note_again_right"]
        parts.append(
            told.format(round=earlier.round_number, answer=answer_in_words(language, earlier.answer))
        )
    if likely_label_error:
        parts.append(words["note_label"])
    elif not wrong and earlier is None:
        parts.append(words["note_right"])
    return " ".join(parts)

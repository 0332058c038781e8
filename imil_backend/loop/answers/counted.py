"""The answers that count, of annotations joined with their tasks."""

from sqlalchemy import and_

from imil_backend.loop.base.states import ANSWERS, Purpose
from imil_backend.store.tables import Annotation, Task

# Reviews, gold tasks, and what was skipped or set aside answer nothing that a round has asked.
COUNTS = and_(Task.purpose == Purpose.ASKED.value, ~Annotation.deleted, Annotation.answer.in_(ANSWERS))

"""States of a round, and what a clinician can answer, as they stand in the store."""

from enum import Enum

from imil_backend.label_studio.labeling.answers import Answer

# Rounds.
PUSHING = "pushing"  # its tasks are on their way to Label Studio
OPEN = "open"  # clinicians answer
TRAINING = "training"  # closed for answers; trained, compared
CLOSED = "closed"  # it has its verdict
FAILED = "failed"  # its training has an error, and can be tried again
CANCELLED = "cancelled"  # given up by a person; its answers stand, and count in the next round
UNDER_WAY = (PUSHING, OPEN, TRAINING, FAILED)

# Answers: those that count.
PAINTED = Answer.BLACKOUT.value
REVIEWED = Answer.NOTHING.value
EXCLUDED_AS = (Answer.LABEL_WRONG.value, Answer.UNREADABLE.value)
ANSWERS = (PAINTED, REVIEWED, *EXCLUDED_AS)


class Purpose(str, Enum):
    """What a task is for."""

    ASKED = "asked"
    """A sample is asked; its answers train."""
    REVIEW = "review"
    """Answers to a sample disagree; what a reviewer answers stands for them."""
    GOLD = "gold"
    """The sample's mask is known: its answers tell how an annotator paints, and never train."""


class Outcome(str, Enum):
    """What became of the mask that was proposed for an answer's task."""

    ACCEPTED = "accepted"
    """It was submitted as proposed."""
    CORRECTED = "corrected"
    """It was changed, and submitted."""
    REJECTED = "rejected"
    """It was deleted, and nothing was painted in its place."""
    PAINTED = "painted"
    """The answer did not begin with it."""
    CONTROL = "control"
    """It was not shown: the task is in the control group."""

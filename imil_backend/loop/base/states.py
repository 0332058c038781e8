"""States of a round, and what a clinician can answer, as they stand in the store."""

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

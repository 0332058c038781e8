"""States of a round, and what a clinician can answer, as they stand in the store."""

# Rounds.
PUSHING = "pushing"  # its tasks are on their way to Label Studio
OPEN = "open"  # clinicians answer
TRAINING = "training"  # closed for answers; trained, compared
CLOSED = "closed"  # it has its verdict
FAILED = "failed"  # its training has an error, and can be tried again
CANCELLED = "cancelled"  # given up by a person; its answers stand, and count in the next round
UNDER_WAY = (PUSHING, OPEN, TRAINING, FAILED)

# Answers: the values of label_studio.annotations.Answer that count.
PAINTED = "blackout"
REVIEWED = "nothing"
EXCLUDED_AS = ("label_wrong", "unreadable")
ANSWERS = (PAINTED, REVIEWED, *EXCLUDED_AS)

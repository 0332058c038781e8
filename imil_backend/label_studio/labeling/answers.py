"""A clinician's possible answers, as they are stored."""

from __future__ import annotations

from enum import Enum


class Answer(str, Enum):
    """What becomes of the sample."""

    BLACKOUT = "blackout"
    """Its irrelevant pixels are blacked out."""
    NOTHING = "nothing"
    """It was reviewed and stays as it is."""
    LABEL_WRONG = "label_wrong"
    """It leaves training."""
    UNREADABLE = "unreadable"
    """It leaves training."""
    SKIPPED = "skipped"
    """Nobody answered; nothing changes."""
    SET_ASIDE = "set_aside"
    """The answer cannot be understood or used; nothing changes, and it does not count."""

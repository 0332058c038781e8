"""The keys of the data of a task that was pushed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLE_KEY = "imil_sample"
ROUND_KEY = "round"
PREDICTED_KEY = "predicted"
CONFIDENCE_KEY = "confidence"  # of the version that was asked
EVIDENCE_KEY = "evidence"  # address of a picture that is shown beside the image
EVIDENCE_SAYS_KEY = "evidence_says"
REVIEW_KEY = "review"  # what a reviewer is to decide; not in other tasks
PROBLEM_KEY = "problem"  # why an answer to the task does not count; "" where each does
SHOWN_KEYS = frozenset({"label", PREDICTED_KEY, CONFIDENCE_KEY, ROUND_KEY, "note", PROBLEM_KEY})


def sample_key_of(task: Mapping[str, Any]) -> str:
    """The sample that a task of Label Studio is of, "" where it names none."""
    return str((task.get("data") or {}).get(SAMPLE_KEY) or "")

"""The keys of the data of a task that was pushed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLE_KEY = "imil_sample"
ROUND_KEY = "round"
CONFIDENCE_KEY = "confidence"  # of the version that was asked
SHOWN_KEYS = frozenset({"label", "predicted", CONFIDENCE_KEY, ROUND_KEY, "note"})


def sample_key_of(task: Mapping[str, Any]) -> str:
    """The sample that a task of Label Studio is of, "" where it names none."""
    return str((task.get("data") or {}).get(SAMPLE_KEY) or "")

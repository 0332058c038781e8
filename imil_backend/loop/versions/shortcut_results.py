"""What a version's shortcut test says of it and of the champion that it was compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imil_backend.learning.contract.training_job import SHORTCUT_FILE, read_json
from imil_backend.store.tables import Version

MEANING = (
    "The irrelevant parts of validation images were exchanged. Robust accuracy is the accuracy with "
    "the irrelevant part of an image of any class; the drop is the difference to that of the same "
    "class. A drop does not prove a shortcut: the location of a finding may honestly tell what it is."
)


def read_shortcut_test(version: Version) -> dict[str, Any] | None:
    """What the end of a version's training has written; None where nothing was known to be irrelevant."""
    path = Path(version.directory) / SHORTCUT_FILE
    return dict(read_json(path)) if path.exists() else None


def compares(test: dict[str, Any] | None, champion: Version) -> bool:
    """Whether the test was made of this champion too; another may have been promoted meanwhile."""
    parent = None if test is None else test.get("parent")
    return parent is not None and parent["name"] == champion.name


def what_was_done(test: Mapping[str, Any]) -> str:
    """What a summary of `about` tells, and of how many samples."""
    return (
        f"{MEANING} {test['samples']} samples in {test['groups']} groups, {test['draws']} draws each; "
        f"{test['left_out']} samples without a known irrelevant part are excluded."
    )


def with_bounds(figure: Mapping[str, float]) -> str:
    """A figure of a summary with its 95 % bounds."""
    return f"{figure['value']:.3f} ({figure['lower']:.3f} to {figure['upper']:.3f})"


def about(test: dict[str, Any] | None) -> dict[str, Any] | None:
    """The summary that goes into a verdict: samples, groups, and each version's figures with bounds."""
    if test is None:
        return None
    summary = {name: test[name] for name in ("untested", "draws", "left_out")}
    if test["untested"]:
        return summary
    return {
        **summary,
        "samples": len(test["keys"]),
        "groups": len(set(test["groups"])),
        "seconds": test["seconds"],
        "candidate": test["candidate"]["summary"],
        "champion": test["parent"]["summary"] if test["parent"] else None,
        "champion_untested": test["parent_untested"],
    }

"""Many things set aside, counted by their reason. A pure function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

EXAMPLES = 3
# What differs between two reasons of one kind: what is quoted, file names, and whatever has a figure in it.
_OWN = re.compile(r"'[^']*'|\"[^\"]*\"|\S*\d\S*|\S+\.\w{2,5}(?=[\s,;:]|$)")


@dataclass(frozen=True)
class Reason:
    """How often something was set aside for the same reason."""

    count: int
    reason: str  # of the first
    examples: tuple[str, ...]  # the first references


def by_reason(items: Iterable[tuple[str, str]]) -> tuple[Reason, ...]:
    """Count (reference, reason) by kind of reason, the most frequent first."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for reference, reason in items:
        kind = _OWN.sub("...", reason.replace(PurePath(reference).name or reference, "..."))
        kinds.setdefault(kind, []).append((reference, reason))
    found = [
        Reason(len(alike), alike[0][1], tuple(reference for reference, _ in alike[:EXAMPLES]))
        for alike in kinds.values()
    ]
    return tuple(sorted(found, key=lambda each: -each.count))

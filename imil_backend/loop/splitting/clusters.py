"""Union of sets that share a member. A pure function."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def joined(sets: Iterable[Collection[str]]) -> dict[str, str]:
    """For each name the smallest one that it is joined with, by whatever chain of sets (union-find)."""
    above: dict[str, str] = {}

    def smallest(name: str) -> str:
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for names in sets:
        for name in names:
            above.setdefault(name, name)
        roots = {smallest(name) for name in names}
        for root in roots:
            above[root] = min(roots)
    return {name: smallest(name) for name in above}

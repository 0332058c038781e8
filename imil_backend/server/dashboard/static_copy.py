"""A static copy of the dashboard: what is in it, and which file each address becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from flask import current_app

from imil_backend.loop.dashboard.samples.in_rounds import InRounds

EXTENSION = "imil_static_copy"  # under which an application keeps the copy that it is asked for
START = "index.html"
_DRAWN = {".css", ".svg", ".jpg", ".png"}  # how the addresses end that are no pages


@dataclass
class StaticCopy:
    """What one copy holds.

    Attributes:
        made: when.
        datasets: the numbers of those that are in it.
        whole: whether these are all; the page of the machine, which is about all, is in it only then.
        listed: by dataset, the samples that the page of samples lists.
        pages: by address, the file of each page that is linked to so far.
        others: likewise of pictures and styles.
    """

    made: datetime
    datasets: frozenset[int]
    whole: bool
    listed: Mapping[int, InRounds]
    pages: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def file_of(self, address: str) -> str:
        """The file that an address becomes, in the folder that it names; it is noted, to be written.

        Args:
            address: of the dashboard's own, with nothing in its query but numbers and words of ours.
        """
        target = urlsplit(address)
        path = PurePosixPath(target.path)
        if path.suffix in _DRAWN:
            return self.others.setdefault(address, target.path)
        if target.path.endswith("/"):
            return self.pages.setdefault(address, f"{target.path}{START}")
        asked = "".join(f"-{name}-{value}" for name, value in parse_qsl(target.query))
        return self.pages.setdefault(address, f"{target.path}{asked}.html")


def current_copy() -> StaticCopy | None:
    """The copy that a page is made for; None where it is served."""
    found: StaticCopy | None = current_app.extensions.get(EXTENSION)
    return found

"""Pages as a reader of HTML finds them, and names that would like to be more than names."""

from __future__ import annotations

from html.parser import HTMLParser

from sqlalchemy import select

from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Annotation, Dataset, Round, Sample

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202ekcatta \u05d0\u05d1\u05d2 \u200f",
    "n" * 300,
]


class Seen(HTMLParser):
    """The elements, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def name_it(backend: Backend, name: str) -> None:
    """Give everything in the store that people name this name."""
    with backend.store.begin() as session:
        session.get_one(Dataset, 1).name = name[:100]
        for sample in session.scalars(select(Sample)):
            sample.group, sample.name = name[:200], f"{name} {sample.id}"
        for round_ in session.scalars(select(Round)):
            round_.verdict = {**(round_.verdict or {}), "reason": name, "verdict": "undecided"}
            round_.error = name
        for annotation in session.scalars(select(Annotation)):
            annotation.reason = name

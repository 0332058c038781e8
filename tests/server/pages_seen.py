"""Pages as a reader of HTML finds them, and names that would like to be more than names."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from imil_backend.learning.contract.training_job import read_json, write_json
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Version

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202ekcatta \u05d0\u05d1\u05d2 \u200f",
    "n" * 300,
]


_APART = {"bdi", "title", "option"}


class Seen(HTMLParser):
    """The elements, addresses and text of a page; and what of the text stands where names must not."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.beside = ""  # text that a name of another direction would put out of order
        self._apart = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._apart += tag in _APART
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag: str) -> None:
        self._apart -= tag in _APART

    def handle_data(self, data: str) -> None:
        self.text += data
        if not self._apart:
            self.beside += data


def class_named(name: str, number: int) -> str:
    """What a class is called where everything has this name."""
    return f"{name[:180]} class {number}"


def version_named(name: str, number: int) -> str:
    """Likewise a version."""
    return f"{name[:100]} version {number}"


def name_it(backend: Backend, name: str) -> None:
    """Give everything in the store that people name this name, and versions, which are called after it."""
    with backend.store.begin() as session:
        session.execute(text("DROP TRIGGER IF EXISTS versions_no_update"))
        dataset, versions = session.get_one(Dataset, 1), session.scalars(select(Version)).all()
        old = {label: class_named(name, number) for number, label in enumerate(dataset.classes)}
        named = {
            **old,
            **{f"recall of {label}": f"recall of {new}" for label, new in old.items()},
            **{version.name: version_named(name, version.id) for version in versions},
        }
        dataset.name, dataset.classes = name[:100], list(old.values())
        for version in versions:
            version.name = named[version.name]
            for kept in Path(version.directory, "report").glob("*.json"):
                write_json(kept, _renamed(read_json(kept), named))
        for sample in session.scalars(select(Sample)):
            sample.group, sample.name, sample.label = name[:200], f"{name} {sample.id}", old[sample.label]
        for round_ in session.scalars(select(Round)):
            round_.verdict = _renamed(round_.verdict, named)
            round_.verdict = {**(round_.verdict or {}), "reason": name, "verdict": "undecided"}
            round_.error = name
        for annotation in session.scalars(select(Annotation)):
            annotation.reason = name


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """The same with other names in it."""
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value

"""A page of the dashboard as somebody reads it."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

Visit = Callable[[str], str]  # the page at a path below /dashboard


class Page(HTMLParser):
    """A page as somebody reads it.

    Attributes:
        text: all of it, with single spaces.
        rows: of its tables, the texts of their cells.
        tables: likewise, by the names of the regions that they stand in; the head is the first row.
        links: where its links lead to.
        titles: that are shown when a pointer rests on something.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self._said: list[str] = []
        self._cell: list[str] | None = None
        self.rows: list[list[str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._region = ""
        self.links: list[str] = []
        self.titles: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self._said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.titles += [value for name, value in attrs if name == "title" and value]
        if tag == "div":
            self._region = dict(attrs).get("aria-label") or ""
        if tag == "tr":
            self.rows.append([])
            self.tables.setdefault(self._region, []).append(self.rows[-1])
        if tag in {"th", "td"}:
            self._cell = []
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"} and self._cell is not None:
            self.rows[-1].append(" ".join(" ".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self._said.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def row(self, first: str) -> list[str]:
        """The only row that begins with this cell."""
        (found,) = [each for each in self.rows if each and each[0] == first]
        return found

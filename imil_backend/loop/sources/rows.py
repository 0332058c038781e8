"""What every source of a data set gives: rows, and an account of what did not become one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from imil_backend.loop.sources.file_names import is_utf8, printable

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
LONGEST = {"name": 1000, "label": 200, "group": 200}  # characters that the store keeps


@dataclass(frozen=True)
class Columns:
    """Which columns of a CSV to use. None: the usual name is looked for.

    Each is a column's name, or a template such as `images/{file}` or `masks/{file:stem}.png`
    (`:stem` drops the suffix).

    Attributes:
        image: of the image's path (default: `image`).
        label: of the label (default: `label`).
        split: of the split (default: `split`, if it exists).
        group: columns that together form the group (default: `group`, if it exists).
        mask: of the mask's path (default: `mask`, if it exists).
        missing_labels: labels to treat as missing, besides the usual ones.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: tuple[str, ...] = ()
    mask: str | None = None
    missing_labels: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the command that were given, with their dashes."""
        given = {
            "--image": self.image,
            "--label": self.label,
            "--split": self.split,
            "--group": self.group,
            "--mask": self.mask,
            "--missing-label": self.missing_labels,
        }
        return tuple(option for option, value in given.items() if value)


@dataclass(frozen=True)
class Row:
    """One image of a source, before it has been looked at."""

    name: str  # of the image, relative to the source
    image: Path
    label: str
    split: str | None = None  # train, validation or test, as given
    group: str | None = None
    mask: Path | None = None
    mask_problem: str | None = None  # why the mask that lies beside the image is not used
    mask_was_named: bool = True  # by a table; else it was found beside the image, which does without it
    address: str | None = None  # of the image in Label Studio's project, where it comes from one
    task: int | None = None  # the task's id there


@dataclass
class Source:
    """The rows of a source, and what of it could not even become a row."""

    rows: list[Row]
    set_aside: list[tuple[str, str, str]] = field(default_factory=list)  # kind, reference, reason
    project: tuple[str, int] | None = None  # Label Studio's address and the project's id, if it is one
    unlabelled: int = 0  # tasks that nobody has answered
    passed_over: dict[str, Counter[str]] = field(default_factory=dict)  # what -> where -> number of files
    warnings: list[str] = field(default_factory=list)  # of what is imported all the same
    hint: str = ""  # what to do, should no image be usable

    def pass_over(self, what: str, where: str, count: int = 1) -> None:
        """Count files that are no samples, under what they are and where they lie."""
        self.passed_over.setdefault(what, Counter())[printable(where)] += count

    def check_texts(self) -> None:
        """Set aside the rows with a name, label or group that the store cannot keep."""
        kept = []
        for row in self.rows:
            if reason := _unkept_text(row):
                self.set_aside.append(("image", printable(row.name[:200]), reason))
            else:
                kept.append(row)
        self.rows = kept


def _unkept_text(row: Row) -> str | None:
    for what, text in {"name": row.name, "label": row.label, "group": row.group or ""}.items():
        if len(text) > LONGEST[what]:
            return f"Its {what} has {len(text)} characters; the limit is {LONGEST[what]}."
        if not is_utf8(text) or "\0" in text:
            return f"Its {what} {printable(text)!r} contains characters that cannot be stored."
    return None

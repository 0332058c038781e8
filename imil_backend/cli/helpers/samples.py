"""A dataset's samples as a table: classes by split, with totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from imil_backend.cli.helpers.console import table


def samples_table(
    name: str,
    classes: Sequence[str],
    counts: Mapping[str, Mapping[str, int]],
    groups: Mapping[str, int],
    left_out: Mapping[str, int],
) -> Table:
    """The table of a dataset.

    Args:
        name: the dataset's.
        classes: in the order in which they are to be shown.
        counts: split -> class -> samples.
        groups: split -> groups.
        left_out: split -> samples that are excluded from training and metrics.
    """
    shown = table(f"Dataset {escape(name)}", "class", *counts, "all", numbers=(*counts, "all"))
    for label in classes:
        _add(shown, escape(label), [by_class.get(label, 0) for by_class in counts.values()])
    shown.add_section()
    _add(shown, "samples", [sum(by_class.values()) for by_class in counts.values()])
    if any(left_out.values()):
        _add(shown, "  excluded", [left_out[split] for split in counts])
    _add(shown, "groups", [groups[split] for split in counts])
    return shown


def _add(shown: Table, what: str, numbers: Sequence[int]) -> None:
    shown.add_row(what, *(f"{number:,}" for number in (*numbers, sum(numbers))))

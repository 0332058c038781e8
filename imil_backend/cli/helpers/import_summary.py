"""The summary of an import."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape

from imil_backend.cli.helpers.console import console, say, table
from imil_backend.cli.helpers.samples import samples_table
from imil_backend.loop.splitting.exclusion import EXPLAINED

if TYPE_CHECKING:
    from imil_backend.loop.importing.importing import ImportReport

SHOWN = 20  # kinds of reasons; the rest is in `imil status --json`
EXAMPLES = 3


def show_import(report: ImportReport, keep_leaking: bool) -> None:
    """Print the dataset and what was read, then what was found, the most serious first."""
    classes = sorted({label for counts in report.counts.values() for label in counts})
    console.print(samples_table(report.dataset, classes, report.counts, report.groups, report.left_out))
    _show_counts(report)
    _show_windows(report)
    _show_set_aside(report)
    _show_left_out(report, keep_leaking)
    _show_near_duplicates(report)
    if report.ungrouped:
        _show_missing_groups(report)
    for what, where in report.passed_over.items():
        places = ", ".join(f"{place} {count:,}" for place, count in sorted(where.items())[:SHOWN])
        more = f" and {len(where) - SHOWN} more places" if len(where) > SHOWN else ""
        say(f"Passed over, {escape(what)}: {sum(where.values()):,} ({escape(places)}{more})")
    for warning in report.warnings:
        say(f"[yellow]Warning[/] {escape(warning)}")


def _show_counts(report: ImportReport) -> None:
    shown = table("", "", "images", numbers=("images",))
    shown.add_row("read now", f"{report.read:,}")
    shown.add_row("  added", f"{report.added:,}")
    shown.add_row("  known already", f"{report.known:,}")
    shown.add_row("  set aside", f"{report.read - report.added - report.known:,}")
    shown.add_section()
    shown.add_row("duplicates", f"{sum(len(names) - 1 for names in report.duplicates):,}")
    shown.add_row("near-duplicates", _near(report))
    console.print(shown)
    console.print(f"{report.added} samples added, {report.known} were known already.")
    if report.unlabelled:
        console.print(f"{report.unlabelled} tasks have no class yet; import again when they have one.")


def _show_windows(report: ImportReport) -> None:
    for how, count in list(report.shown_by.items())[:EXAMPLES]:
        say(f"{count:,} images have more than 8 bits; clinicians see them {how}.")
    more = list(report.shown_by.values())[EXAMPLES:]
    if more:
        console.print(f"{sum(more):,} more have {len(more):,} other windows; --json lists them.")
    if report.hidden:
        say(
            f"[yellow]The window[/] leaves nothing visible in {report.hidden:,} of them; `imil push` "
            "skips these. Choose another: --window."
        )


def _show_set_aside(report: ImportReport) -> None:
    for each in report.set_aside_reasons[:SHOWN]:
        if each.count == 1:
            say(f"[yellow]Set aside[/] {escape(each.examples[0])}: {escape(each.reason)}")
        else:
            examples = ", ".join(escape(name) for name in each.examples[:EXAMPLES])
            say(f"[yellow]Set aside[/] {each.count:,}, such as {examples}: {escape(each.reason)}")
    told = sum(each.count == 1 for each in report.set_aside_reasons[:SHOWN])
    if len(report.set_aside) > told:
        console.print("`imil status --json` lists everything that was set aside.")


def _show_left_out(report: ImportReport, keep_leaking: bool) -> None:
    if report.leaking and keep_leaking:
        console.print(
            f"{len(report.leaking)} samples have a group that is in the test split too. "
            "They are used for training anyway (--keep-leaking)."
        )
    copies = {name: names for names in report.duplicates for name in names}
    for reason, count in Counter(report.excluded.values()).most_common():
        names = [name for name, why in report.excluded.items() if why == reason]
        example = " = ".join(escape(name) for name in copies.get(names[0], (names[0],))[:EXAMPLES])
        say(
            f"[yellow]Excluded[/] from training and metrics: {count:,}, such as {example}: "
            f"{EXPLAINED[reason]}."
        )


def _near(report: ImportReport) -> str:
    from imil_backend.images.likeness import MOST_PAIRS

    count = len(report.near_duplicates)
    return f"{count:,}" if count < MOST_PAIRS else f"{count:,} or more"


def _show_near_duplicates(report: ImportReport) -> None:
    if not report.near_duplicates:
        return
    across = sum(pair.across for pair in report.near_duplicates)
    say(
        f"[yellow]Near-duplicates[/]: {_near(report)}, {across:,} of them across splits. "
        "They are not excluded; check them:"
    )
    for pair in report.near_duplicates[:EXAMPLES]:
        (first, second), (split, other) = pair.images, pair.splits
        say(f"  {escape(first)} ({split}) and {escape(second)} ({other})")


def _show_missing_groups(report: ImportReport) -> None:
    samples = sum(sum(counts.values()) for counts in report.counts.values())
    whose = "No image has a group" if report.ungrouped == samples else f"{report.ungrouped:,} have no group"
    say(
        f"[yellow]{whose}[/] (patient): images of one patient may be in train and in validation or "
        "test, whose metrics are then too good. Import again under another --name with --group, the "
        "CSV column or task field of the patient."
    )

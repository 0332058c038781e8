"""`imil gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from imil_backend.cli.helpers.console import (
    JsonOption,
    command,
    console,
    open_backend,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    from imil_backend.loop.cleanup.removable import Removable

MEBIBYTE = 2**20


@command("gc")
def gc(
    context: typer.Context,
    keep: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many of each dataset's latest versions keep their weights, beside those that are "
            "needed (default: IMIL_GC_KEEP).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Free disk space: remove weights, training files, caches and masks that nothing needs any more.

    Weights of champions, current and former, of the baseline that rounds go on from, and of undecided
    candidates stay, as do all JSON files and reports. May run beside everything else.
    """
    from imil_backend.loop.cleanup.removal import find_removable, remove_unneeded
    from imil_backend.loop.queues.ended import remove_ended_workflows

    with open_backend(context) as backend:
        count = backend.settings.gc_keep if keep is None else keep
        items = find_removable(backend, count) if dry_run else remove_unneeded(backend, count)
        ended = 0 if dry_run else remove_ended_workflows(backend)
    if as_json:
        print_json([_described(item) for item in items])
        return
    _show(items, dry_run=dry_run)
    if ended:
        say(f"{ended:,} workflows that ended long ago were removed from the database.")


def _show(items: list[Removable], *, dry_run: bool) -> None:
    verb = "would be removed" if dry_run else "removed"
    if items:
        shown = table(
            f"What {'would go' if dry_run else 'went'}", "what", "of", "why", "MiB", numbers=("MiB",)
        )
        for item in items:
            shown.add_row(item.kind, item.name, item.reason, f"{item.bytes / MEBIBYTE:,.1f}")
        console.print(shown)
    say(f"{sum(item.bytes for item in items) / MEBIBYTE:,.1f} MiB {verb}.")


def _described(item: Removable) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "reason": item.reason,
        "files": [str(path) for path in item.paths],
        "bytes": item.bytes,
    }

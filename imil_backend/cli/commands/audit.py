"""`imil audit`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    JsonOption,
    command,
    console,
    open_backend,
    print_json,
    table,
)

_COLUMNS = ("at", "event", "round", "version")


@command("audit")
def audit(
    context: typer.Context,
    sample: Annotated[
        str | None,
        typer.Argument(help="A sample's key or name. Without one: the dataset's own history."),
    ] = None,
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a sample's history: who painted what and when, which version asked for it, which trained on it.

    Without a sample: promotions, rollbacks, cancelled rounds, repairs, erasures. Entries are never deleted,
    and changed by `imil erase` alone.
    """
    from imil_backend.loop.answers.pseudonyms import pseudonyms, with_names
    from imil_backend.loop.base.audit import find_sample, history
    from imil_backend.loop.base.backend import find_dataset

    with open_backend(context) as backend, backend.store.begin() as session:
        found = find_dataset(session, dataset)
        entries = history(session, found, find_sample(session, found, sample) if sample else None)
        names = pseudonyms(session, found.id)
    if as_json:
        print_json(entries)
        return
    shown = table(f"Audit trail of {sample or found.name}", *_COLUMNS, "details", numbers=("round",))
    for entry in entries:
        shown.add_row(*_cells(with_names(entry, names)))
    console.print(shown)


def _cells(entry: dict[str, Any]) -> list[str]:
    cells = ["" if entry[name] is None else str(entry[name]) for name in _COLUMNS]
    cells[0] = cells[0][:19].replace("T", " ")
    details = ", ".join(f"{name} {value}" for name, value in entry.items() if name not in _COLUMNS)
    return [escape(cell) for cell in (*cells, details)]

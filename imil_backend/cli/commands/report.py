"""`imil report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imil_backend.cli.helpers.console import (
    DatasetOption,
    command,
    open_backend,
    say,
)

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend
    from imil_backend.store.tables import Round


@command("report")
def report(
    context: typer.Context,
    dataset: DatasetOption = None,
    number: Annotated[
        int | None, typer.Option("--round", help="Number of the round (default: the latest closed one).")
    ] = None,
) -> None:
    """Write a closed round's report again: metrics (including the test split), answers, pictures.

    The worker writes it when a round closes. This writes it as one HTML file and as JSON as well. Where
    IMIL_PUBLIC_URL is set, it prints a link that shows the round without user and password.
    """
    from imil_backend.errors import NotFoundError
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.evaluation.shared_round import LINK_DAYS, shared_link
    from imil_backend.loop.rounds.lifecycle import find_closed_round
    from imil_backend.loop.rounds.report import report_round

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            round_ = find_closed_round(session, find_dataset(session, dataset).id, number)
        if round_ is None:
            raise NotFoundError("There is no such closed round; see `imil status`.")
        written = report_round(backend, round_.id)
        files = _write(backend, round_, written.text.parent)
        link = shared_link(backend, round_.id)
    for path in (written.text, *files, *written.pictures):
        say(str(path))
    if link is not None:
        say(f"Whoever has this link can open the round, for {LINK_DAYS} days: {link}")


def _write(backend: Backend, round_: Round, directory: Path) -> tuple[Path, Path]:
    """The report as one HTML file, with its pictures inside, and as JSON."""
    import json
    from dataclasses import asdict

    from imil_backend.files import write_atomically
    from imil_backend.loop.dashboard.rounds.one_round import round_page
    from imil_backend.server.dashboard.report import round_report

    page, values = directory / "report.html", directory / "report.json"
    write_atomically(page, round_report(backend, round_.dataset_id, round_.number).encode())
    shown = asdict(round_page(backend, round_.dataset_id, round_.number))
    write_atomically(values, json.dumps(shown, ensure_ascii=False, default=str, indent=1).encode())
    return page, values

"""`imil reject`."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import command, open_backend, say


@command("reject")
def reject(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="The candidate's name; `imil status` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; recorded in the audit trail.")] = "",
) -> None:
    """Keep the champion where a candidate's verdict is undecided. `imil promote` decides the other way."""
    from imil_backend.loop.versions.champions import find_version
    from imil_backend.loop.versions.champions import reject as keep_champion

    with open_backend(context) as backend, backend.store.begin() as session:
        changed = keep_champion(session, find_version(session, version), getuser(), reason)
    say(f"{version} is {'now' if changed else 'already'} rejected; the champion stays.")

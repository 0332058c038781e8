"""`imil promote`."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import (
    command,
    open_backend,
    say,
)


@command("promote")
def promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="The version's name; `imil models` lists them.")],
    reason: Annotated[str, typer.Option(help="Why; recorded with the promotion.")] = "",
) -> None:
    """Make a version the champion. Takes effect at once, without a restart."""
    from imil_backend.loop.versions.champions import PERSON, find_version
    from imil_backend.loop.versions.champions import promote as make_champion

    with open_backend(context) as backend, backend.store.begin() as session:
        changed = make_champion(session, find_version(session, version), PERSON, reason, getuser())
    say(f"{version} is {'now' if changed else 'already'} the champion.")

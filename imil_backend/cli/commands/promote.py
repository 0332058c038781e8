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
    from imil_backend.loop.tracking.trackers import tell_champion
    from imil_backend.loop.versions.champions import PERSON, find_version
    from imil_backend.loop.versions.champions import promote as make_champion
    from imil_backend.store.tables import Dataset

    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_version(session, version)
            changed = make_champion(session, found, PERSON, reason, getuser())
            dataset = session.get_one(Dataset, found.dataset_id).name
        tell_champion(backend.settings, dataset, version)
    say(f"{version} is {'now' if changed else 'already'} the champion.")

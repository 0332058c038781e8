"""Commands on versions: models, promote, rollback."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from imil_backend.cli.console import (
    DatasetOption,
    JsonOption,
    command,
    open_backend,
    print_json,
    say,
)


@command("models")
def models(
    context: typer.Context,
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="See that every version's weights are those that were trained.")
    ] = False,
) -> None:
    """List the versions with their metrics on the validation split. --json has everything, test included."""
    from imil_backend.cli.showing import show_versions
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.status import versions
    from imil_backend.loop.verification import verify_versions

    with open_backend(context) as backend, backend.store.begin() as session:
        found = find_dataset(session, dataset)
        listed = versions(session, found)
        if verify:
            verify_versions(session, found)
    if as_json:
        print_json(listed)
    else:
        show_versions(listed, f"Versions of {found.name}, on the validation split")


@command("promote")
def promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="The version's name; `imil models` lists them.")],
    reason: Annotated[str, typer.Option(help="Kept with the promotion.")] = "",
) -> None:
    """Make a version the champion. It answers at once, without a restart."""
    from imil_backend.loop.champion import PERSON, find_version
    from imil_backend.loop.champion import promote as make_champion

    with open_backend(context) as backend, backend.store.begin() as session:
        changed = make_champion(session, find_version(session, version), PERSON, reason, getuser())
    say(f"{version} is {'now' if changed else 'already'} the champion.")


@command("rollback")
def rollback(context: typer.Context, dataset: DatasetOption = None) -> None:
    """Make the champion before this one the champion again."""
    from imil_backend.loop.backend import find_dataset
    from imil_backend.loop.champion import roll_back

    with open_backend(context) as backend, backend.store.begin() as session:
        version = roll_back(session, find_dataset(session, dataset), getuser())
    say(f"{version.name} is the champion again.")

"""`imil models`."""

from __future__ import annotations

from typing import Annotated

import typer

from imil_backend.cli.helpers.console import (
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
        bool, typer.Option("--verify", help="Check that the weights of the versions are unchanged.")
    ] = False,
) -> None:
    """List the versions with their metrics on the validation split; --json adds the test split."""
    from imil_backend.cli.helpers.showing import show_versions
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.versions.verification import verify_versions
    from imil_backend.loop.views.status import versions

    with open_backend(context) as backend, backend.store.begin() as session:
        found = find_dataset(session, dataset)
        listed = versions(session, found)
        if verify:
            verify_versions(session, found)
    if as_json:
        print_json(listed)
        return
    show_versions(listed, f"Versions of {found.name}, on the validation split")
    removed = [version["name"] for version in listed if version["weights_removed_at"]]
    if verify and removed:
        say(f"Not verified, since their weights were removed (`imil gc`): {', '.join(removed)}.")

"""`imil gold`."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say


@command("gold")
def gold(
    context: typer.Context,
    annotations: Annotated[list[int], typer.Argument(help="IDs of annotations in Label Studio.")],
    remove: Annotated[bool, typer.Option("--remove", help="Compare with these no longer, instead.")] = False,
    dataset: DatasetOption = None,
) -> None:
    """Name answers that are right: those of gold tasks are compared with them (`imil push --gold-share`).

    They train as before. One that is changed in Label Studio afterwards has to be named again.
    """
    from imil_backend.loop.asking.known_masks import name_gold
    from imil_backend.loop.base.backend import find_dataset

    with open_backend(context) as backend, backend.store.begin() as session:
        name_gold(session, find_dataset(session, dataset), annotations, getuser(), gold=not remove)
    what = "no longer compared with" if remove else "what answers to gold tasks are compared with"
    say(f"Annotations {', '.join(map(str, annotations))} are {what}.")

"""`imil connect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import DatasetOption, command, open_backend, say
from imil_backend.cli.helpers.dry_run import DryRunOption, show_calls
from imil_backend.cli.helpers.questions import ask_for_credentials, settle
from imil_backend.label_studio.labeling.words import LANGUAGES

if TYPE_CHECKING:
    from imil_backend.label_studio.labeling.label_config import ProjectMapping


@command("connect")
def connect(
    context: typer.Context,
    project: Annotated[int, typer.Option(help="ID of the existing Label Studio project.")],
    dataset: DatasetOption = None,
    image: Annotated[str | None, typer.Option(help="Name of the Image tag, if there are several.")] = None,
    irrelevant: Annotated[
        list[str] | None, typer.Option(help="A label that means irrelevant; repeatable.")
    ] = None,
    relevant: Annotated[
        list[str] | None, typer.Option(help="A label that means relevant; repeatable.")
    ] = None,
    class_choices: Annotated[
        str | None, typer.Option(help="Name of the Choices tag with the class, if there are several.")
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions",
            help="Register the ML backend too: Label Studio then pre-fills tasks, writes predictions and "
            "sets the project's model version.",
        ),
    ] = False,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Add what is missing: answers, label, prediction and class evidence above the image, a tab "
            "of the answers that do not count, and storages with the images of another project (their "
            "credentials are asked for in a terminal). Empty answers can no longer be submitted.",
        ),
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(help=f"Language of what is added, and of notes: {', '.join(LANGUAGES)} (en)."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Connect a dataset with an existing Label Studio project; change nothing else in it.

    Reads its labeling config and registers the webhook. In a terminal, asks where the config is ambiguous.
    `imil disconnect` undoes everything.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.projects.existing import connect_project

    chosen = {"image": image, "irrelevant": irrelevant, "relevant": relevant, "class_choices": class_choices}
    with open_backend(context) as backend:
        with backend.store.begin() as session:
            found = find_dataset(session, dataset)
        changes = settle(
            lambda meanings: connect_project(
                backend,
                found,
                project,
                meanings,
                predictions=predictions,
                write=write,
                language=language,
                credentials=ask_for_credentials,
                rehearsal=dry_run,
            ),
            {name: value for name, value in chosen.items() if value},
        )
    _show_mapping(changes.mapping)
    if changes.difference:
        say("Added to the labeling config:" if write else "Optional; --write adds it:")
        say(escape(changes.difference))
    for entry in changes.offers:
        say(escape(entry))
    for entry in changes.by_hand:
        say(f"[yellow]To do by hand:[/] {escape(entry)}")
    show_calls(changes.calls, dry_run=dry_run)
    if not dry_run:
        say(f"Dataset {escape(found.name)} is connected with project {project}.")


def _show_mapping(mapping: ProjectMapping) -> None:
    facts = {
        "image": f"{mapping.image_name} (${mapping.image_key})",
        "painted with": ", ".join(sorted(mapping.labels.from_names)),
        "irrelevant": ", ".join(sorted(mapping.labels.irrelevant)),
        "relevant": ", ".join(sorted(mapping.labels.relevant)),
        "review": mapping.review_name,
        "class": mapping.class_choices_name,
    }
    for name, value in facts.items():
        say(f"{name + ':':14}{escape(value or '-')}")

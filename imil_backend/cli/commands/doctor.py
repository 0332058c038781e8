"""`imil doctor`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import JsonOption, command, errors, print_json, say, settings_of

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@command("doctor")
def doctor(
    context: typer.Context,
    probe: Annotated[
        bool,
        typer.Option(help="Test both directions in a temporary Label Studio project."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check everything that usually goes wrong, and say what to do. Exit status 1 if a check failed."""
    from imil_backend.loop.base.backend import Backend
    from imil_backend.loop.upkeep.check_results import State
    from imil_backend.loop.upkeep.doctor import examine

    if probe:
        errors.print(
            "Creates a temporary project in Label Studio, and deletes it at the end (skip with --no-probe)."
        )
    backend = Backend(settings_of(context))
    results = []
    try:
        for result in examine(backend, probe=probe):
            results.append(result)
            if not as_json:
                colour = _COLOURS[result.state.value]
                say(f"[{colour}]{result.state.value:8}[/]{result.subject}: {escape(result.text)}")
    finally:
        backend.close()
    if as_json:
        print_json([{"subject": f.subject, "state": f.state.value, "text": f.text} for f in results])
    if any(result.state is State.FAILED for result in results):
        raise typer.Exit(1)

"""The command that looks at everything that usually goes wrong: doctor."""

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
        typer.Option(help="Try both directions in a Label Studio project of its own, deleted at the end."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Look at everything that usually goes wrong, and say what to do. Status 1 if something failed."""
    from imil_backend.loop.base.backend import Backend
    from imil_backend.loop.upkeep.doctor import examine
    from imil_backend.loop.upkeep.findings import State

    if probe:
        errors.print("A project is made in Label Studio for this and deleted at the end (--no-probe: not).")
    backend = Backend(settings_of(context))
    findings = []
    try:
        for finding in examine(backend, probe=probe):
            findings.append(finding)
            if not as_json:
                colour = _COLOURS[finding.state.value]
                say(f"[{colour}]{finding.state.value:8}[/]{finding.subject}: {escape(finding.text)}")
    finally:
        backend.close()
    if as_json:
        print_json([{"subject": f.subject, "state": f.state.value, "text": f.text} for f in findings])
    if any(finding.state is State.FAILED for finding in findings):
        raise typer.Exit(1)

"""Calls to Label Studio that change a project: shown, or announced with --dry-run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import say

if TYPE_CHECKING:
    from imil_backend.label_studio.api.calls import Call

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show every call to Label Studio, and change nothing.")
]


def show_calls(calls: Iterable[Call], *, dry_run: bool) -> None:
    """A line for each call, with its body."""
    for call in calls:
        shown = call.shown()
        body = "" if shown["body"] is None else " " + json.dumps(shown["body"], ensure_ascii=False)
        say(f"{'would call' if dry_run else 'called'} {call.method} {call.path}{escape(body)}")

"""Questions in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.markup import escape
from rich.prompt import Prompt

from imil_backend.cli.helpers.console import errors
from imil_backend.errors import AmbiguousConfigError
from imil_backend.label_studio.storage_kinds import STORAGE_KINDS

if TYPE_CHECKING:
    from imil_backend.label_studio.api.storages import Storage

R = TypeVar("R")


def settle(work: Callable[[dict[str, Any]], R], said: dict[str, Any]) -> R:
    """Run `work`; in a terminal, ask about what it finds ambiguous.

    Args:
        work: takes what was said so far, by option.
        said: on the command line.

    Raises:
        AmbiguousConfigError: there is no terminal, or no answer.
    """
    while True:
        try:
            return work(said)
        except AmbiguousConfigError as error:
            answers = _ask(error) if error.choices and at_a_terminal() else {}
            if not answers:
                raise
            said = {**said, **answers}


def at_a_terminal() -> bool:
    """Whether this is a terminal, in which questions can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_for_credentials(storage: Storage) -> dict[str, str]:
    """The credentials of a storage; empty without a terminal, or if it needs none."""
    names = STORAGE_KINDS[storage.kind].credentials if at_a_terminal() else ()
    if names:
        errors.print(escape(f"{storage}. Enter: use those of Label Studio's environment."))
    typed = {
        name: Prompt.ask(name, default="", show_default=False, password=True, console=errors)
        for name in names
    }
    return {name: value for name, value in typed.items() if value}


def _ask(open_question: AmbiguousConfigError) -> dict[str, Any]:
    errors.print(f"[yellow]{escape(str(open_question))}[/]", highlight=False, soft_wrap=True)
    if not open_question.several:
        return {
            open_question.option: Prompt.ask(
                "Choose one", choices=list(open_question.choices), show_choices=False, console=errors
            )
        }
    answers = {
        meaning: _ask_several(f"Which mean {meaning} (comma-separated; Enter: none)", open_question.choices)
        for meaning in ("irrelevant", "relevant")
    }
    return {meaning: labels for meaning, labels in answers.items() if labels}


def _ask_several(text: str, choices: Sequence[str]) -> list[str]:
    while True:
        typed = Prompt.ask(text, default="", show_default=False, console=errors)
        named = [part.strip() for part in typed.split(",") if part.strip()]
        if unknown := [name for name in named if name not in choices]:
            errors.print(escape(f"There is no {' and no '.join(unknown)}, but: {', '.join(choices)}"))
        else:
            return named

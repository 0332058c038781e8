"""What is ambiguous is asked for at a terminal, and named in the error without one."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from imil_backend.cli.helpers import questions
from imil_backend.errors import AmbiguousConfigError

LABELS = AmbiguousConfigError("No label is known.", "irrelevant", ["Lung", "Tube"], several=True)
IMAGES = AmbiguousConfigError("Two images.", "image", ["today", "before"])


def settle(monkeypatch: pytest.MonkeyPatch, typed: str, *asked: AmbiguousConfigError) -> Result:
    """Work that is content when all its questions have answers, at a terminal where this is typed."""
    monkeypatch.setattr(questions, "at_a_terminal", lambda: bool(typed))
    app = typer.Typer()

    def work(said: dict[str, Any]) -> dict[str, Any]:
        for question in asked:
            if question.option not in said:
                raise question
        return said

    @app.command()
    def command() -> None:
        typer.echo(questions.settle(work, {"class_choices": "diagnosis"}))

    return CliRunner().invoke(app, [], input=typed)


def test_answers_go_with_what_was_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    result = settle(monkeypatch, "before\n Tube , Lung\n\n", IMAGES, LABELS)
    assert result.stdout.strip() == str(
        {"class_choices": "diagnosis", "image": "before", "irrelevant": ["Tube", "Lung"]}
    )
    assert "Two images." in result.stderr


def test_an_unknown_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    result = settle(monkeypatch, "yesterday\ntoday\nWire\nTube\nLung\n", IMAGES, LABELS)
    assert "'image': 'today', 'irrelevant': ['Tube'], 'relevant': ['Lung']" in result.stdout
    assert "There is no Wire, but: Lung, Tube" in result.stderr


@pytest.mark.parametrize("typed", ["", "\n\n"])
def test_without_a_terminal_and_without_an_answer_the_error_stands(
    monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    assert settle(monkeypatch, typed, LABELS).exception is LABELS

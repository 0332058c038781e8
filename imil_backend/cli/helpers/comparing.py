"""A comparison in the terminal: what it will be, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from imil_backend.cli.helpers.console import console, errors, say, table
from imil_backend.cli.helpers.showing import phase_in_words
from imil_backend.loop.comparing.arms import arms_of
from imil_backend.loop.comparing.protocol import Protocol

if TYPE_CHECKING:
    from imil_backend.loop.comparing.trainings.running import Standing

_SECONDS_OF_SPEED = 3600  # that the time left is reckoned from: trainings are of unlike length


def show_protocol(protocol: Protocol) -> None:
    """Arms, and what they are compared in."""
    from imil_backend.loop.comparing.trainings.running import steps_of, trainings_of

    shown = table("Arms", "arm", "what is done", "source", whole=("arm",))
    for name, arm in arms_of(protocol.arms).items():
        shown.add_row(name, escape(arm.meaning), escape(arm.source))
    console.print(shown)
    for each in protocol.datasets:
        whose = "clinicians' answers" if each.annotations == "answers" else "masks of the data set"
        whose += " (SIMULATED)" if each.simulated else ""
        marker = "" if each.marker is None else f"; PLANTED {each.marker}, agreement {each.agreement:.1%}"
        say(f"Dataset {escape(each.name)}: {whose}{marker}")
    budgets = ", ".join(f"{budget:.1%}" for budget in protocol.budgets)
    trainings = trainings_of(list(steps_of(protocol)))
    say(
        f"{trainings} trainings: {len(protocol.arms)} arms, {protocol.seeds} seeds, "
        f"{budgets} asked about ({protocol.ask}). Primary end point: {protocol.end_point}, against "
        f"{protocol.against}; a difference below {protocol.margin:g} is of no consequence."
    )


@contextmanager
def comparison_bar() -> Iterator[Callable[[Standing], None]]:
    """A bar of all trainings, with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[trainings]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, speed_estimate_period=_SECONDS_OF_SPEED) as bars:
        bar = bars.add_task("Starting", total=None, trainings="")

        def tell(now: Standing) -> None:
            what = f"Seed {now.step.seed}, {now.step.arm}: {phase_in_words(asdict(now.progress))}"
            bars.update(
                bar,
                description=what,
                completed=now.done,
                total=now.total,
                trainings=f"{int(now.done)} of {now.total} trainings",
            )

        yield tell

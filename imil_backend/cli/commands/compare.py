"""`imil compare`."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.markup import escape

from imil_backend.cli.helpers.comparing import comparison_bar, show_protocol
from imil_backend.cli.helpers.console import command, errors, open_backend, say
from imil_backend.cli.helpers.declared_options import with_options
from imil_backend.learning.contract.training_job import BASELINE, Recipe, Trainable
from imil_backend.loop.comparing.arms import arms_of
from imil_backend.loop.comparing.protocol import COMPARISON, Annotations, Protocol

_Whose = Enum("_Whose", [(name, name) for name in get_args(Annotations)])  # type: ignore[misc]
_Layers = Enum("_Layers", [(name, name) for name in get_args(Trainable)])  # type: ignore[misc]


@command("compare")
@with_options("protocol", Protocol, (COMPARISON,))
@with_options("recipe", Recipe, (BASELINE,))
def compare(
    context: typer.Context,
    recipe: dict[str, Any],
    protocol: dict[str, Any],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Dataset; repeat it to compare on several.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison (default: the dataset's).")] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            help="Arms, separated by commas (default: all that are possible; --dry-run lists them)."
        ),
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(help="Share of the training split to ask about (default: 0.04); repeatable."),
    ] = None,
    annotations: Annotated[
        _Whose | None,
        typer.Option(
            help="Whose masks: clinicians' answers (default if there are any), or those that the data set "
            "came with (simulated)."
        ),
    ] = None,
    trainable: Annotated[
        _Layers | None, typer.Option(help="Train all layers (default), or only the last ones: faster.")
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at the same time (default: one per GPU; on a CPU, one)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show arms, trainings and measured hours; fix nothing.")
    ] = False,
) -> None:
    """Compare ways of training on a dataset, by a protocol that is fixed before the first training.

    All arms go on from one intermediate state in each seed, in as many steps. Interrupted, the same command
    resumes and gives the same numbers. Results are in the data directory, in `compare/NAME`:
    `index.html` says what they mean.
    """
    from imil_backend.learning.networks.runtime import visible_gpus
    from imil_backend.loop.comparing.protocol import fix
    from imil_backend.loop.comparing.results.writing import need_packages, write_results
    from imil_backend.loop.comparing.trainings.planning import Wish, hours_of, plan
    from imil_backend.loop.comparing.trainings.running import places_for, run_comparison

    named = tuple(arm.strip() for given in arms or () for arm in given.split(",") if arm.strip())
    if named:
        protocol["arms"] = tuple(arms_of(named))
    if budget:
        protocol["budgets"] = tuple(dict.fromkeys(budget))
    if trainable:
        recipe["trainable"] = trainable.value
    with open_backend(context) as backend:
        gpus, processes = visible_gpus(backend.settings.device), backend.settings.training_processes
        at_once = parallel or max(1, len(gpus) // processes)
        whose = annotations.value if annotations else None
        wish = Wish(tuple(dataset or ()), name, whose, recipe, protocol, at_once)
        directory, wanted, datasets = plan(backend, wish, errors.print)
        show_protocol(wanted)
        if dry_run:
            with tempfile.TemporaryDirectory() as folder, errors.status("Measuring on this device"):
                hours = hours_of(backend, wanted, datasets, Path(folder), at_once)
            say(
                f"About {hours:.1f} hours on this device, measured now with a few images, and more for arms "
                "that propose masks. Dry run: nothing is fixed."
            )
            return
        need_packages()
        fix(directory, wanted)
        with comparison_bar() as tell:
            places = places_for(at_once, processes, gpus)
            run_comparison(backend, directory, wanted, datasets, tell, places=places)
    say(f"Results: {escape(str(write_results(directory)))}")

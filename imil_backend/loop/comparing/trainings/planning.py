"""What a comparison is to be: its protocol from what was asked for, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imil_backend.errors import ComparisonError
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.launch import available_threads, measured_precision
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.loop.base.backend import Backend, find_dataset
from imil_backend.loop.base.policy import recipe_of
from imil_backend.loop.comparing.arms import ARMS, UNCHANGED, arms_of
from imil_backend.loop.comparing.protocol import PROTOCOL_FILE, Annotations, Protocol, read_protocol
from imil_backend.loop.comparing.runs import COMPARE
from imil_backend.loop.comparing.statistics.measures import WITH_MARKER, WITH_MASKS
from imil_backend.loop.comparing.trainings.costs import measure_cost
from imil_backend.loop.comparing.trainings.last_layer import RETRAININGS
from imil_backend.loop.comparing.trainings.running import steps_of, trainings_of
from imil_backend.loop.comparing.trainings.samples import Compared, compared
from imil_backend.loop.comparing.trainings.trial import Trial
from imil_backend.loop.versions.starting_weights import fetch_default_weights
from imil_backend.loop.versions.training_jobs import code_version


@dataclass(frozen=True)
class Wish:
    """What was asked for. None: as it was fixed, or else the usual."""

    datasets: Sequence[str] = ()
    name: str | None = None
    annotations: Annotations | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)  # fields of it: arms, seeds, ...
    parallel: int = 1  # trainings at the same time, which share the processors


def plan(
    backend: Backend, wish: Wish, progress: Callable[[str], None] | None = None
) -> tuple[Path, Protocol, list[Compared]]:
    """The directory of a comparison, its protocol, and the datasets that it names.

    Args:
        backend: with the store.
        wish: what was asked for.
        progress: called with what is fetched, a line each.

    Raises:
        ComparisonError: it cannot be compared so.
        NotFoundError: there is no such dataset.
        SettingsError: the recipe cannot be trained, or there is no such arm.
        TrainingFailedError: the device is not there.
    """
    with backend.store.begin() as session:
        name = wish.name or find_dataset(session, wish.datasets[0] if wish.datasets else None).name
    directory = directory_of(backend, name)
    fixed = read_protocol(directory) if (directory / PROTOCOL_FILE).exists() else None
    names: Sequence[str | None] = wish.datasets or [None]
    if fixed and not wish.datasets:
        names = [each.name for each in fixed.datasets]
    annotations = wish.annotations or (fixed.datasets[0].annotations if fixed else None)
    with backend.store.begin() as session:
        datasets = [find_dataset(session, each) for each in names]
    found = [compared(backend, each, annotations) for each in datasets]
    about = tuple(each.about for each in found)
    if fixed is None:
        threads = available_threads(backend.settings.training_processes * wish.parallel)
        recipe = _recipe(recipe_of(datasets[0]), wish.recipe, backend.settings.device, threads)
        if recipe.pretrained:
            fetch_default_weights(backend, progress, recipe.backbone)
        usual = Protocol(
            name, about, asdict(recipe), _usual_arms(found), threads=threads, code=code_version()
        )
    else:
        usual = replace(fixed, datasets=about, recipe={**fixed.recipe, **wish.recipe})
    wanted = replace(usual, **wish.protocol)
    _check(wanted, found)
    return directory, wanted, found


def directory_of(backend: Backend, name: str) -> Path:
    """Where a comparison's files lie."""
    if not name or Path(name).name != name or name.startswith("."):
        raise ComparisonError(f"{name!r} cannot be the name of a folder. Choose another --name.")
    return backend.path(COMPARE, name, "x").parent


def hours_of(
    backend: Backend, protocol: Protocol, datasets: Sequence[Compared], folder: Path, parallel: int = 1
) -> float:
    """What all trainings take on this device, without what mask networks need; see `measure_cost`.

    As if so many at the same time did not slow each other down.
    """
    hours = 0.0
    recipe = protocol.recipe_of(0)
    for number, each in enumerate(datasets):
        trial = Trial(backend, protocol, "", each, 0, folder / str(number))
        cost = measure_cost(trial.job(UNCHANGED), each.split(0), protocol, trial.directory)
        trainings = trainings_of([step for step in steps_of(protocol) if step.dataset == number])
        arms = trainings - protocol.seeds
        left = recipe.epochs - recipe.mining_epoch
        hours += (protocol.seeds * cost.seconds(recipe.epochs) + arms * cost.seconds(left)) / 3600
    return hours / min(parallel, protocol.seeds * len(datasets))


def _recipe(own: Recipe, given: Mapping[str, Any], device: str, threads: int) -> Recipe:
    """Of a dataset, as it is compared with; equal bits, so that a comparison can be resumed and repeated.

    In the precision that is faster here: it is fixed now, for a measurement may come out otherwise later.
    """
    recipe = replace(own, **given, deterministic=True)
    if recipe.precision == "auto":
        recipe = replace(recipe, precision=measured_precision(device, threads))
    recipe = recipe.training(recipe.trainable)
    check_recipe(recipe)
    return recipe


def _usual_arms(datasets: Sequence[Compared]) -> tuple[str, ...]:
    """All that can be trained with what is known."""
    return tuple(name for name in ARMS if not any(_hindrance(name, each) for each in datasets))


def _hindrance(name: str, dataset: Compared) -> str | None:
    """Why an arm cannot be compared on a dataset."""
    arm = ARMS[name]
    if dataset.annotations == "answers" and arm.needs_every_mask:
        return (
            "nobody has painted the images that it needs (the masks that a data set came with would do: "
            "--annotations masks, simulated)"
        )
    if arm.retraining in RETRAININGS and len(dataset.classes) != 2:
        return f"it retrains for two classes, and there are {len(dataset.classes)}"
    if arm.retraining == "dfr" and dataset.contradicting is None:
        return "it needs to know in which validation images a marker contradicts: plant one (`imil plant`)"
    return None


def _undefined(end_point: str, dataset: Compared, seeds: int) -> str | None:
    """Why an end point cannot be measured on a dataset; so that it is said before the trainings."""
    if end_point in WITH_MARKER and dataset.contradicting is None:
        return "no marker was planted in it"
    if end_point in WITH_MASKS and not all(dataset.is_tested(seed) for seed in range(seeds)):
        return "too few of its test or validation images came with masks"
    return None


def _check(protocol: Protocol, datasets: Sequence[Compared]) -> None:
    for each in datasets:
        if why := _undefined(protocol.end_point, each, protocol.seeds):
            raise ComparisonError(
                f"{protocol.end_point} cannot be measured on {each.name!r}: {why}. Choose another "
                "--end-point."
            )
    for name in arms_of(protocol.arms):
        for each in datasets:
            if why := _hindrance(name, each):
                raise ComparisonError(
                    f"{name} cannot be compared on {each.name!r}: {why}. Leave it out of --arms."
                )

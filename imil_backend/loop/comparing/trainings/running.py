"""Runs what is missing of a comparison, one training after the other, and writes down what each predicts.

Killed at any moment, it goes on with the training that was interrupted, and gives the same numbers: all of it
is deterministic, a finished run is one line, and what is half done lies in a folder of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imil_backend.errors import ComparisonError
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import LOCK_FILE, Progress
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.arms import ARMS
from imil_backend.loop.comparing.protocol import PROTOCOL_FILE, Protocol, digest_of
from imil_backend.loop.comparing.runs import WORK, Run, Runs
from imil_backend.loop.comparing.trainings.samples import Compared
from imil_backend.loop.comparing.trainings.trial import Trial


@dataclass(frozen=True)
class Step:
    """A run that a comparison consists of."""

    dataset: int  # its number in the protocol
    seed: int
    arm: str
    budget: float

    @property
    def asks(self) -> bool:
        """Whether it depends on the budget."""
        return ARMS[self.arm].chosen in {"mispredicted", "random"}


@dataclass(frozen=True)
class Standing:
    """How far a comparison is."""

    done: float  # trainings, the one under way by its share
    total: int
    step: Step
    progress: Progress


def steps_of(protocol: Protocol) -> Iterator[Step]:
    """All runs, seed by seed: a comparison that is stopped has whole seeds."""
    for seed in range(protocol.seeds):
        for dataset in range(len(protocol.datasets)):
            for budget in protocol.budgets:
                for arm in protocol.arms:
                    yield Step(dataset, seed, arm, budget)


def trainings_of(steps: Sequence[Step]) -> int:
    """How many trainings these runs take: what no budget changes is trained once, a last layer in no time."""
    different = {replace(each, budget=each.budget if each.asks else 0.0) for each in steps}
    return sum(ARMS[each.arm].trainings for each in different)


def run_comparison(
    backend: Backend,
    directory: Path,
    protocol: Protocol,
    datasets: Sequence[Compared],
    on_progress: Callable[[Standing], None],
) -> Runs:
    """Train what is missing.

    Args:
        backend: with settings and weights.
        directory: of the comparison, in which the protocol was fixed.
        protocol: it.
        datasets: that it names, in its order.
        on_progress: called about once a second.

    Raises:
        ComparisonError: a run was made by another protocol, or the datasets have changed since it was fixed.
        LearningError: a training failed, or another process runs this comparison.
    """
    digest = digest_of(directory)
    with only_training_in(directory / LOCK_FILE, patience=0):
        runs = Runs(directory)
        _check(directory, runs, digest)
        missing = [step for step in steps_of(protocol) if _found(runs, protocol, step) is None]
        all_of = trainings_of(list(steps_of(protocol)))
        done = all_of - trainings_of(missing)
        for number, step in enumerate(missing):
            trial = Trial(
                backend,
                protocol,
                digest,
                datasets[step.dataset],
                step.seed,
                _folder(directory, protocol, step),
            )
            run = _same(runs, protocol, step)
            if run is None:
                standing = _Teller(done, all_of, step, on_progress)
                run = trial.run(step.arm, step.budget, standing)
                done += ARMS[step.arm].trainings
            runs.add(replace(run, setting=trial.setting(step.budget)))
            trial.forget(step.arm, step.budget)
            following = missing[number + 1] if number + 1 < len(missing) else None
            if following is None or _folder(directory, protocol, following) != trial.directory:
                shutil.rmtree(trial.directory, ignore_errors=True)
        shutil.rmtree(directory / WORK, ignore_errors=True)
        return Runs(directory)  # as they are written, in so many digits


@dataclass(frozen=True)
class _Teller:
    """Says how far the comparison is while a training is under way."""

    done: int
    total: int
    step: Step
    tell: Callable[[Standing], None]

    def __call__(self, progress: Progress) -> None:
        epochs = max(progress.epochs, 1)
        within = progress.done / progress.total if progress.phase == "training" and progress.total else 0.0
        share = min((max(progress.epoch - 1, 0) + within) / epochs, 1.0)
        self.tell(Standing(self.done + share, self.total, self.step, progress))


def _folder(directory: Path, protocol: Protocol, step: Step) -> Path:
    return directory / WORK / f"{step.dataset}-{step.seed}"


def _found(runs: Runs, protocol: Protocol, step: Step) -> Run | None:
    about = protocol.datasets[step.dataset]
    return next(
        (
            run
            for run in runs
            if (run.setting.data, run.setting.painted, run.arm, run.seed)
            == (about.name, step.budget, step.arm, step.seed)
        ),
        None,
    )


def _same(runs: Runs, protocol: Protocol, step: Step) -> Run | None:
    """The run of another budget, where that changes nothing."""
    if step.asks:
        return None
    others = (replace(step, budget=budget) for budget in protocol.budgets)
    return next((run for other in others if (run := _found(runs, protocol, other)) is not None), None)


def _check(directory: Path, runs: Runs, digest: str) -> None:
    if any(run.protocol != digest for run in runs):
        raise ComparisonError(
            f"{directory / PROTOCOL_FILE} is not the protocol that the runs beside it were made by: it was "
            "changed afterwards. Restore it, or begin another comparison with --name."
        )

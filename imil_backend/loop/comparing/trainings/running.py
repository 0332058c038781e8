"""Runs what is missing of a comparison, seed by seed, and writes down what each training predicts.

Killed at any moment, it goes on with the training that was interrupted, and gives the same numbers: all of it
is deterministic, a finished run is one line, and what is half done lies in a folder of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock

from imil_backend.errors import ComparisonError
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import LOCK_FILE, Progress
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.arms import ARMS
from imil_backend.loop.comparing.protocol import PROTOCOL_FILE, Protocol, digest_of
from imil_backend.loop.comparing.runs import WORK, Run, Runs
from imil_backend.loop.comparing.trainings.samples import Compared
from imil_backend.loop.comparing.trainings.trial import Trial
from imil_backend.loop.versions.training_jobs import code_version


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

    done: float  # trainings, those under way by their shares
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
    *,
    places: Sequence[str | None] = (None,),
) -> Runs:
    """Train what is missing.

    Args:
        backend: with settings and weights.
        directory: of the comparison, in which the protocol was fixed.
        protocol: it.
        datasets: that it names, in its order.
        on_progress: called about once a second, in any thread.
        places: one for each training that may run at the same time, as of `places_for`.

    Raises:
        ComparisonError: a run was made by another protocol, or something is missing and the protocol was
            fixed by another version of this program.
        LearningError: a training failed, or another process runs this comparison.
    """
    digest = digest_of(directory)
    with only_training_in(directory / LOCK_FILE, patience=0):
        runs = Runs(directory)
        _check(directory, runs, digest)
        steps = list(steps_of(protocol))
        missing = [step for step in steps if _found(runs, protocol, step) is None]
        if missing:
            _check_code(protocol)
        total = trainings_of(steps)
        board = _Board(total - trainings_of(missing), total, on_progress)
        seeds: dict[Path, list[Step]] = {}  # the arms of a seed go on from one baseline, one by one
        for step in missing:
            seeds.setdefault(_folder(directory, step), []).append(step)
        free, stop = SimpleQueue[str | None](), Event()
        for place in places:
            free.put(place)

        def train(folder: Path, own: list[Step]) -> None:
            if stop.is_set():
                return
            gpus = free.get()
            about = datasets[own[0].dataset], own[0].seed, folder, gpus, stop.is_set
            try:
                _train_seed(Trial(backend, protocol, digest, *about), own, runs, board)
            except BaseException:
                stop.set()  # before this thread takes another seed
                raise
            finally:
                free.put(gpus)

        with ThreadPoolExecutor(len(places), "comparison") as pool:
            under_way = [pool.submit(train, *each) for each in seeds.items()]
            try:
                for each in as_completed(under_way):
                    each.result()
            finally:  # one has failed, or a person interrupts: what the others have finished is kept
                stop.set()
        shutil.rmtree(directory / WORK, ignore_errors=True)
        return Runs(directory)  # as they are written, in so many digits


def places_for(parallel: int, processes: int, gpus: Sequence[str]) -> list[str | None]:
    """Where trainings run at the same time: CUDA_VISIBLE_DEVICES of each, or None without a GPU.

    Args:
        parallel: how many trainings.
        processes: of each training, one for each GPU.
        gpus: all that there are; with fewer than needed several trainings share one.
    """
    if not gpus:
        return [None] * parallel
    needed = min(processes, len(gpus))
    groups = [",".join(gpus[first : first + needed]) for first in range(0, len(gpus) - needed + 1, needed)]
    return [groups[number % len(groups)] for number in range(parallel)]


def _train_seed(trial: Trial, steps: Sequence[Step], runs: Runs, board: _Board) -> None:
    """What is missing of one seed on one dataset."""
    for step in steps:
        run = _same(runs, trial.protocol, step)
        if run is None:
            run = trial.run(step.arm, step.budget, board.teller(step))
            board.finish(step)
        runs.add(replace(run, setting=trial.setting(step.budget)))
        trial.forget(step.arm, step.budget)
    shutil.rmtree(trial.directory, ignore_errors=True)


class _Board:
    """Says how far the comparison is, whichever training has something to say."""

    def __init__(self, done: int, total: int, tell: Callable[[Standing], None]) -> None:
        self._done, self._total, self._tell = done, total, tell
        self._shares: dict[Step, float] = {}  # of the trainings under way
        self._lock = Lock()

    def teller(self, step: Step) -> Callable[[Progress], None]:
        """To be called with what a training says."""

        def tell(progress: Progress) -> None:
            trains = progress.phase == "training" and progress.total
            within = progress.done / progress.total if trains else 0.0
            share = min((max(progress.epoch - 1, 0) + within) / max(progress.epochs, 1), 1.0)
            with self._lock:
                self._shares[step] = share
                done = self._done + sum(self._shares.values())
                self._tell(Standing(done, self._total, step, progress))

        return tell

    def finish(self, step: Step) -> None:
        """Count it."""
        with self._lock:
            self._shares.pop(step, None)
            self._done += ARMS[step.arm].trainings


def _folder(directory: Path, step: Step) -> Path:
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


def _check_code(protocol: Protocol) -> None:
    """Another version may train and test otherwise; what it adds would be compared as if it were equal."""
    if protocol.code != (now := code_version()):
        raise ComparisonError(
            f"This comparison was begun by version {protocol.code} of this program, and this is {now}: what "
            "they train cannot be compared. Finish it with that version, or begin another with --name."
        )


def _check(directory: Path, runs: Runs, digest: str) -> None:
    if any(run.protocol != digest for run in runs):
        raise ComparisonError(
            f"{directory / PROTOCOL_FILE} is not the protocol that the runs beside it were made by: it was "
            "changed afterwards. Restore it, or begin another comparison with --name."
        )

"""One seed on one dataset: a baseline, its intermediate state, and the arms that go on from it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imil_backend.learning.contract.launch import child_environment, run_training
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    JOB_FILE,
    MINING_FILE,
    PREDICTIONS_FILE,
    Progress,
    TrainingJob,
    TrainingSample,
    read_json,
    write_training_job,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.comparing.arms import ARMS, UNCHANGED, Arm
from imil_backend.loop.comparing.protocol import Protocol
from imil_backend.loop.comparing.runs import Predictions, Run, Setting
from imil_backend.loop.comparing.trainings.annotating import (
    annotated,
    asked_keys,
    chosen_keys,
    tested_samples,
)
from imil_backend.loop.comparing.trainings.attention import hide
from imil_backend.loop.comparing.trainings.features import (
    Arrays,
    LastLayer,
    embedded,
    exchanged,
    exchanged_shares,
)
from imil_backend.loop.comparing.trainings.last_layer import RETRAININGS, retrained
from imil_backend.loop.comparing.trainings.samples import Compared
from imil_backend.loop.versions.starting_weights import required_weights

OnProgress = Callable[[Progress], None]
TESTED = "tested"  # a job that nobody trains: images with masks, for the shortcut test


@dataclass(frozen=True)
class Trial:
    """Its files are in `directory`, so that it goes on where it was interrupted."""

    backend: Backend
    protocol: Protocol
    digest: str  # of the protocol
    compared: Compared
    seed: int
    directory: Path
    gpus: str | None = None  # CUDA_VISIBLE_DEVICES of its trainings; None: all
    should_stop: Callable[[], bool] | None = None  # asked while they run

    def run(self, arm: str, budget: float, on_progress: OnProgress) -> Run:
        """Train an arm. Going on unchanged is what the baseline itself has done."""
        baseline, samples = self.baseline(on_progress)
        if arm == UNCHANGED:
            return self._run(arm, budget, baseline, self.directory / UNCHANGED)
        if ARMS[arm].retraining in RETRAININGS:
            return self._retrained(arm, budget, baseline)
        if ARMS[arm].retraining == "masktune":
            return self._without_attended(arm, budget, samples, on_progress)
        directory = self.directory / f"{arm}-{budget:g}"
        told = self._keys(ARMS[arm], samples, budget)
        seen = annotated(
            self.backend, self.compared, samples, ARMS[arm], told, self.directory / "masks", self.seed
        )
        recipe = ARMS[arm].of(self.protocol.recipe_of(self.seed))
        job = replace(
            self.job(arm), recipe=recipe, resume_from=str(self.directory / UNCHANGED / INTERMEDIATE_FILE)
        )
        result = self._train(directory, replace(job, round_number=1), seen, on_progress)
        run = self._run(arm, budget, result, directory)
        painted = [each.key for each in seen if each.mask]
        return replace(run, painted_images=len(painted), clinician_seconds=self._seconds(painted))

    def forget(self, arm: str, budget: float) -> None:
        """Remove what a finished run has left; the baseline stays for the others."""
        if arm != UNCHANGED:
            shutil.rmtree(self.directory / f"{arm}-{budget:g}", ignore_errors=True)

    def baseline(self, on_progress: OnProgress) -> tuple[dict[str, Any], list[TrainingSample]]:
        """The result of going on unchanged from the first epoch to the last, and the samples as split."""
        samples = self.compared.split(self.seed)
        return self._train(self.directory / UNCHANGED, self.job(UNCHANGED), samples, on_progress), samples

    def _keys(self, arm: Arm, samples: Sequence[TrainingSample], budget: float) -> list[str]:
        records = read_json(self.directory / UNCHANGED / MINING_FILE)
        asked = asked_keys(self.compared, samples, records, budget, self.protocol.ask)
        return chosen_keys(arm, self.compared, samples, asked, self.seed)

    def job(self, name: str) -> TrainingJob:
        """Of the baseline, under a name."""
        recipe, settings = self.protocol.recipe_of(self.seed), self.backend.settings
        return TrainingJob(
            name=name,
            classes=self.compared.classes,
            channels=self.compared.channels,
            recipe=recipe,
            cache_dir=str(self.directory.parent / "cache"),
            weights=str(required_weights(self.backend, recipe.backbone)) if recipe.pretrained else None,
            device=settings.device,
            max_image_bytes=settings.max_image_bytes,
            max_image_pixels=settings.max_image_pixels,
            max_image_memory=settings.max_image_memory,
        )

    def _train(
        self, directory: Path, job: TrainingJob, samples: list[TrainingSample], on_progress: OnProgress
    ) -> dict[str, Any]:
        write_training_job(directory, job, samples)
        return run_training(
            directory,
            processes=self.backend.settings.training_processes,
            threads=self.protocol.threads,
            gpus=self.gpus,
            on_progress=on_progress,
            should_stop=self.should_stop,
        )

    def _embedded(self) -> Arrays:
        return embedded(self.directory / UNCHANGED, self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return child_environment(self.protocol.threads, self.gpus)

    def _retrained(self, arm: str, budget: float, baseline: dict[str, Any]) -> Run:
        """Going on unchanged, with another last layer."""
        began = time.monotonic()
        directory = self.directory / UNCHANGED
        predictions, layer = retrained(
            self._embedded(),
            read_json(directory / PREDICTIONS_FILE),
            self.compared.contradicting or frozenset(),
            RETRAININGS[ARMS[arm].retraining or ""],
            self.seed,
        )
        took = {**baseline, "seconds": time.monotonic() - began}
        return self._run(arm, budget, took, directory, predictions, layer)

    def _without_attended(
        self, arm: str, budget: float, samples: list[TrainingSample], on_progress: OnProgress
    ) -> Run:
        """MaskTune: going on unchanged up to the last epoch, which hides what was looked at most."""
        directory = self.directory / f"{arm}-{budget:g}"
        recipe = self.protocol.recipe_of(self.seed)
        job = replace(self.job(arm), recipe=replace(recipe, mining_epoch=recipe.epochs - 1))
        self._train(directory / "before", job, samples, on_progress)
        arrays = self._embedded()
        keys = arrays["train_keys"].tolist()
        seen = hide(self.backend, samples, keys, arrays["evidence"], directory / "images")
        job = replace(job, resume_from=str(directory / "before" / INTERMEDIATE_FILE), round_number=1)
        result = self._train(directory / "last", job, seen, on_progress)
        return self._run(arm, budget, result, directory / "last")

    def _run(
        self,
        arm: str,
        budget: float,
        result: dict[str, Any],
        directory: Path,
        predictions: dict[str, Any] | None = None,
        layer: LastLayer | None = None,
    ) -> Run:
        """What a training in a directory has come to, perhaps with another last layer's predictions."""
        contradicting = self.compared.contradicting
        predictions = predictions or read_json(directory / PREDICTIONS_FILE)
        test = {**predictions["test"], "exchanged": self._exchanged(directory, layer)}
        return Run(
            setting=self.setting(budget),
            arm=arm,
            seed=self.seed,
            seconds=result["seconds"],
            best_epoch=result["best_epoch"],
            protocol=self.digest,
            validation=Predictions.of(predictions["validation"], contradicting),
            test=Predictions.of(test, contradicting),
        )

    def _exchanged(self, directory: Path, layer: LastLayer | None) -> dict[str, tuple[float, float]] | None:
        """The shortcut test of a network.

        None where too little is known of what is irrelevant, so that nothing can be exchanged.
        """
        tested = self.directory / TESTED
        if not (tested / JOB_FILE).exists():
            if not self.compared.is_tested(self.seed):
                return None
            samples = self.compared.split(self.seed)
            known = tested_samples(self.backend, self.compared, samples, self.directory / "masks")
            write_training_job(tested, self.job(TESTED), known)
        arrays = exchanged(directory, tested, self._environment)
        return exchanged_shares(arrays, layer or LastLayer.of(arrays)) or None

    def setting(self, budget: float) -> Setting:
        """What its arms are compared in."""
        about = self.compared.about
        return Setting(about.name, about.marker, about.agreement, budget, self.protocol.ask)

    def _seconds(self, painted: Sequence[str]) -> float | None:
        """What clinicians took for these images, where all of it is known."""
        took = [self.compared.seconds.get(key) for key in painted]
        known = [each for each in took if each is not None]
        return sum(known) if known and len(known) == len(took) else None

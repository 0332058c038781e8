"""What every part of a training process needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imil_backend.learning.child.reporting import Reporter
from imil_backend.learning.contract.training_job import Recipe, Split, TrainingJob
from imil_backend.learning.inputs.data import LoadedSplits, SampleSet
from imil_backend.learning.networks.runtime import Runtime


@dataclass(frozen=True)
class Context:
    """The job, its samples, and where and with whom it runs."""

    directory: Path
    job: TrainingJob
    dataset: LoadedSplits
    runtime: Runtime
    reporter: Reporter
    micro_batch_size: int  # the recipe's, or less where memory did not suffice

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.job.recipe

    def split(self, name: Split) -> SampleSet:
        """The samples of a split."""
        return self.dataset.splits[name]

    def best_file(self, epoch: int) -> Path:
        """Where the weights of an epoch that is the best so far are kept while the job runs."""
        return self.directory / f"best-{epoch}.safetensors"

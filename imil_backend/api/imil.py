"""A data directory in Python: what the commands do, as methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imil_backend.api.version import Version
from imil_backend.config import load_settings
from imil_backend.images.reading import read_image
from imil_backend.learning.contract.training_job import Progress
from imil_backend.loop.base.backend import Backend, find_dataset
from imil_backend.loop.importing.importing import ImportReport, import_dataset
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds.beginning import begin_training
from imil_backend.loop.running.waiting import train_and_wait
from imil_backend.loop.sources.rows import Columns
from imil_backend.loop.versions.mispredictions import all_mispredictions, next_mispredictions
from imil_backend.loop.versions.version_export import version_or_champion
from imil_backend.loop.views.image_export import ExportReport, export
from imil_backend.loop.views.status import versions


@dataclass(frozen=True)
class Misprediction:
    """A training image that the champion got wrong, or was least certain of."""

    rank: int  # 1 = the most instructive
    sample: str  # its key, as tasks and reports name it
    source: str  # its name in what was imported
    path: Path  # of the original
    label: str
    predicted: str
    probability: float  # of the predicted class
    margin: float  # logit of the label minus the highest other; negative if wrong
    wrong: bool
    likely_label_error: bool


@dataclass(frozen=True)
class Trained:
    """The outcome of a training."""

    version: Version
    verdict: Literal["promote", "reject", "undecided"]
    reason: str


class Imil:
    """A data directory, as `imil --data-dir` opens it. Close it, or use it with `with`.

    Args:
        data_dir: created if missing (default: `IMIL_DATA_DIR`).
        settings: other settings by name, such as `device="cpu"`; they override the environment and `.env`.

    Raises:
        SettingsError: a setting is wrong.
        StoreError: the data directory or the database cannot be used.
    """

    def __init__(self, data_dir: Path | str | None = None, **settings: Any) -> None:
        place = {} if data_dir is None else {"data_dir": Path(data_dir)}
        self._backend = Backend(load_settings(**place, **settings))
        prepare(self._backend)

    def close(self) -> None:
        """Close the database's connections."""
        self._backend.close()

    def __enter__(self) -> Imil:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def import_dataset(
        self,
        source: Path | str,
        *,
        name: str | None = None,
        columns: Columns | None = None,
        mask_means: Literal["relevant", "irrelevant"] | None = None,
        limit: int | None = None,
        seed: int = 0,
        keep_leaking: bool = False,
        window: str | None = None,
        allow_outside: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ImportReport:
        """Import class folders, a CSV, or a zip of either. Importing again adds only what is new.

        Args:
            source: its path. Originals stay where they are and are never changed.
            name: the dataset's (default: the source's).
            columns: the columns of a CSV.
            mask_means: which region the masks of the source mark (default: relevant).
            limit: import at most this many images, chosen at random.
            seed: of the limit's choice and of the splits.
            keep_leaking: train on groups that are in the given test split too.
            window: in which clinicians see images of more than 8 bits, such as "40,400" or "lung".
            allow_outside: import files outside the source too, where a CSV's paths or links lead.
            on_progress: called with the number of images looked at, and of all.

        Raises:
            DatasetError: there is nothing to import, or it does not fit the dataset.
        """
        return import_dataset(
            self._backend,
            Path(source),
            name=name,
            columns=columns,
            mask_means=mask_means,
            limit=limit,
            seed=seed,
            keep_leaking=keep_leaking,
            window=window,
            allow_outside=allow_outside,
            progress=on_progress,
        )

    def train(
        self,
        dataset: str | None = None,
        *,
        fresh: bool = False,
        policy: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        **recipe: Any,
    ) -> Trained:
        """Train the baseline; later: close the open round and train on its answers. Waits for the verdict.

        A running worker (`imil worker`) does the training; without one it runs under this process. After an
        interrupt the same call resumes from the last epoch. After a round that is trained here no new one is
        opened: `imil push` opens it.

        Args:
            dataset: its name (default: the only one).
            fresh: train a new baseline even if there is one.
            policy: of the dataset's rounds, by the names of [Policy][imil_backend.api.Policy], such as
                `{"trainable": "layer4"}`; kept with the dataset.
            on_progress: called about once a second while it trains.
            recipe: of a baseline, by the names of [Recipe][imil_backend.api.Recipe], such
                as `epochs=10, image_size=224, pretrained=True`; kept with the dataset.

        Raises:
            RoundError: no round is open, nothing in it is answered, or it was cancelled.
            SettingsError: a recipe was given for a round, or it cannot be trained.
            WeightsError: ImageNet weights are wanted, and cannot be fetched.
            LearningError: the training failed; the message says why.
        """
        round_ = begin_training(self._backend, dataset, recipe, dict(policy or {}), fresh=fresh)
        version, verdict = train_and_wait(self._backend, round_.id, on_progress)
        return Trained(Version(self._backend, version), verdict["verdict"], verdict["reason"])

    def mispredictions(self, dataset: str | None = None, *, everything: bool = False) -> list[Misprediction]:
        """What the champion got wrong on the training split, the most instructive first.

        Args:
            dataset: its name (default: the only one).
            everything: all of them, instead of those that the next round would ask about.

        Raises:
            RoundError: there is no champion yet.
        """
        with self._backend.store.begin() as session:
            found = find_dataset(session, dataset)
            listed = all_mispredictions(session, found) if everything else next_mispredictions(session, found)
            return [
                Misprediction(
                    rank=item.rank,
                    sample=item.sample.key,
                    source=item.sample.name,
                    path=Path(item.sample.path),
                    label=item.sample.label,
                    predicted=item.predicted,
                    probability=item.probability,
                    margin=item.margin,
                    wrong=item.wrong,
                    likely_label_error=item.likely_label_error,
                )
                for item in listed
            ]

    def version(self, name: str | None = None, *, dataset: str | None = None) -> Version:
        """The version of this name, or the champion.

        Args:
            name: of the version (default: the champion).
            dataset: its name (default: the only one).

        Raises:
            NotFoundError: there is no such version or dataset.
            RoundError: there is no champion yet.
        """
        with self._backend.store.begin() as session:
            return Version(self._backend, version_or_champion(session, dataset, name))

    def versions(self, dataset: str | None = None) -> list[dict[str, Any]]:
        """All versions with their metrics and recipes, the oldest first, as `imil models --json` has them."""
        with self._backend.store.begin() as session:
            return versions(session, find_dataset(session, dataset))

    def read_image(self, path: Path | str) -> NDArray[np.uint8]:
        """The pixels of an image file as training sees them, upright and at natural size.

        Returns:
            uint8, (height, width) if it is grey, else (height, width, 3) RGB. More than 8 bits are scaled.

        Raises:
            ImageError: it cannot be read, or is larger than the settings allow.
        """
        limits = self._backend.settings
        return read_image(Path(path), max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels)

    def export_images(
        self, directory: Path | str, dataset: str | None = None, *, everything: bool = False
    ) -> ExportReport:
        """Write blacked-out images, their masks and a manifest.csv, as `imil export` does.

        Args:
            directory: output directory; created if missing.
            dataset: its name (default: the only one).
            everything: include the samples that are not blacked out.

        Raises:
            DatasetError: nothing has been answered yet.
            StoreError: the directory cannot be written.
        """
        with self._backend.store.begin() as session:
            found = find_dataset(session, dataset)
        return export(self._backend, found, Path(directory), everything=everything)

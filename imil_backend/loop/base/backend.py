"""What every process of the backend has: settings, the store, the files, and Label Studio."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from imil_backend.config import Settings
from imil_backend.errors import NotFoundError, StoreError
from imil_backend.files import PRIVATE_FOLDER
from imil_backend.images.limits.budget import DECODERS
from imil_backend.loop.base.unfinished import UNPACKED, settle
from imil_backend.store.database import Store, database_url
from imil_backend.store.tables import Dataset, Project, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imil_backend.label_studio.api.client import LabelStudio


class Backend:
    """Opens the data directory and the database; everything in the loop takes one of these."""

    def __init__(self, settings: Settings, *, restores_now: bool = False) -> None:
        """First settles what a killed backup, restore or import has left behind; see `unfinished.settle`."""
        self.settings = settings
        self.directory = settings.data_dir.absolute()
        DECODERS.total = settings.max_image_memory
        _make_folder(self.directory)
        self.store = Store(database_url(self.directory, settings.database_url))
        settle(self.directory, self.uses_unpacked, restores_now=restores_now)
        # Labeling configs read lately, each with the time of `time.monotonic`; by the project's number.
        self.label_configs: dict[int, tuple[float, str]] = {}

    def path(self, *parts: str) -> Path:
        """A path in the data directory; its folder is created.

        Raises:
            StoreError: the data directory is gone, or the folder cannot be created.
        """
        if not self.directory.is_dir():  # made anew it would be empty, and pass for the one that was there
            raise StoreError(
                f"The data directory {self.directory} is gone. Is its disk mounted? "
                "When it is back, start this process again."
            )
        path = self.directory.joinpath(*parts)
        _make_folder(path.parent)
        return path

    def read_image(self, source: Path | bytes, draft_size: int | None = None) -> NDArray[np.uint8]:
        """The pixels of an image within the limits of the settings, as of `images.reading.read_image`.

        Raises:
            ImageError: it cannot be read, or is too large.
        """
        from imil_backend.images.reading import read_image

        return read_image(
            source,
            max_bytes=self.settings.max_image_bytes,
            max_pixels=self.settings.max_image_pixels,
            draft_size=draft_size,
        )

    @property
    def cache(self) -> Path:
        """Where pixels, features and what was measured of this machine are kept."""
        return self.path("cache", "x").parent

    @cached_property
    def label_studio(self) -> LabelStudio:
        """Label Studio, with the token of the settings."""
        from imil_backend.label_studio.api.client import LabelStudio

        return LabelStudio(
            self.settings.label_studio_url,
            self.settings.require_api_key(),
            timeout=self.settings.label_studio_timeout,
            max_image_bytes=self.settings.max_image_bytes,
            image_hosts=self.settings.image_hosts,
            aliases=self.settings.label_studio_aliases,
            ca=self.settings.label_studio_ca,
        )

    @cached_property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that a webhook may carry; the first one is registered."""
        configured = tuple(secret.get_secret_value() for secret in self.settings.webhook_secrets)
        return configured or (self._kept_secret("webhook"),)

    def group_key(self) -> bytes:
        """The key under which DICOM PatientIDs are hashed; kept outside the database."""
        return bytes.fromhex(self._kept_secret("group_key"))

    def link_key(self) -> str:
        """The key that links to a round are signed with."""
        return self._kept_secret("links")

    def uses_unpacked(self, name: str) -> bool:
        """Whether samples name files of the zip that was unpacked to a folder of this name.

        Raises:
            StoreError: the database cannot tell.
        """
        inside = f"/{UNPACKED}/{name}/"
        named = or_(Sample.path.contains(inside), Sample.clinician_mask.contains(inside))
        with self.store.begin() as session:
            return session.scalar(select(Sample.id).where(named).limit(1)) is not None

    def close(self) -> None:
        """Close the database's connections."""
        self.store.close()

    def _kept_secret(self, name: str) -> str:
        """A secret, generated once and kept in a file that only the owner can read."""
        path = self.path("secrets", name)
        if not path.exists():
            temporary = path.with_name(f".{name}.{secrets.token_hex(4)}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another process was first; its secret is whole
                path.hardlink_to(temporary)
            temporary.unlink()
        return path.read_text(encoding="ascii")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The directory {path} cannot be created ({error.strerror}). Set IMIL_DATA_DIR to another one."
        ) from error


def find_dataset(session: Session, name: str | None = None) -> Dataset:
    """The dataset of this name, or the only one.

    Raises:
        NotFoundError: there is none, or several and no name was given.
    """
    if name is not None:
        dataset = session.scalar(select(Dataset).where(Dataset.name == name))
        if dataset is None:
            raise NotFoundError(f"There is no dataset {name!r}. `imil status` lists them.")
        return dataset
    if session.scalar(select(func.count(Dataset.id))) == 1:
        return session.scalars(select(Dataset)).one()
    names = sorted(session.scalars(select(Dataset.name)))
    if not names:
        raise NotFoundError("There is no dataset yet. Import one: `imil import SOURCE`.")
    raise NotFoundError(f"There are several datasets ({', '.join(names)}). Choose one with --dataset.")


def find_project(session: Session, instance: str, number: int) -> Project | None:
    """The row of a Label Studio project, or None if it is not managed by this backend."""
    return session.scalar(
        select(Project).where(Project.instance == instance, Project.label_studio_id == number)
    )


def project_of(session: Session, dataset_id: int) -> Project | None:
    """The Label Studio project of a dataset, or None before the first push."""
    return session.scalar(select(Project).where(Project.dataset_id == dataset_id))

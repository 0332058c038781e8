"""The storages that a connected project needs to show images of another by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imil_backend.errors import LabelStudioError
from imil_backend.label_studio.api.calls import Calls
from imil_backend.label_studio.api.storages import (
    Storage,
    add_storage,
    missing_storages,
)
from imil_backend.label_studio.storage_kinds import STORAGE_KINDS
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset

Credentials = Callable[[Storage], Mapping[str, str]]


def needed_storages(backend: Backend, dataset: Dataset, number: int) -> list[Storage]:
    """What the project that the images were imported from has, and project `number` lacks."""
    url, source = backend.settings.label_studio_url, dataset.source_project
    if source is None or source == number or dataset.source_instance != url:
        return []
    return missing_storages(backend.label_studio, source, number)


def add_storages(
    calls: Calls, number: int, needed: list[Storage], credentials: Credentials
) -> tuple[list[dict[str, Any]], list[str]]:
    """Add the storages; what Label Studio refuses is left to somebody who has the credentials.

    Returns:
        What was added, as `remove_storages` takes it, and what is to be done by hand.
    """
    added, by_hand = [], []
    for storage in needed:
        try:
            add_storage(calls, number, storage, credentials(storage))
        except LabelStudioError as error:
            keys = STORAGE_KINDS[storage.kind].credentials
            by_hand.append(
                f"Label Studio refused the storage {storage} ({error}) Add it in Settings > Cloud "
                f"Storage of project {number}{', with its ' if keys else ''}{', '.join(keys)}, "
                "without syncing it."
            )
        else:
            added.append({"kind": storage.kind, "place": storage.place})
    return added, by_hand


def offer(storage: Storage, number: int, source: int | None) -> str:
    """What is said of a storage that may be added."""
    return (
        f"Images are in a storage that project {number} lacks ({storage}). They are shown as long as "
        f"project {source} and its tasks exist; --write adds the storage to project {number}."
    )

"""Storages that images are read from: found in one project, added to another."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imil_backend.label_studio.api.calls import Requests
from imil_backend.label_studio.storage_kinds import STORAGE_KINDS

# What Label Studio itself keeps of a storage.
_ITS_OWN = {
    "id", "type", "project", "created_at", "synchronizable", "last_sync", "last_sync_count", "last_sync_job",
    "status", "traceback", "meta",
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """A storage of a project, without its credentials.

    Attributes:
        kind: a name in STORAGE_KINDS.
        number: its id among those of its kind.
        settings: what one enters to add it.
    """

    kind: str
    number: int
    settings: Mapping[str, Any]

    @property
    def place(self) -> dict[str, str]:
        """Where it is; two storages of one place hold the same images."""
        return {field: str(self.settings.get(field) or "") for field in STORAGE_KINDS[self.kind].place}

    def __str__(self) -> str:
        place = (f"{field} {value}" for field, value in self.place.items() if value)
        return f"{self.kind}: {', '.join(place)}"


def storages(client: Requests, project: int) -> list[Storage]:
    """All storages that a project reads images from."""
    return [
        Storage(kind, int(found["id"]), {key: found[key] for key in found if key not in _ITS_OWN})
        for kind in STORAGE_KINDS
        for found in client.request("GET", f"/api/storages/{kind}", params={"project": project})
    ]


def missing_storages(client: Requests, source: int, target: int) -> list[Storage]:
    """The storages that the source project has and the target lacks."""
    there = [(storage.kind, storage.place) for storage in storages(client, target)]
    return [each for each in storages(client, source) if (each.kind, each.place) not in there]


def add_storage(client: Requests, project: int, storage: Storage, credentials: Mapping[str, str]) -> None:
    """Add a storage to a project; it is not synced, so that no tasks come of it.

    Raises:
        LabelStudioError: Label Studio refuses, or cannot read from there with these credentials.
    """
    body = {**storage.settings, **credentials, "project": project}
    client.request("POST", f"/api/storages/{storage.kind}/", body=body)


def remove_storages(client: Requests, project: int, kind: str, place: Mapping[str, str]) -> None:
    """Remove what there is of a place from a project."""
    for storage in storages(client, project):
        if (storage.kind, storage.place) == (kind, place):
            client.request("DELETE", f"/api/storages/{kind}/{storage.number}")


def address_in(client: Requests, project: int) -> Callable[[str], str]:
    """How an image is best addressed in a project's tasks.

    What Label Studio serves by way of the task that it was imported from (/tasks/ID/resolve/) needs that
    task. By its own address in a storage (s3://...) it does not, where the project has the storage.
    """
    buckets = set()
    for storage in storages(client, project):
        kind = STORAGE_KINDS[storage.kind]
        if kind.scheme:
            buckets.add(f"{kind.scheme}://{storage.settings.get(kind.place[0])}")

    def best(address: str) -> str:
        stored = _stored_address(address)
        parts = urlsplit(stored)
        return stored if f"{parts.scheme}://{parts.netloc}" in buckets else address

    return best


def _stored_address(address: str) -> str:
    parts = urlsplit(address)
    encoded = parse_qs(parts.query).get("fileuri", [""])[0] if parts.path.endswith("/resolve/") else ""
    try:
        return base64.urlsafe_b64decode(encoded).decode()
    except (binascii.Error, ValueError):
        return ""

"""Storages that images are read from. Label Studio serves their images to projects that have the storage."""

from __future__ import annotations

from typing import Any

from imil_backend.label_studio.calls import Requests

# By kind, the fields that say where the storage is; credentials can be written, but never read.
_PLACES = {
    "s3": ("bucket", "prefix", "region_name", "s3_endpoint"),
    "gcs": ("bucket", "prefix"),
    "azure": ("container", "prefix"),
    "redis": ("host", "path"),
    "localfiles": ("path",),
}


def missing_storages(client: Requests, source: int, target: int) -> list[str]:
    """The storages that the source project has and the target lacks, as one enters them.

    Args:
        client: of a user who may see both projects.
        source: the project that the images' addresses come from.
        target: the project that is to show them.
    """
    return [
        f"{kind} storage: " + ", ".join(f"{field} {value}" for field, value in place if value)
        for kind, fields in _PLACES.items()
        for place in sorted(_places(client, kind, fields, source) - _places(client, kind, fields, target))
    ]


def _places(
    client: Requests, kind: str, fields: tuple[str, ...], project: int
) -> set[tuple[tuple[str, str], ...]]:
    storages: list[dict[str, Any]] = client.request(
        "GET", f"/api/storages/{kind}", params={"project": project}
    )
    return {tuple((field, str(storage.get(field) or "")) for field in fields) for storage in storages}

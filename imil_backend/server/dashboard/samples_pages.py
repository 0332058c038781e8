"""The samples of a dataset, and their thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response

from imil_backend.loop.dashboard.samples.thumbnails import thumbnail as read_thumbnail

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_samples_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/thumbnails/<key>.jpg")
    def thumbnail(dataset_id: int, key: str) -> Response:
        return Response(read_thumbnail(backend, dataset_id, key), mimetype="image/jpeg")

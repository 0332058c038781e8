"""The versions of a dataset, a version, and its plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template

from imil_backend.loop.dashboard.versions import plot_of, version_page, versions_of
from imil_backend.server.dashboard.layout import drawing

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_version_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/versions")
    def versions(dataset_id: int) -> str:
        page = versions_of(backend, dataset_id)
        return render_template("dashboard/versions.html", page=page, dataset_id=dataset_id)

    @pages.get("/datasets/<int:dataset_id>/versions/<int:version_id>")
    def version(dataset_id: int, version_id: int) -> str:
        page = version_page(backend, dataset_id, version_id)
        return render_template("dashboard/version.html", page=page, dataset_id=dataset_id)

    @pages.get("/datasets/<int:dataset_id>/versions/<int:version_id>/plots/<file>")
    def version_plot(dataset_id: int, version_id: int, file: str) -> Response:
        return drawing(file, plot_of(backend, dataset_id, version_id, file))

"""The start page: the datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from imil_backend.loop.dashboard.overview.start import start as shown_at_start
from imil_backend.server.dashboard.static_copy import current_copy

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_start_page(pages: Blueprint, backend: Backend) -> None:
    """Add the page to the blueprint."""

    @pages.get("/", strict_slashes=False)
    def start() -> str:
        copy = current_copy()
        page = shown_at_start(backend, copy.datasets if copy else None)
        return render_template("dashboard/start.html", page=page)

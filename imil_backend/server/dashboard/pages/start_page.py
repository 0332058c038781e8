"""The start page: the datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from imil_backend.loop.dashboard.overview.start import start as shown_at_start

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_start_page(pages: Blueprint, backend: Backend) -> None:
    """Add the page to the blueprint."""

    @pages.get("/", strict_slashes=False)
    def start() -> str:
        return render_template("dashboard/start.html", page=shown_at_start(backend))

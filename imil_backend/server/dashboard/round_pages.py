"""The list of rounds, and a round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from imil_backend.loop.dashboard.rounds import rounds_of

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_round_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/rounds")
    def rounds(dataset_id: int) -> str:
        return render_template("dashboard/rounds.html", page=rounds_of(backend, dataset_id))

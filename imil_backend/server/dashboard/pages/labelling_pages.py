"""What is asked, and who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from imil_backend.loop.dashboard.overview.annotators import annotators_of
from imil_backend.loop.dashboard.overview.queue import queue_of

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_labelling_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/queue")
    def queue(dataset_id: int) -> str:
        page = queue_of(backend, dataset_id)
        return render_template("dashboard/queue.html", page=page, dataset_id=dataset_id)

    @pages.get("/datasets/<int:dataset_id>/annotators")
    def annotators(dataset_id: int) -> str:
        return render_template("dashboard/annotators.html", page=annotators_of(backend, dataset_id))

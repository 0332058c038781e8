"""The samples of a dataset, and their thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request

from imil_backend.learning.contract.training_job import SPLITS
from imil_backend.loop.dashboard.given_answers import WORDS
from imil_backend.loop.dashboard.samples.grid import MODEL, ORDERS, Asked, grid_of
from imil_backend.loop.dashboard.samples.thumbnails import thumbnail as read_thumbnail
from imil_backend.server.dashboard.static_copy import current_copy

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


# The choices that a static copy has a page of, by their titles.
_LISTS = [
    *((f"model {title}", {"model": name}) for name, (title, _) in MODEL.items()),
    *((f"answer: {words}", {"answer": answer}) for answer, words in WORDS.items()),
    ("annotators disagree", {"disagree": "1"}),
]


def add_samples_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/samples")
    def samples(dataset_id: int) -> str:
        copy = current_copy()
        listed = copy.listed[dataset_id] if copy else None
        page = grid_of(backend, dataset_id, _asked(), among=listed.ids if listed else None)
        given = {name: value for name, value in request.args.items() if value and name != "page"}
        return render_template(
            "dashboard/samples.html", page=page, dataset_id=dataset_id, given=given, listed=listed,
            splits=SPLITS, models=MODEL, orders=ORDERS, answers=WORDS, lists=_LISTS,
        )  # fmt: skip

    @pages.get("/datasets/<int:dataset_id>/thumbnails/<key>.jpg")
    def thumbnail(dataset_id: int, key: str) -> Response:
        return Response(read_thumbnail(backend, dataset_id, key), mimetype="image/jpeg")


def _asked() -> Asked:
    """What the address says; what it does not say, or says wrongly, chooses nothing."""
    words = {
        name: request.args.get(name) or None for name in ("label", "split", "model", "answer", "annotator")
    }
    return Asked(
        **words,
        round=request.args.get("round", type=int),
        disagree="disagree" in request.args,
        order=request.args.get("order", "import"),
        page=request.args.get("page", 1, int),
    )

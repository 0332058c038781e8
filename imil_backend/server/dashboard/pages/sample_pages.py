"""A sample, and its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request

from imil_backend.loop.dashboard.pictures import MIMETYPE
from imil_backend.loop.dashboard.samples.one_sample import sample_page
from imil_backend.loop.dashboard.samples.sample_pictures import answer_picture, sample_picture

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

_SAMPLE = "/datasets/<int:dataset_id>/samples/<key>"


def add_sample_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get(_SAMPLE)
    def sample(dataset_id: int, key: str) -> str:
        number = request.args.get("round", type=int)
        return render_template("dashboard/sample.html", page=sample_page(backend, dataset_id, key, number))

    @pages.get(f"{_SAMPLE}/<kind>.jpg")
    def sample_image(dataset_id: int, key: str, kind: str) -> Response:
        return Response(sample_picture(backend, dataset_id, key, kind), mimetype=MIMETYPE)

    @pages.get(f"{_SAMPLE}/answers/<int:annotation_id>.jpg")
    def sample_answer(dataset_id: int, key: str, annotation_id: int) -> Response:
        return Response(answer_picture(backend, dataset_id, key, annotation_id), mimetype=MIMETYPE)

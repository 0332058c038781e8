"""The list of rounds, a round, where its versions looked, and the pictures of all three."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request

from imil_backend.loop.dashboard.pictures import MIMETYPE
from imil_backend.loop.dashboard.rounds.listed import rounds_of
from imil_backend.loop.dashboard.rounds.one_round import GALLERY, is_latest, round_page
from imil_backend.loop.dashboard.rounds.round_pictures import drawn, has_evidence, round_picture
from imil_backend.loop.dashboard.rounds.where_it_looks import reasons_page
from imil_backend.server.dashboard.layout import drawing, link_to

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

_ROUND = "/datasets/<int:dataset_id>/rounds/<int:number>"


def add_round_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint."""

    @pages.get("/datasets/<int:dataset_id>/rounds")
    def rounds(dataset_id: int) -> str:
        return render_template("dashboard/rounds.html", page=rounds_of(backend, dataset_id))

    @pages.get(_ROUND)
    def one_round(dataset_id: int, number: int) -> str:
        page = round_page(backend, dataset_id, number, named=True)

        def changed(model: str) -> str | None:
            """All samples that became right or wrong; the page of samples knows them of the latest round."""
            latest = is_latest(backend, dataset_id, number)
            return link_to("samples", dataset_id=dataset_id, model=model) if latest else None

        own = {"dataset_id": dataset_id, "number": number}
        return render_template(
            "dashboard/round.html",
            page=page,
            evidence=has_evidence(backend, dataset_id, number),
            most=GALLERY,
            drawn=lambda name: link_to("round_drawing", name=name, **own),
            picture=lambda key, kind: link_to("round_sample", key=key, kind=kind, **own),
            asked_page=lambda: link_to("samples", dataset_id=dataset_id, round=number),
            changed_page=changed,
            version_page=lambda number: link_to("version", dataset_id=dataset_id, version_id=number),
            sample_page=lambda key: link_to("sample", dataset_id=dataset_id, key=key, round=number),
        )

    @pages.get("/datasets/<int:dataset_id>/reasons")
    def reasons(dataset_id: int) -> str:
        page = reasons_page(backend, dataset_id, request.args.get("round", type=int))
        own = {"dataset_id": dataset_id, "number": page.round}
        return render_template(
            "dashboard/reasons.html",
            page=page,
            reasons=page.reasons,
            drawn=lambda name: link_to("round_drawing", name=name, **own),
        )

    @pages.get(f"{_ROUND}/drawn/<name>")
    def round_drawing(dataset_id: int, number: int, name: str) -> Response:
        return drawing(name, drawn(backend, dataset_id, number, name))

    @pages.get(f"{_ROUND}/samples/<key>/<kind>.jpg")
    def round_sample(dataset_id: int, number: int, key: str, kind: str) -> Response:
        return Response(round_picture(backend, dataset_id, number, key, kind), mimetype=MIMETYPE)

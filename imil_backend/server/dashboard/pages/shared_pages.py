"""What a signed link opens: one round, its pictures, and nothing else. Without user and password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request

from imil_backend.errors import NotFoundError
from imil_backend.loop.dashboard.pictures import MIMETYPE
from imil_backend.loop.dashboard.rounds.one_round import GALLERY, round_page
from imil_backend.loop.dashboard.rounds.round_pictures import (
    drawn,
    gallery_keys,
    has_evidence,
    round_picture,
)
from imil_backend.loop.evaluation.shared_round import round_of_link
from imil_backend.server.dashboard.layout import drawing, link_to

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend


def add_shared_pages(pages: Blueprint, backend: Backend) -> None:
    """Add the pages to the blueprint; each looks at the link first."""

    def asked() -> tuple[int, int]:
        """The dataset and the number of the round that the link opens."""
        with backend.store.begin() as session:
            round_ = round_of_link(backend, session, _link())
            return round_.dataset_id, round_.number

    @pages.get("/shared/round")
    def shared_round() -> str:
        dataset_id, number = asked()
        return render_template(
            "dashboard/shared.html",
            page=round_page(backend, dataset_id, number),
            evidence=has_evidence(backend, dataset_id, number),
            most=GALLERY,
            drawn=lambda name: link_to("shared_drawing", name=name, link=_link()),
            picture=lambda key, kind: link_to("shared_sample", key=key, kind=kind, link=_link()),
        )

    @pages.get("/shared/drawn/<name>")
    def shared_drawing(name: str) -> Response:
        return drawing(name, drawn(backend, *asked(), name))

    @pages.get("/shared/samples/<key>/<kind>.jpg")
    def shared_sample(key: str, kind: str) -> Response:
        dataset_id, number = asked()
        if key not in gallery_keys(backend, dataset_id, number):
            raise NotFoundError("The round of this link does not show that sample.")
        return Response(round_picture(backend, dataset_id, number, key, kind), mimetype=MIMETYPE)


def _link() -> str:
    return request.args.get("link", "")

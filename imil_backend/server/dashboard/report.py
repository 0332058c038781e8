"""A round as one HTML file with its pictures inside, which works when it is mailed."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.pictures import MIMETYPE
from imil_backend.loop.dashboard.rounds.one_round import GALLERY, round_page
from imil_backend.loop.dashboard.rounds.round_pictures import drawn, has_evidence, round_picture
from imil_backend.server.dashboard.layout import mimetype_of, moment, with_code

_HERE = Path(__file__).parent


def round_report(backend: Backend, dataset_id: int, number: int) -> str:
    """Render a round's report.

    Raises:
        NotFoundError: there is no such dataset or round.
        ImageError: an image cannot be read.
    """
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    templates.filters.update(moment=moment, with_code=with_code)
    return templates.get_template("dashboard/report.html").render(
        page=round_page(backend, dataset_id, number),
        evidence=has_evidence(backend, dataset_id, number),
        most=GALLERY,
        style=(_HERE / "assets" / "dashboard.css").read_text(encoding="utf-8"),
        drawn=lambda name: _inside(drawn(backend, dataset_id, number, name), mimetype_of(name)),
        picture=lambda key, kind: _inside(round_picture(backend, dataset_id, number, key, kind), MIMETYPE),
    )


def _inside(data: bytes, mimetype: str) -> str:
    return f"data:{mimetype};base64,{b64encode(data).decode()}"

"""A round as one HTML file with its pictures inside, which works when it is mailed."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable
from html import escape
from pathlib import Path
from textwrap import wrap

from jinja2 import Environment, FileSystemLoader

from imil_backend.errors import ImageError, NotFoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.pictures import MIMETYPE, SIDE
from imil_backend.loop.dashboard.rounds.one_round import GALLERY, round_page
from imil_backend.loop.dashboard.rounds.round_pictures import drawn, has_evidence, round_picture
from imil_backend.server.dashboard.layout import mimetype_of, moment, with_code

_HERE = Path(__file__).parent
_COLUMNS, _LINE_HEIGHT = 44, 20  # of a reason that stands in the place of a picture: characters, pixels

logger = logging.getLogger(__name__)


def round_report(backend: Backend, dataset_id: int, number: int) -> str:
    """Render a round's report. In the place of a picture that cannot be made stands the reason.

    Raises:
        NotFoundError: there is no such dataset or round.
    """
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)
    templates.filters.update(moment=moment, with_code=with_code)
    return templates.get_template("dashboard/report.html").render(
        page=round_page(backend, dataset_id, number),
        evidence=has_evidence(backend, dataset_id, number),
        most=GALLERY,
        style=(_HERE / "assets" / "dashboard.css").read_text(encoding="utf-8"),
        drawn=lambda name: _picture(lambda: drawn(backend, dataset_id, number, name), mimetype_of(name)),
        picture=lambda key, kind: _picture(
            lambda: round_picture(backend, dataset_id, number, key, kind), MIMETYPE
        ),
    )


def _picture(make: Callable[[], bytes], mimetype: str) -> str:
    try:
        return _inside(make(), mimetype)
    except (ImageError, NotFoundError, OSError) as error:
        logger.warning("A picture of the report cannot be made: %s", error)
        why = error.strerror if isinstance(error, OSError) else error  # the file is mailed, without our paths
        return _inside(_written(f"This picture cannot be made: {why}"), "image/svg+xml")


def _written(reason: str) -> bytes:
    """A reason as an SVG; a file's name in it may hold what no XML can."""
    printable = "".join(each if each.isprintable() else "?" for each in reason)
    lines = [
        f'<text x="12" y="{number * _LINE_HEIGHT}">{escape(line)}</text>'
        for number, line in enumerate(wrap(printable, _COLUMNS), start=1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{(len(lines) + 1) * _LINE_HEIGHT}" '
        f'font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="#ddd"/>'
        f"{''.join(lines)}</svg>"
    ).encode()


def _inside(data: bytes, mimetype: str) -> str:
    return f"data:{mimetype};base64,{b64encode(data).decode()}"

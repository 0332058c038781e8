"""What all pages of the dashboard share: addresses, navigation, headers, and the page of an error."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from posixpath import dirname, relpath, split
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, render_template, request, url_for
from markupsafe import Markup, escape

from imil_backend.loop.dashboard.datasets import datasets
from imil_backend.server.dashboard.static_copy import current_copy

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

PREFIX = "/dashboard"
# Pages hold no script and no style of their own, and load nothing from elsewhere: a name that was taken for
# HTML could do nothing. Patients' images stay in no cache.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
CACHING = "private, no-store"


def is_dashboard(path: str) -> bool:
    """Whether an address belongs to the dashboard, be there a page or not."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def link_to(endpoint: str, **values: Any) -> str:
    """The address of a page of the dashboard as seen from the one that is asked for.

    It holds no host and no root: a proxy may serve the backend under a path of its own. In a static copy it
    is the page's file.

    Args:
        endpoint: name of the page's function.
        values: of its route; others go into the query.
    """
    address, copy = url_for(f"dashboard.{endpoint}", **values), current_copy()
    target = urlsplit(copy.file_of(address) if copy else address)
    folder, name = split(target.path)
    path = f"{relpath(folder, dirname(request.path))}/{name}"
    return f"{path}?{target.query}" if target.query else path


def known_to_templates(backend: Backend) -> dict[str, Any]:
    """What every template can use; `navigation` asks the store, so a page of an error goes without."""

    copy = current_copy()

    def navigation() -> dict[str, Any]:
        listed = [each for each in datasets(backend) if copy is None or each.id in copy.datasets]
        asked = (request.view_args or {}).get("dataset_id", listed[0].id if len(listed) == 1 else None)
        return {"datasets": listed, "dataset": next((each for each in listed if each.id == asked), None)}

    return {"link_to": link_to, "navigation": navigation, "copy": copy}


def moment(value: datetime) -> str:
    """A moment for people."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def with_code(text: str) -> Markup:
    """A text in which commands stand between backticks, as in all of our messages."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    )


def drawing(name: str, data: bytes) -> Response:
    """A plot or picture that was drawn beforehand; an SVG has the styles that it was drawn with."""
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(data, mimetype=mimetype_of(name), headers=policy if name.endswith(".svg") else None)


def mimetype_of(name: str) -> str:
    """Of a plot or picture that was drawn beforehand."""
    return "image/svg+xml" if name.endswith(".svg") else "image/png"


def error_page(message: str, status: int) -> str:
    """An error as a page.

    Args:
        message: says what happened and what to do.
        status: of HTTP.
    """
    return render_template("dashboard/error.html", title=HTTPStatus(status).phrase, message=message)


def with_headers(response: Response) -> Response:
    """An answer with what browsers must know of the dashboard's pages and images."""
    if is_dashboard(request.path):
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["Cache-Control"] = CACHING
    return response

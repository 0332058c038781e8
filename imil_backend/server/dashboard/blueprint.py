"""Puts the pages of the dashboard together, under /dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response
from werkzeug.exceptions import NotFound

from imil_backend.server.dashboard.layout import (
    PREFIX,
    known_to_templates,
    moment,
    with_code,
    with_headers,
)
from imil_backend.server.dashboard.pages.labelling_pages import add_labelling_pages
from imil_backend.server.dashboard.pages.machine_page import add_machine_page
from imil_backend.server.dashboard.pages.round_pages import add_round_pages
from imil_backend.server.dashboard.pages.sample_pages import add_sample_pages
from imil_backend.server.dashboard.pages.samples_pages import add_samples_pages
from imil_backend.server.dashboard.pages.shared_pages import add_shared_pages
from imil_backend.server.dashboard.pages.start_page import add_start_page
from imil_backend.server.dashboard.pages.version_pages import add_version_pages

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

_ASSETS = Path(__file__).parent / "assets"
_MIMETYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add_dashboard(app: Flask, backend: Backend) -> None:
    """Add the dashboard to an application. Its routes are GET; who may call is checked before."""
    pages = Blueprint("dashboard", __name__, url_prefix=PREFIX, template_folder="templates")
    assets = {path.name: path.read_bytes() for path in _ASSETS.iterdir() if path.suffix in _MIMETYPES}

    @pages.get("/assets/<name>")
    def asset(name: str) -> Response:
        if name not in assets:
            raise NotFound
        return Response(assets[name], mimetype=_MIMETYPES[Path(name).suffix])

    add_start_page(pages, backend)
    add_round_pages(pages, backend)
    add_shared_pages(pages, backend)
    add_samples_pages(pages, backend)
    add_labelling_pages(pages, backend)
    add_sample_pages(pages, backend)
    add_version_pages(pages, backend)
    add_machine_page(pages, backend)
    pages.app_context_processor(lambda: known_to_templates(backend))
    pages.add_app_template_filter(moment)
    pages.add_app_template_filter(with_code)
    app.register_blueprint(pages)
    app.after_request(with_headers)

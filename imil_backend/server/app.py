"""The Flask application: puts the endpoints together and turns every error into JSON, or into a page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Flask, request
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from imil_backend.config import Settings
from imil_backend.errors import (
    DatasetError,
    ImageError,
    ImilError,
    LabelStudioError,
    LabelStudioUnreachableError,
    LearningError,
    MaskError,
    NotFoundError,
    RoundError,
    StoreError,
)
from imil_backend.server.auth import BasicAuth, Gate, MetricsAccess, OwnNames
from imil_backend.server.body import bound_bodies
from imil_backend.server.dashboard.layout import error_page, is_dashboard
from imil_backend.server.ml_api import ml_api
from imil_backend.server.monitoring.endpoints import add_monitoring
from imil_backend.server.proxy_login import ProxyLogin
from imil_backend.server.webhook import webhook

if TYPE_CHECKING:
    from imil_backend.loop.running.events import Events
    from imil_backend.loop.serving.predictions import PredictionService

STATUS: dict[type[ImilError], int] = {
    NotFoundError: 404,
    RoundError: 409,
    DatasetError: 409,
    ImageError: 422,
    MaskError: 422,
    LabelStudioUnreachableError: 503,
    LabelStudioError: 502,
    StoreError: 503,
    LearningError: 503,
    ImilError: 500,
}

Headers = Sequence[tuple[str, str]]
Answer = tuple[dict[str, str] | str, int, Headers]

TOO_MUCH = "imil.too_much"  # in the environ of a request whose body the edge does not take any more
GATE = "imil_gate"  # under which an application keeps its own

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings, *, champion: PredictionService | None = None, events: Events | None = None
) -> Flask:
    """Build the backend's web application; torch is loaded in the background, where a champion answers.

    Args:
        settings: those of this process.
        champion: what answers predictions; the loop's own by default.
        events: what takes events; the loop's own by default.

    Raises:
        SettingsError: the backend would be reachable from other machines without user and password.
        StoreError: the store cannot be opened.
    """
    basic_auth = BasicAuth.from_settings(settings)
    backend = None
    if champion is None or events is None:
        from imil_backend.loop.base.backend import Backend
        from imil_backend.loop.running.events import Events
        from imil_backend.loop.serving.predictions import PredictionService

        backend = Backend(settings)
        events = events or Events(backend)
        if champion is None:
            champion = PredictionService(backend)
            champion.load_ahead()

    app = Flask("imil_backend.server", static_folder=None)
    bound_bodies(app, settings.max_body_bytes)
    add_monitoring(app, backend)
    app.register_blueprint(ml_api(champion, events))
    app.register_blueprint(webhook(events))
    if backend is not None:
        from imil_backend.server.dashboard.blueprint import add_dashboard

        add_dashboard(app, backend)
    metrics_access = MetricsAccess.from_settings(settings)
    gate = Gate(
        OwnNames.from_settings(settings),
        basic_auth,
        metrics_access,
        ProxyLogin.from_settings(settings),
        events.secrets,
    )
    app.extensions[GATE] = gate

    @app.before_request
    def authenticate() -> None:
        gate.check(request)

    @app.before_request
    def refuse_too_much() -> None:
        if TOO_MUCH in request.environ:
            raise ServiceUnavailable("Too much is being sent at once: ask again in a moment.")

    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ImilError, _own_error)
    app.register_error_handler(Exception, _unexpected_error)
    return app


def _http_error(error: HTTPException) -> Answer:
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return _told(error.description or error.name, error.code or 500, headers)


def _own_error(error: ImilError) -> Answer:
    body, status = answer_to(error)
    return _told(body["error"], status)


def answer_to(error: ImilError) -> tuple[dict[str, str], int]:
    """The body and the status of an error of ours."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    logger.warning("%s answered %d: %s", request.path, status, error)
    return {"error": str(error)}, status


def _unexpected_error(error: Exception) -> Answer:
    logger.error("%s failed", request.path, exc_info=error)
    return _told("The backend failed; see its log.", 500)


def _told(message: str, status: int, headers: Headers = ()) -> Answer:
    """An error as JSON; to a person who looks at the dashboard, as a page."""
    body = error_page(message, status) if is_dashboard(request.path) else {"error": message}
    return body, status, list(headers)

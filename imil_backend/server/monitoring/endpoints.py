"""Puts the endpoints of monitoring into an application."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, request

from imil_backend.json_logs import set_log_fields

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

# What the edge tells of a request, in its environ: an id, and when it was there whole (`time.perf_counter`).
REQUEST_ID = "imil.request_id"
ARRIVED = "imil.arrived"


def add_monitoring(app: Flask, backend: Backend | None) -> None:
    """Add /metrics, with the loop's backend also /ready, and let the records of a request carry its id."""

    @app.before_request
    def begin() -> None:
        set_log_fields(request=request.environ.get(REQUEST_ID))

    # Imported here, in each web process: see `multiprocess_folder`.
    from imil_backend.server.monitoring.metrics import add_metrics

    if backend is None:
        add_metrics(app, None)
        return
    from imil_backend.loop.monitoring.figures import LoopFigures
    from imil_backend.loop.monitoring.readiness import check_readiness
    from imil_backend.server.monitoring.readiness import readiness

    add_metrics(app, LoopFigures(backend))
    app.register_blueprint(readiness(partial(check_readiness, backend)))

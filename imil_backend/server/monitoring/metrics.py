"""/metrics for Prometheus: what this server has answered, and the figures of the loop.

With several web processes, each keeps its counts in a folder that all read (the multiprocess mode of
prometheus-client, which `multiprocess_folder` prepares). It takes no collectors, so the figures of the loop
have a registry of their own.
"""

from __future__ import annotations

import os
import time

from flask import Blueprint, Flask, Request, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from imil_backend.server.auth import METRICS
from imil_backend.server.monitoring.endpoints import ARRIVED
from imil_backend.server.monitoring.folder import MULTIPROCESS_VARIABLE

# 1 s is Label Studio's deadline for webhooks and /health, 3 s that for /setup, 100 s that for predictions.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0, 10.0, 30.0, 100.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
_WEBHOOK, _PREDICT = "webhook.receive", "ml_api.predict"


class RequestMetrics:
    """Counts and times what an application answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "imil_http_requests",
            "Requests that were answered.",
            ("method", "endpoint", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "imil_http_request_duration_seconds",
            "Time from the end of a request to its answer.",
            ("endpoint",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._events = Counter(
            "imil_webhook_events",
            "Label Studio's events: recorded, ignored (not ours, or not used), training (its button), "
            "refused, failed.",
            ("outcome",),
            registry=self.registry,
        )
        self._predictions = Counter(
            "imil_predictions",
            "Requests for predictions: answered, refused (also because too many are in progress), failed.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in ("recorded", "ignored", "training", "refused", "failed"):
            self._events.labels(outcome)
        for outcome in ("answered", "refused", "failed"):
            self._predictions.labels(outcome)

    def observe(self, app: Flask) -> None:
        """Count and time all requests of an application from now on."""

        @app.before_request
        def begin() -> None:
            g.began = request.environ.get(ARRIVED, time.perf_counter())

        @app.after_request
        def end(response: Response) -> Response:
            self._count(request, response, time.perf_counter() - g.began)
            return response

    def _count(self, request: Request, response: Response, seconds: float) -> None:
        # The rule, never the path: anybody can make up paths, and each would be a series.
        endpoint = request.url_rule.rule if request.url_rule is not None else "other"
        method = request.method if request.method in _METHODS else "other"
        self._requests.labels(method, endpoint, str(response.status_code)).inc()
        self._seconds.labels(endpoint).observe(seconds)
        if request.endpoint == _WEBHOOK:
            self._events.labels(_event_outcome(response)).inc()
        elif request.endpoint == _PREDICT:
            self._predictions.labels(_prediction_outcome(response.status_code)).inc()


def _event_outcome(response: Response) -> str:
    if response.status_code >= 500:
        return "failed"
    if response.status_code >= 400:
        return "refused"
    if response.status_code == 201:
        return "training"
    return "recorded" if response.get_json()["accepted"] else "ignored"


def _prediction_outcome(status: int) -> str:
    if status < 400:
        return "answered"
    return "refused" if status < 500 or status == 503 else "failed"


def metrics(*registries: CollectorRegistry) -> Blueprint:
    """Build the endpoint; it shows these registries, one after the other. Who may ask is checked before."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get(METRICS)
    def scrape() -> Response:
        shown = b"".join(generate_latest(registry) for registry in registries)
        return Response(shown, content_type=CONTENT_TYPE_LATEST)

    return blueprint


def add_metrics(app: Flask, figures: Collector | None) -> None:
    """Count an application's requests, and show them and the figures of the loop at /metrics."""
    ours = RequestMetrics()
    ours.observe(app)
    of_all_processes = ours.registry
    if MULTIPROCESS_VARIABLE in os.environ:
        of_all_processes = CollectorRegistry()
        MultiProcessCollector(of_all_processes)  # type: ignore[no-untyped-call]
    of_the_loop = CollectorRegistry()
    if figures is not None:
        of_the_loop.register(figures)
    app.register_blueprint(metrics(of_all_processes, of_the_loop))

"""Tests both directions in a temporary Label Studio project."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from imil_backend.config import SECRET_HEADER
from imil_backend.errors import ImilError
from imil_backend.images.masks.masks import mask_to_png
from imil_backend.label_studio.api.webhooks import basic_auth_of, ensure_ml_backend, ensure_webhook
from imil_backend.label_studio.labeling.label_config import NOTHING_TO_BLACK_OUT, load_label_config
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.existing import ML_BACKEND_TITLE
from imil_backend.loop.upkeep.check_results import CheckResult, Outcome, State, look

TITLE = "IMIL doctor (may be deleted)"
DELIVERY_SECONDS = 5.0


def probe_label_studio(backend: Backend) -> Iterator[CheckResult]:
    """Upload, register and annotate, and see whether Label Studio calls back."""
    try:
        number = backend.label_studio.create_project(TITLE, load_label_config("blackout"), "")
    except ImilError as error:
        yield CheckResult("project", State.FAILED, str(error))
        return
    try:
        yield look("images", lambda: _images(backend, number))
        with _listening(backend) as received:
            webhook = look("webhook", lambda: _webhook(backend, number))
            yield webhook
            if webhook.state is State.OK:
                yield look("callback", lambda: _callback(backend, number, received))
                yield look("ML backend", lambda: _ml_backend(backend, number))
    finally:
        left = _delete(backend, number)
    if left:
        yield CheckResult("project", State.WARNING, left)


def _delete(backend: Backend, number: int) -> str:
    """Delete the project; returns a message if that failed."""
    try:
        backend.label_studio.request("DELETE", f"/api/projects/{number}/")
    except ImilError as error:
        return f"Project {number}, {TITLE!r}, could not be deleted ({error}) Delete it there."
    return ""


def _images(backend: Backend, number: int) -> Outcome:
    """Up and down again."""
    image = mask_to_png(np.zeros((6, 8), dtype=np.bool_))
    path = backend.label_studio.upload_image(number, "doctor.png", image)
    if backend.label_studio.download(path) != image:
        return State.FAILED, "An uploaded image came back changed. Is there a proxy in between?"
    data = {"image": path, "label": "", "predicted": "", "confidence": "", "note": "", "round": 0}
    backend.label_studio.import_tasks(number, [{"data": data}])
    return State.OK, "An image was uploaded and came back."


def _webhook(backend: Backend, number: int) -> Outcome:
    """SSRF protection and a host name without a dot show here."""
    ensure_webhook(backend.label_studio, number, backend.settings.own_url, backend.webhook_secrets[0])
    return State.OK, "Label Studio accepts the webhook's URL."


def _callback(backend: Backend, number: int, received: threading.Event | None) -> Outcome:
    """An annotation is made, and its webhook received."""
    if received is None:
        return State.OK, (
            f"Not tested: port {backend.settings.port} is in use, probably by `imil serve`. The next "
            "check shows whether Label Studio reaches it."
        )
    task = next(backend.label_studio.tasks(number), None)
    if task is None:
        return State.FAILED, "There is no task to annotate, since no image could be uploaded."
    choice = {"type": "choices", "value": {"choices": [NOTHING_TO_BLACK_OUT]}}
    region = {"from_name": "review", "to_name": "image", **choice}
    backend.label_studio.create_annotation(int(task["id"]), [region], 1.0)
    if received.wait(DELIVERY_SECONDS):
        return State.OK, "A webhook of Label Studio arrived here."
    return State.FAILED, (
        f"No webhook arrived at {backend.settings.own_url}. Can Label Studio reach it: firewall, container "
        "network, proxy? Set IMIL_PUBLIC_URL to this backend's URL as Label Studio reaches it. Until "
        f"then answers are found by reconciliation, every {backend.settings.reconcile_minutes} minutes."
    )


def _ml_backend(backend: Backend, number: int) -> Outcome:
    """Label Studio asks the address for its health before it takes it."""
    auth = basic_auth_of(backend.settings)
    ensure_ml_backend(backend.label_studio, number, backend.settings.own_url, ML_BACKEND_TITLE, auth)
    return State.OK, f"Label Studio reaches {backend.settings.own_url}."


@contextmanager
def _listening(backend: Backend) -> Iterator[threading.Event | None]:
    """Answer in the server's place; the event tells of a webhook. None where its port is taken."""
    received = threading.Event()
    secret = backend.webhook_secrets[0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "UP", "model_version": "doctor"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/webhook") and self.headers.get(SECRET_HEADER) == secret:
                received.set()
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: headers hold the secret."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in backend.settings.host else socket.AF_INET

    try:
        server = Server((backend.settings.host, backend.settings.port), Handler)
    except OSError:
        yield None
        return
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

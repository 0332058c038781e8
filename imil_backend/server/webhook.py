"""/webhook: takes Label Studio's events, records each as a hint, and answers at once.

Label Studio sends an event once, inside the clinician's click, and waits 1 s. Whoever has the secret gets
a 2xx whatever the event says, since later versions of Label Studio switch a webhook off after too many
other answers; a store that is down gets 503, so that Label Studio's log tells of it. Only what no Label
Studio writes (an id that is true, text that is no Unicode) gets 400.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest, ClientDisconnected, Unauthorized

from imil_backend.config import SECRET_HEADER
from imil_backend.server.auth import WEBHOOK, has_secret
from imil_backend.server.body import parse_object, project_id, read_bytes, read_object

if TYPE_CHECKING:
    from imil_backend.loop.running.events import Events

START_TRAINING = "START_TRAINING"

logger = logging.getLogger(__name__)


def webhook(events: Events) -> Blueprint:
    """Build the endpoint that Label Studio's webhooks, and its "Start training" button, call."""
    hook = Blueprint("webhook", __name__)

    @hook.post(WEBHOOK)
    def receive() -> tuple[dict[str, Any], int]:
        if has_secret(request, events.secrets()):
            return _record(events)
        # The button comes through the ML connector: with the user and password, but without our header.
        body = read_object(request)
        if body.get("action") != START_TRAINING:
            raise Unauthorized(
                f"The {SECRET_HEADER} header is missing or wrong. `imil push` registers the webhook with its "
                "secret; delete other webhooks to this address in Label Studio."
            )
        return {"job": events.start_training(_project_of(body))}, 201

    return hook


def _record(events: Events) -> tuple[dict[str, Any], int]:
    payload = parse_object(_received())
    if payload is None:
        logger.warning("A webhook body was empty or truncated; reconciliation finds what it reported.")
    receipt = events.record(payload or {})
    if receipt.malformed:
        raise BadRequest(receipt.reason)
    return {"accepted": receipt.accepted, "reason": receipt.reason, "jobs": receipt.workflow_ids}, 200


def _received() -> bytes:
    try:
        return read_bytes(request)
    except ClientDisconnected:
        # Label Studio gave up in the middle of a large body. It told that something happened all the same.
        return b""


def _project_of(body: Mapping[str, Any]) -> int:
    project = body.get("project")
    found = project_id(project.get("id") if isinstance(project, dict) else None)
    if found is None:
        raise BadRequest(
            'The request needs the project: {"action": "START_TRAINING", "project": {"id": 13}}.'
        )
    return found

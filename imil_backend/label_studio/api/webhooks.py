"""Registers the backend with a project: its webhook, then its ML backend.

In this order: registering an ML backend makes Label Studio create a webhook of its own, without a secret and
for all actions, unless one with exactly that address is already there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from imil_backend.config import SECRET_HEADER, Settings, is_ip_address
from imil_backend.errors import SettingsError
from imil_backend.label_studio.api.calls import Requests

logger = logging.getLogger(__name__)

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
)


class Change(str, Enum):
    """What was done to a registration."""

    CREATED = "created"
    KEPT = "kept"
    REPAIRED = "repaired"


@dataclass(frozen=True)
class BasicCredentials:
    """What Label Studio logs in to the backend with."""

    user: str
    password: str


def basic_auth_of(settings: Settings) -> BasicCredentials | None:
    """What the settings say Label Studio logs in with."""
    if settings.basic_auth_user is None or settings.basic_auth_password is None:
        return None
    return BasicCredentials(settings.basic_auth_user, settings.basic_auth_password.get_secret_value())


def webhook_url(backend_url: str) -> str:
    """Where the backend takes webhooks; Label Studio derives the same address for an ML backend."""
    return f"{backend_url.rstrip('/')}/webhook"


def ensure_webhook(
    client: Requests, project_id: int, backend_url: str, secret: str, *, former: Collection[str] = ()
) -> Change:
    """Make sure that the project has our webhook exactly once, active, with the secret and our actions.

    Ours is one with our address or one of our secrets: one that points elsewhere is repaired.

    Args:
        client: of a user who may change the project.
        project_id: of Label Studio.
        backend_url: the backend's URL as Label Studio reaches it, without /webhook.
        secret: sent back by Label Studio in the header X-IMIL-Secret.
        former: secrets that it was registered with before.

    Raises:
        SettingsError: Label Studio would not accept the URL.
        LabelStudioAuthError: the user may not, or Label Studio refuses private addresses.
    """
    check_backend_url(backend_url)
    wanted = {
        "url": webhook_url(backend_url),
        "send_payload": True,
        "send_for_all_actions": False,
        "headers": {SECRET_HEADER: secret},
        "actions": list(ACTIONS),
        "is_active": True,
    }
    hooks = client.request("GET", "/api/webhooks/", params={"project": project_id})
    ours = _our_webhooks(hooks, backend_url, {secret, *former})
    for double in ours[1:]:
        client.request("DELETE", f"/api/webhooks/{double['id']}/")
        logger.info("Project %d: a second webhook for the same address was removed.", project_id)
    if not ours:
        client.request("POST", "/api/webhooks/", body={**wanted, "project": project_id})
        return Change.CREATED
    if not _differs(ours[0], wanted):
        return Change.REPAIRED if ours[1:] else Change.KEPT
    # All fields every time: Label Studio clears the actions that a PATCH leaves out.
    client.request("PATCH", f"/api/webhooks/{ours[0]['id']}/", body=wanted)
    return Change.REPAIRED


def remove_webhook(client: Requests, project_id: int, backend_url: str, secrets: Collection[str]) -> int:
    """Remove our webhook from a project; returns how many there were."""
    hooks = client.request("GET", "/api/webhooks/", params={"project": project_id})
    ours = _our_webhooks(hooks, backend_url, secrets)
    for hook in ours:
        client.request("DELETE", f"/api/webhooks/{hook['id']}/")
    return len(ours)


def remove_ml_backend(client: Requests, project_id: int, backend_url: str) -> int:
    """Remove our ML backend from a project; returns how many there were."""
    backends = client.request("GET", "/api/ml/", params={"project": project_id})
    ours = [backend for backend in backends if _same(backend["url"], backend_url)]
    for backend in ours:
        client.request("DELETE", f"/api/ml/{backend['id']}")
    return len(ours)


def ensure_ml_backend(
    client: Requests, project_id: int, backend_url: str, title: str, basic_auth: BasicCredentials | None
) -> Change:
    """Make sure that the project has our ML backend exactly once, for interactive requests too.

    The backend must be up, since Label Studio asks it. Call `ensure_webhook` first. Label Studio sets the
    project's model_version to the title.

    Raises:
        SettingsError: Label Studio would not accept the URL.
        LabelStudioAuthError: the user may not, or Label Studio refuses private addresses.
        LabelStudioError: Label Studio did not reach the backend at this URL.
    """
    check_backend_url(backend_url)
    wanted: dict[str, Any] = {
        "project": project_id,
        "url": backend_url.rstrip("/"),
        "title": title,
        "is_interactive": True,
    }
    if basic_auth is None:
        wanted["auth_method"] = "NONE"
    else:
        wanted |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": basic_auth.user,
            "basic_auth_pass": basic_auth.password,
        }
    backends = client.request("GET", "/api/ml/", params={"project": project_id})
    ours = [backend for backend in backends if _same(backend["url"], backend_url)]
    for double in ours[1:]:
        client.request("DELETE", f"/api/ml/{double['id']}")
        logger.info("Project %d: a second ML backend for the same address was removed.", project_id)
    if not ours:
        client.request("POST", "/api/ml/", body=wanted)
        return Change.CREATED
    visible = {key: value for key, value in wanted.items() if key != "basic_auth_pass"}
    differs = _differs(ours[0], visible)
    if differs or basic_auth is not None:  # the password cannot be read back
        client.request("PATCH", f"/api/ml/{ours[0]['id']}", body=wanted)
    return Change.REPAIRED if differs or ours[1:] else Change.KEPT


def check_backend_url(backend_url: str) -> None:
    """Check that Label Studio will accept the URL.

    Raises:
        SettingsError: its host has no dot, as the name of a compose service has none.
    """
    host = urlsplit(backend_url).hostname or ""
    if "." in host or host == "localhost" or is_ip_address(host):
        return
    raise SettingsError(
        f"Label Studio accepts no webhook URL with the host {host!r}: a host name needs a dot. Give the "
        "backend a network alias such as imil.internal, and set IMIL_PUBLIC_URL to it."
    )


def _our_webhooks(
    hooks: list[dict[str, Any]], backend_url: str, secrets: Collection[str]
) -> list[dict[str, Any]]:
    """Those with our address first, then those that carry one of our secrets elsewhere."""
    ours = [hook for hook in hooks if _same(hook["url"], webhook_url(backend_url))]
    return ours + [
        hook
        for hook in hooks
        if hook not in ours and (hook.get("headers") or {}).get(SECRET_HEADER) in secrets
    ]


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _differs(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    def comparable(value: Any) -> Any:
        return set(value) if isinstance(value, list) else value

    return any(comparable(there.get(key)) != comparable(value) for key, value in wanted.items())

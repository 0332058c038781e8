"""What Label Studio's refusals mean, and which setting to change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urljoin, urlsplit

import requests

from imil_backend.errors import (
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioUnreachableError,
    NotFoundError,
)
from imil_backend.label_studio.http.authorization import BASIC_AUTH_HELP, PAT_HELP, asks_for_basic_auth

LEGACY_TOKENS_ARE_OFF = "legacy token authentication has been disabled"
ADDRESS_IS_PRIVATE = "reserved network address"
LOCAL_FILES_ARE_OFF = "LOCAL_FILES_SERVING_ENABLED"
# How Label Studio 1.23 says, with a 500, that an upload is gone.
UPLOAD_IS_GONE = "'NoneType' object has no attribute 'has_permission'"
DETAIL_CHARACTERS = 300


def refusal(
    answer: requests.Response, what: str, *, scrub: Callable[[str], str]
) -> LabelStudioError | NotFoundError:
    """The error to raise for an answer that is no success.

    Args:
        answer: of Label Studio.
        what: what was asked for, as in "GET /api/projects/1/".
        scrub: takes tokens out of a text.
    """
    status, detail = answer.status_code, scrub(_detail(answer))
    if answer.is_redirect:
        target = urlsplit(urljoin(answer.url, answer.headers["Location"]))
        return LabelStudioError(
            f"Label Studio redirects {what} to {target.scheme}://{target.netloc}. Set "
            "LABEL_STUDIO_URL to that URL."
        )
    if status == 401:
        proxy = asks_for_basic_auth(answer)
        return LabelStudioAuthError(BASIC_AUTH_HELP if proxy else _explain_401(detail))
    if status == 403:
        return LabelStudioAuthError(_explain_403(detail, what))
    if status == 404 or UPLOAD_IS_GONE in detail:
        return NotFoundError(f"Label Studio has nothing at {what}: {detail}{_explain_404(answer.url)}")
    if status == 429 or status >= 500:
        return LabelStudioUnreachableError(f"Label Studio answered {status} to {what}: {detail}")
    return LabelStudioError(f"Label Studio answered {status} to {what}: {detail}")


def unreachable(
    url: str, what: str, error: requests.RequestException, timeout: float
) -> LabelStudioUnreachableError:
    """The error to raise where Label Studio at this address gave no answer within these seconds."""
    if isinstance(error, requests.exceptions.SSLError):
        reason = "its certificate is not trusted (IMIL_LABEL_STUDIO_CA names the CA to trust)"
    elif isinstance(error, requests.Timeout):
        reason = f"no answer within {timeout:g} s"
    elif isinstance(error, requests.ConnectionError):
        reason = "no connection"
    else:
        reason = f"a broken answer ({type(error).__name__})"
    return LabelStudioUnreachableError(f"Label Studio at {url}: {reason} to {what}.")


def _explain_401(detail: str) -> str:
    if LEGACY_TOKENS_ARE_OFF in detail:
        return (
            "Label Studio refuses legacy tokens. Enable them under Organization > Access Token Settings, "
            f"or set LABEL_STUDIO_API_KEY to a personal access token. {PAT_HELP}."
        )
    return f"Label Studio does not accept the token in LABEL_STUDIO_API_KEY ({detail}). Check it. {PAT_HELP}."


def _explain_403(detail: str, what: str) -> str:
    if ADDRESS_IS_PRIVATE in detail:
        return (
            "Label Studio refuses the backend's URL because its address is private. In Label "
            "Studio's environment set SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false, or "
            "only USE_DEFAULT_BANNED_SUBNETS=false, and restart it."
        )
    if LOCAL_FILES_ARE_OFF in detail:
        return (
            "Label Studio does not serve local files. In its environment set "
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT to a folder above them, and restart it."
        )
    return f"The token's user may not do this in Label Studio ({what}): {detail}"


def _explain_404(url: str) -> str:
    """What is missing where Label Studio serves an image, which it does not say."""
    path = urlsplit(url).path
    if path.endswith("/data/local-files/"):
        return (
            ". Either the file is missing, or no project that the token's user can see has its "
            "folder as a Local Files storage (Settings > Cloud Storage)"
        )
    if path.endswith("/resolve/"):
        return ". Its task is gone, or the task's project no longer has the cloud storage"
    return ""


def _detail(answer: requests.Response) -> str:
    """What Label Studio says about it, in one short line without HTML."""
    try:
        body = answer.json()
    except (ValueError, requests.RequestException):
        page = LOCAL_FILES_ARE_OFF if LOCAL_FILES_ARE_OFF in answer.text else ""
        return page or answer.reason or "no reason given"
    reasons = (
        (body.get("validation_errors") or body.get("detail") or body) if isinstance(body, dict) else body
    )
    return re.sub(r"<[^>]*>", "", _in_one_line(reasons))[:DETAIL_CHARACTERS]


def _in_one_line(reasons: object) -> str:
    if isinstance(reasons, Mapping):
        return "; ".join(f"{key}: {_in_one_line(value)}" for key, value in reasons.items())
    if isinstance(reasons, Sequence) and not isinstance(reasons, str):
        return ", ".join(_in_one_line(value) for value in reasons)
    return str(reasons)

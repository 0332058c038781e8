"""Whether Label Studio answers, accepts the token, and can reach us."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from imil_backend.config import LOOPBACK_HOSTS
from imil_backend.errors import LabelStudioAuthError, LabelStudioError, LabelStudioUnreachableError
from imil_backend.label_studio.api.webhooks import check_backend_url
from imil_backend.label_studio.http.addresses import origin
from imil_backend.label_studio.http.authorization import TokenAuth
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.upkeep.check_results import Outcome, State

# The oldest and the newest version of Label Studio that the tests were run with.
OLDEST, NEWEST = (1, 18), (1, 23)
CLOCK_SECONDS = 30.0


def address(backend: Backend) -> Outcome:
    """That Label Studio answers at its URL, including sub-path and TLS."""
    url = backend.settings.label_studio_url
    try:
        backend.label_studio.version()
    except LabelStudioAuthError:
        pass  # it answered; the token is looked at next
    except LabelStudioUnreachableError as error:
        advice = "Is it running, and is LABEL_STUDIO_URL correct, with its sub-path and from this machine?"
        if "certificate" in str(error):
            advice = "If it has a CA of its own, set IMIL_LABEL_STUDIO_CA to the CA's file."
        return State.FAILED, f"{error} {advice}"
    except LabelStudioError as error:
        # A proxy's, such as for http at a port of https.
        return State.FAILED, f"{error} Is LABEL_STUDIO_URL correct, {urlsplit(url).scheme}:// included?"
    return State.OK, f"{url} answers."


def token(backend: Backend) -> Outcome:
    """That Label Studio accepts the token, of either kind."""
    user = backend.label_studio.request("GET", "/api/current-user/whoami")
    settings = backend.settings
    kind = TokenAuth(settings.label_studio_url, settings.require_api_key(), settings.label_studio_timeout)
    return State.OK, f"A {'personal access' if kind.is_personal else 'legacy'} token of user {user['id']}."


def version(backend: Backend) -> Outcome:
    """That this version of Label Studio is supported."""
    found = backend.label_studio.version()
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        return State.OK, f"Label Studio {found}."
    oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
    return State.WARNING, (f"Label Studio {found or '(unknown)'}; supported are {oldest} to {newest}.")


def own_name(backend: Backend) -> Outcome:
    """Under which name Label Studio gives the addresses of its files, if it is another one than ours."""
    ours, theirs = backend.settings.label_studio_url, backend.label_studio.own_name()
    if theirs is None or origin(theirs) == origin(ours):
        return State.OK, "Its files have relative URLs, or those of LABEL_STUDIO_URL."
    return State.OK, (
        f"Its own name is {theirs} (its LABEL_STUDIO_HOST). Files with such URLs are fetched from "
        "LABEL_STUDIO_URL; clinicians must use that name to see them."
    )


def clock(backend: Backend) -> Outcome:
    """That Label Studio's clock is ours, as far as its Date header tells."""
    settings = backend.settings
    try:
        answer = requests.head(
            f"{settings.label_studio_url}/health",
            timeout=settings.label_studio_timeout,
            verify=str(settings.label_studio_ca) if settings.label_studio_ca else True,
        )
        there = parsedate_to_datetime(answer.headers["Date"])
    except (requests.RequestException, KeyError, ValueError):
        return State.WARNING, "Label Studio does not report its time."
    apart = (there - datetime.now(timezone.utc)).total_seconds()
    if abs(apart) <= CLOCK_SECONDS:
        return State.OK, "Label Studio's clock agrees with ours."
    return State.WARNING, (
        f"Label Studio's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours. "
        "Synchronize both by NTP; tokens expire by the clock."
    )


def own_address(backend: Backend) -> Outcome:
    """That Label Studio would take our address, and may be able to reach it."""
    own, theirs = backend.settings.own_url, backend.settings.label_studio_url
    check_backend_url(own)
    if urlsplit(own).hostname in LOOPBACK_HOSTS and urlsplit(theirs).hostname not in LOOPBACK_HOSTS:
        return State.WARNING, (
            f"Label Studio will call {own}. On another machine or in a container, that is itself: "
            "set IMIL_PUBLIC_URL to this backend's URL as Label Studio reaches it, and IMIL_HOST to "
            "listen there."
        )
    return State.OK, f"Label Studio will call {own}."

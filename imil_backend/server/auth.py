"""Who may call: by a name of ours, with Basic auth (all but /health and /ready), or with a shared secret.

The webhook has a secret, /metrics a bearer token, a round that is shared a signed link. The dashboard is
also open to anyone whom a trusted proxy names.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from flask import Request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Unauthorized

from imil_backend.config import ALL_ADDRESSES, SECRET_HEADER, Settings, is_ip_address
from imil_backend.errors import SettingsError
from imil_backend.loop.evaluation.shared_round import SHARED_PATH
from imil_backend.server.dashboard.layout import is_dashboard
from imil_backend.server.proxy_login import ProxyLogin


@dataclass(frozen=True)
class OwnNames:
    """What the backend is called, in the `Host` header of a request.

    A web page whose name is made to mean this machine (DNS rebinding) could have a browser call what listens
    on loopback; the browser then sends the page's name.
    """

    names: frozenset[str]
    any_address: bool  # it listens on all addresses of this machine, and a page's name is no address

    @classmethod
    def from_settings(cls, settings: Settings) -> OwnNames:
        """Read what others may call the backend."""
        return cls(settings.own_names, settings.host in ALL_ADDRESSES)

    def check(self, request: Request) -> None:
        """Let a request pass; one of HTTP/1.0 may name no host.

        Raises:
            BadRequest: it is for another host.
        """
        host = request.headers.get("Host")
        if host is not None and not self._is_ours(host):
            raise BadRequest(
                f"This backend is not called {host[:100]!r}. Set IMIL_PUBLIC_URL to the address under which "
                "Label Studio reaches it."
            )

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in self.names or (self.any_address and is_ip_address(name))


@dataclass(frozen=True)
class BasicAuth:
    """The user and password that Label Studio's ML connector and people must send.

    `user` None means that none are asked for: the backend listens on loopback only.
    """

    user: str | None
    password: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> BasicAuth:
        """Read user and password.

        Raises:
            SettingsError: one of the two is missing, or both are and other machines can reach the backend.
        """
        password = settings.basic_auth_password.get_secret_value() if settings.basic_auth_password else ""
        if settings.basic_auth_user and password:
            return cls(settings.basic_auth_user, password)
        if settings.basic_auth_user or password:
            raise SettingsError(
                "Only one of IMIL_BASIC_AUTH_USER and IMIL_BASIC_AUTH_PASSWORD is set: set both."
            )
        if settings.listens_beyond_loopback:
            raise SettingsError(
                f"IMIL_HOST={settings.host} lets other machines reach the backend: set IMIL_BASIC_AUTH_USER "
                "and IMIL_BASIC_AUTH_PASSWORD (`imil push` passes both to Label Studio), or set "
                "IMIL_HOST=127.0.0.1."
            )
        return cls(None)

    def allows(self, request: Request) -> bool:
        """Whether the request carries the user and password, if they are asked for."""
        if self.user is None:
            return True
        given = _basic_credentials(request)
        expected = f"{self.user}:{self.password}"
        # No standard says how they are encoded: Label Studio sends Latin-1, browsers send UTF-8.
        matches = [hmac.compare_digest(given, expected.encode(encoding)) for encoding in ("latin-1", "utf-8")]
        return any(matches)

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Unauthorized: it does not carry the right user and password.
        """
        if not self.allows(request):
            raise Unauthorized(
                "The user or password is wrong or missing. Set IMIL_BASIC_AUTH_USER and "
                "IMIL_BASIC_AUTH_PASSWORD of this backend as Basic authentication in Label Studio's "
                "model settings.",
                www_authenticate=WWWAuthenticate("basic", {"realm": "IMIL backend"}),
            )


def _basic_credentials(request: Request) -> bytes:
    """User, colon and password as they were sent; empty where there are none."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip())
    except ValueError:
        return b""


def has_secret(request: Request, secrets: Iterable[str]) -> bool:
    """Whether the request's secret is one of `secrets`; the time taken does not tell which, or how nearly."""
    given = request.headers.get(SECRET_HEADER, "")
    matches = [_same(given, secret) for secret in secrets if secret]
    return any(matches)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


@dataclass(frozen=True)
class MetricsAccess:
    """Who may read the metrics: who has their bearer token, or the user and password of all else."""

    basic_auth: BasicAuth
    token: str | None

    @classmethod
    def from_settings(cls, settings: Settings) -> MetricsAccess:
        """Read user, password and token.

        Raises:
            SettingsError: other machines can reach the backend, and user and password are missing.
        """
        token = settings.metrics_token.get_secret_value() if settings.metrics_token else None
        return cls(BasicAuth.from_settings(settings), token)

    @property
    def asks(self) -> bool:
        """Whether anything is asked for."""
        return self.token is not None or self.basic_auth.user is not None

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Unauthorized: it carries neither.
        """
        if self.token is not None:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "bearer" and _same(given, self.token):
                return
            if self.basic_auth.user is None:
                raise Unauthorized(
                    "The bearer token is wrong or missing: send IMIL_METRICS_TOKEN.",
                    www_authenticate=WWWAuthenticate("bearer"),
                )
        self.basic_auth.check(request)


WEBHOOK = "/webhook"
METRICS = "/metrics"
OPEN_PATHS = frozenset({"/", "/health", "/ready"})
# What a signed link opens: its pages look at the link themselves, and their style tells nothing.
OPEN_FOLDERS = (f"{SHARED_PATH}/", "/dashboard/assets/")


def is_open(path: str) -> bool:
    """Whether anyone may ask for it, without user and password."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


class Caller(Enum):
    """Who calls, by the head of a request."""

    ANYONE = "anyone"
    USER = "user"
    WEBHOOK = "webhook"


@dataclass(frozen=True)
class Gate:
    """Whether a request may be answered at all, by its head alone.

    Anyone may ask for health and readiness, and for what a signed link opens. The webhook asks for its
    secret, or for Basic auth: Label Studio's "Start training" button has no secret, and where no user is set
    it is known by its body.
    """

    own_names: OwnNames
    basic_auth: BasicAuth
    metrics: MetricsAccess
    proxy_login: ProxyLogin
    secrets: Callable[[], Iterable[str]]

    def check(self, request: Request) -> Caller:
        """Let a request pass, and say who calls.

        Raises:
            BadRequest: it is for another host.
            Unauthorized: its credentials are wrong or missing.
        """
        self.own_names.check(request)
        if is_open(request.path):
            return Caller.ANYONE
        if request.path == WEBHOOK and has_secret(request, self.secrets()):
            return Caller.WEBHOOK
        if request.path == METRICS:
            self.metrics.check(request)
            return Caller.USER if self.metrics.asks else Caller.ANYONE
        if is_dashboard(request.path) and self.proxy_login.knows(request):
            return Caller.USER
        self.basic_auth.check(request)
        return Caller.ANYONE if self.basic_auth.user is None else Caller.USER

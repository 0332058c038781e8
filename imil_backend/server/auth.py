"""Who may call: HTTP Basic auth for everything but /health, and the webhook's shared secret."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from flask import Request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from imil_backend.config import SECRET_HEADER, Settings
from imil_backend.errors import SettingsError


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

"""What goes into the Authorization header, for both kinds of Label Studio token."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from typing import Any

import requests
from requests.auth import AuthBase

from imil_backend.errors import LabelStudioAuthError, LabelStudioUnreachableError

REFRESH_PATH = "/api/token/refresh/"
# Label Studio's access tokens live for 300 s; a request sent within the last of them may arrive too late.
SAFETY_SECONDS = 30.0
PAT_HELP = "Make a new one in Label Studio (Account & Settings > Personal Access Token)"

# Both would be the value of one header, Authorization.
BASIC_AUTH_HELP = (
    "A proxy in front of Label Studio requires Basic auth, which cannot be combined with Label "
    "Studio's token. Exempt /api/, /data/ and /tasks/ in the proxy (Label Studio requires the token "
    "there), or bypass the proxy: set LABEL_STUDIO_URL to Label Studio's own URL."
)


def asks_for_basic_auth(answer: requests.Response) -> bool:
    """Whether a 401 comes from a proxy; Label Studio itself asks for a token."""
    return answer.headers.get("WWW-Authenticate", "").lower().startswith("basic")


class TokenAuth(AuthBase):
    """Authorization by a legacy token, or by the access tokens that a personal access token is exchanged for.

    Args:
        url: Label Studio's address.
        api_key: legacy token or personal access token.
        timeout: seconds to wait for the exchange.
        verify: certificates to check Label Studio's against, or True for the usual ones.

    Raises:
        LabelStudioAuthError: `api_key` is an access token, which is of no use after five minutes.
    """

    def __init__(self, url: str, api_key: str, timeout: float, verify: str | bool = True) -> None:
        self._refresh_url = url + REFRESH_PATH
        self._api_key = api_key.strip()
        self._timeout = timeout
        self._verify = verify
        claims = _claims(self._api_key)
        self.is_personal = claims is not None
        if claims is not None and claims.get("token_type") != "refresh":
            raise LabelStudioAuthError(
                "LABEL_STUDIO_API_KEY holds an access token, which expires within minutes. Set it to "
                f"the personal access token itself. {PAT_HELP}."
            )
        self._access = ""
        self._access_until = 0.0
        self._lock = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the header on the request."""
        scheme, token = ("Bearer", self._access_token()) if self.is_personal else ("Token", self._api_key)
        request.headers["Authorization"] = f"{scheme} {token}"
        return request

    def forget_access_token(self) -> None:
        """Exchange anew before the next request."""
        self._access_until = 0.0

    def scrub(self, text: str) -> str:
        """The text without any token that was in it."""
        for secret in (self._api_key, self._access):
            if secret:
                text = text.replace(secret, "***")
        return text

    def _access_token(self) -> str:
        with self._lock:
            if time.time() >= self._access_until:
                self._access = self._exchange()
                self._access_until = time.time() + max(_lifetime(self._access) - SAFETY_SECONDS, 1.0)
            return self._access

    def _exchange(self) -> str:
        try:
            answer = requests.post(
                self._refresh_url,
                json={"refresh": self._api_key},
                auth=_send_as_it_is,
                verify=self._verify,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise LabelStudioUnreachableError(
                f"Label Studio did not answer when its access token was renewed ({type(error).__name__})."
            ) from None
        if answer.status_code == 401 and asks_for_basic_auth(answer):
            raise LabelStudioAuthError(BASIC_AUTH_HELP)
        if answer.status_code in {400, 401, 403}:
            raise LabelStudioAuthError(
                "Label Studio does not accept the personal access token: it is expired, revoked, "
                "from another Label Studio, or such tokens are disabled (Organization > Access Token "
                "Settings). "
                f"{PAT_HELP} and set LABEL_STUDIO_API_KEY."
            )
        try:
            answer.raise_for_status()
            return str(answer.json()["access"])
        except (requests.RequestException, ValueError, KeyError, TypeError):
            raise LabelStudioUnreachableError(
                f"Label Studio answered {answer.status_code} when its access token was renewed."
            ) from None


def _send_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without what a .netrc holds for this host."""
    return request


def _lifetime(access: str) -> float:
    """Seconds that an access token is valid; a difference, since Label Studio's clock may not be ours."""
    claims = _claims(access) or {}
    try:
        return float(claims["exp"]) - float(claims["iat"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _claims(token: str) -> dict[str, Any] | None:
    """The claims of a JSON web token, unverified; None for anything else, such as a legacy token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None

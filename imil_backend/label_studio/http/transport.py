"""HTTP to Label Studio: one session, one place for time-outs, retries, size limits and errors.

Plain REST through `requests` rather than label-studio-sdk: the SDK repeats POSTs after a 5xx (tasks would be
imported twice), hides the raw JSON, and costs 110 MB and 0.8 s at its first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
from urllib3.util import Retry

from imil_backend.errors import LabelStudioUnreachableError
from imil_backend.label_studio.http.addresses import AllowedHosts
from imil_backend.label_studio.http.authorization import TokenAuth, asks_for_basic_auth
from imil_backend.label_studio.http.deadlines import WatchedAdapter
from imil_backend.label_studio.http.downloads import Downloads
from imil_backend.label_studio.http.other_names import OtherNames, name_it_has
from imil_backend.label_studio.http.refusals import refusal, unreachable

Files = Mapping[str, tuple[str, bytes]]

# Safe to repeat: only GETs that were not answered, and requests that were never sent.
RETRY = Retry(
    total=3,
    connect=2,
    read=1,
    status=2,
    other=0,
    redirect=False,
    allowed_methods={"GET"},
    status_forcelist={429, 500, 502, 503, 504},
    backoff_factor=0.3,
    respect_retry_after_header=False,
    raise_on_status=False,
)


class Transport:
    """Requests to one Label Studio, and downloads from wherever its tasks point (`download`).

    Args:
        url: Label Studio's URL, with its sub-path if it has one.
        api_key: legacy token or personal access token.
        timeout: seconds to wait for a connection, and between two bytes of an answer.
        max_image_bytes: largest download.
        image_hosts: hosts that images may come from, see `addresses.AllowedHosts`.
        aliases: other addresses of this Label Studio, beside the one that it has for itself.
        ca: certificates (PEM) that Label Studio's own is checked against, instead of the usual ones.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float,
        max_image_bytes: int,
        image_hosts: Sequence[str] = (),
        aliases: Sequence[str] = (),
        ca: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        # Given with each request: a session's own is overruled by REQUESTS_CA_BUNDLE.
        self._verify: str | bool = True if ca is None else str(ca)
        self._session = requests.Session()
        # Label Studio sets a session cookie on every answer; with one, POSTs would need a CSRF token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, WatchedAdapter(RETRY))
        self._auth = TokenAuth(self.url, api_key, timeout, self._verify)
        self.download = Downloads(
            self.url,
            self._session,
            self._auth,
            timeout=timeout,
            verify=self._verify,
            max_image_bytes=max_image_bytes,
            names=OtherNames(self.url, aliases, partial(name_it_has, self.request)),
            allowed=AllowedHosts(image_hosts),
            retries=RETRY,
        ).download

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        files: Files | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The JSON that Label Studio answers, or None where it answers nothing, within so many seconds.

        Raises:
            LabelStudioUnreachableError: no answer, a broken one, a 5xx or 429.
            LabelStudioAuthError: 401 or 403.
            NotFoundError: 404.
            LabelStudioError: everything else that is not a success.
        """
        what = f"{method} {path}"
        try:
            answer = self._send(method, path, params, body, files, timeout)
            if answer.status_code == 401 and self._auth.is_personal:
                self._auth.forget_access_token()  # it may have been revoked before its time
                answer = self._send(method, path, params, body, files, timeout)
        except requests.RequestException as error:
            raise unreachable(self.url, what, error, timeout or self._timeout) from None
        if answer.status_code in {401, 403, 404} and not (_is_json(answer) or asks_for_basic_auth(answer)):
            # A proxy's page, or another site's. Nothing may be taken for deleted or forbidden by it.
            raise LabelStudioUnreachableError(
                f"The answer to {what} ({answer.status_code}) is a web page, not Label Studio's API. "
                f"Is {self.url} its URL?"
            )
        if not answer.ok or answer.is_redirect:
            raise refusal(answer, what, scrub=self._auth.scrub)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise LabelStudioUnreachableError(
                f"Label Studio's answer to {what} is not JSON. Is {self.url} its URL?"
            ) from None

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        body: object,
        files: Files | None,
        timeout: float | None,
    ) -> requests.Response:
        return self._session.request(
            method,
            self.url + path,
            params=params,
            json=body,
            files=files,
            auth=self._auth,
            timeout=timeout or self._timeout,
            verify=self._verify,
            allow_redirects=False,
        )


def _is_json(answer: requests.Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False

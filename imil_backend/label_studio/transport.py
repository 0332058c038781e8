"""HTTP to Label Studio: one session, one place for time-outs, retries, size limits and errors.

Plain REST through `requests` rather than label-studio-sdk: the SDK repeats POSTs after a 5xx (tasks would be
imported twice), hides the raw JSON, and costs 110 MB and 0.8 s at its first use.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from imil_backend.errors import (
    ImageError,
    ImageTooLargeError,
    LabelStudioUnreachableError,
    NotFoundError,
)
from imil_backend.label_studio.authorization import TokenAuth
from imil_backend.label_studio.refusals import refusal

Files = Mapping[str, tuple[str, bytes]]

MAX_REDIRECTS = 5
CHUNK_BYTES = 2**16
# A server that sends a byte now and then never meets a time-out between bytes.
DOWNLOAD_TIMEOUTS = 10
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


class _NoAuth(requests.auth.AuthBase):
    """Nothing for other hosts, not even what a .netrc holds."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Transport:
    """Requests to one Label Studio, and downloads from wherever its tasks point.

    Args:
        url: Label Studio's address, with its sub-path if it has one.
        api_key: legacy token or personal access token.
        timeout: seconds to wait for a connection, and between two bytes of an answer.
        max_image_bytes: largest download.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float, max_image_bytes: int) -> None:
        self.url = url.rstrip("/")
        self._origin = _origin(self.url)
        self._timeout = timeout
        self._max_image_bytes = max_image_bytes
        self._auth = TokenAuth(self.url, api_key, timeout)
        self._session = requests.Session()
        # Label Studio sets a session cookie on every answer; with one, POSTs would need a CSRF token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=RETRY))

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        files: Files | None = None,
    ) -> Any:
        """The JSON that Label Studio answers, or None where it answers nothing.

        Raises:
            LabelStudioUnreachableError: no answer, a broken one, a 5xx or 429.
            LabelStudioAuthError: 401 or 403.
            NotFoundError: 404.
            LabelStudioError: everything else that is not a success.
        """
        what = f"{method} {path}"
        try:
            answer = self._send(method, path, params, body, files)
            if answer.status_code == 401 and self._auth.is_personal:
                self._auth.forget_access_token()  # it may have been revoked before its time
                answer = self._send(method, path, params, body, files)
        except requests.RequestException as error:
            raise self._unreachable(what, error) from None
        if answer.status_code == 404 and not _is_json(answer):
            # A proxy's page, or another site's. Nothing may be taken for deleted by it.
            raise LabelStudioUnreachableError(
                f"The answer to {what} is a page, not Label Studio's. Is {self.url} its address?"
            )
        if not answer.ok or answer.is_redirect:
            raise refusal(answer, what, scrub=self._auth.scrub)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise LabelStudioUnreachableError(
                f"Label Studio's answer to {what} is no JSON. Is {self.url} its address?"
            ) from None

    def download(self, url: str) -> bytes:
        """What is at an image's address: a path of Label Studio's, an http(s) address, or a data: URI.

        The token goes to Label Studio's own host only, also when it redirects elsewhere.

        Raises:
            ImageTooLargeError: more than `max_image_bytes`.
            ImageError: the address cannot be used.
            LabelStudioError: as for `request`; NotFoundError where there is nothing.
        """
        if url.startswith("data:"):
            return self._decode_data_uri(url)
        url = self._absolute(url)
        deadline = time.monotonic() + DOWNLOAD_TIMEOUTS * self._timeout
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with self._get(url) as answer:
                    if not answer.is_redirect:
                        return self._read(answer, deadline)
                    url = urljoin(url, answer.headers["Location"])
        except requests.RequestException as error:
            raise self._unreachable(f"the download of an image from {_host(url)}", error) from None
        raise ImageError(f"The image's address is redirected more than {MAX_REDIRECTS} times ({_host(url)}).")

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        body: object,
        files: Files | None,
    ) -> requests.Response:
        return self._session.request(
            method,
            self.url + path,
            params=params,
            json=body,
            files=files,
            auth=self._auth,
            timeout=self._timeout,
            allow_redirects=False,
        )

    def _get(self, url: str) -> requests.Response:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ImageError(
                f"An image's address must start with http, https or /, not {urlsplit(url).scheme!r}."
            )
        own = _origin(url) == self._origin
        return self._session.get(
            url,
            auth=self._auth if own else _NoAuth(),
            timeout=self._timeout,
            allow_redirects=False,
            stream=True,
        )

    def _read(self, answer: requests.Response, deadline: float) -> bytes:
        host = _host(answer.url)
        if not answer.ok:
            if _origin(answer.url) == self._origin:
                raise refusal(answer, "the download of an image", scrub=self._auth.scrub)
            if answer.status_code == 404:
                raise NotFoundError(f"There is no such image on {host}.")
            raise ImageError(f"{host} answered {answer.status_code} to the download of an image.")
        content = bytearray()
        for chunk in answer.iter_content(CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_image_bytes:
                raise ImageTooLargeError(
                    f"An image on {host} has more than {self._max_image_bytes} bytes (IMIL_MAX_IMAGE_BYTES)."
                )
            if time.monotonic() > deadline:
                raise LabelStudioUnreachableError(f"{host} sends an image too slowly.")
        return bytes(content)

    def _decode_data_uri(self, uri: str) -> bytes:
        header, comma, data = uri.partition(",")
        if not comma or len(data) > 3 * self._max_image_bytes:  # three characters a byte at most
            raise ImageTooLargeError("An image's data: URI is too large or holds no data.")
        try:
            content = unquote_to_bytes(data)
            if header.endswith(";base64"):
                content = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise ImageError("An image's data: URI is not valid base64.") from None
        if len(content) > self._max_image_bytes:
            raise ImageTooLargeError(f"An image has more than {self._max_image_bytes} bytes.")
        return content

    def _absolute(self, url: str) -> str:
        if not url.startswith("/"):
            return url
        sub_path = urlsplit(self.url).path
        if sub_path and url.startswith(sub_path + "/"):
            return self._origin + url
        return self.url + url

    def _unreachable(self, what: str, error: requests.RequestException) -> LabelStudioUnreachableError:
        if isinstance(error, requests.Timeout):
            reason = f"no answer within {self._timeout:g} s"
        elif isinstance(error, requests.exceptions.SSLError):
            reason = "its certificate is not trusted"
        elif isinstance(error, requests.ConnectionError):
            reason = "no connection"
        else:
            reason = f"a broken answer ({type(error).__name__})"
        return LabelStudioUnreachableError(f"Label Studio at {self.url}: {reason} to {what}.")


def _origin(url: str) -> str:
    """Scheme, host and port, the default port spelled out."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise ImageError("The address has an impossible port.") from None
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _host(url: str) -> str:
    """The host alone: paths and queries may hold names and signatures."""
    return urlsplit(url).hostname or "an address without a host"


def _is_json(answer: requests.Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False

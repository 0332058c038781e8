"""Images from wherever Label Studio's tasks point: its own paths, other hosts, data: URIs."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests
from urllib3.util import Retry

from imil_backend.errors import (
    ImageError,
    ImageTooLargeError,
    ImilError,
    LabelStudioUnreachableError,
    NotFoundError,
)
from imil_backend.label_studio.http.addresses import AllowedHosts, guarded_session, host_of, origin
from imil_backend.label_studio.http.authorization import TokenAuth
from imil_backend.label_studio.http.deadlines import DeadlinePassedError, deadline
from imil_backend.label_studio.http.other_names import OtherNames, looks_own
from imil_backend.label_studio.http.refusals import refusal, unreachable
from imil_backend.label_studio.storage_kinds import bucket_schemes

MAX_REDIRECTS = 5
CHUNK_BYTES = 2**16
DOWNLOAD_TIMEOUTS = 10  # the time for a whole fetch, in time-outs
_MALFORMED = "An image's URL is malformed."


class Downloads:
    """Downloads with a limit on time and size; every redirect is looked at.

    Args:
        url: Label Studio's URL, with its sub-path if it has one.
        session: to Label Studio.
        auth: Label Studio's token; it goes to Label Studio's own scheme, host and port only.
        timeout: seconds to wait for a connection, and between two bytes of an answer.
        verify: certificates to check Label Studio's against, or True for the usual ones.
        max_image_bytes: largest download.
        names: other names that Label Studio's own files are addressed by.
        allowed: other hosts that may be asked.
        retries: for reading.
    """

    def __init__(
        self,
        url: str,
        session: requests.Session,
        auth: TokenAuth,
        *,
        timeout: float,
        verify: str | bool,
        max_image_bytes: int,
        names: OtherNames,
        allowed: AllowedHosts,
        retries: Retry,
    ) -> None:
        self._url = url
        self._names = names
        self._origin = origin(_as_sent(url))
        self._own = session
        self._elsewhere = guarded_session(allowed, retries)
        self._auth = auth
        self._timeout = timeout
        self._verify = verify
        self._max_image_bytes = max_image_bytes

    def download(self, url: str, seconds: float | None = None) -> bytes:
        """What is at an image's address: a path of Label Studio's, an http(s) address, or a data: URI.

        Args:
            url: the address.
            seconds: the time for all of it; without, ten times the time-out.

        Raises:
            ImageTooLargeError: more than `max_image_bytes`.
            ImageError: the address cannot be used, or its host does not answer or may not be asked.
            LabelStudioError: Label Studio itself refuses or does not answer; NotFoundError where there is
                nothing.
        """
        if url.startswith("data:"):
            return self._decode_data_uri(url)
        url = self._here(_as_sent(self._absolute(url)))
        try:
            return self._follow(url, DOWNLOAD_TIMEOUTS * self._timeout if seconds is None else seconds)
        except (ImageError, NotFoundError) as error:
            if self._is_own(url) or not looks_own(url):
                raise
            raise ImageError(
                f"{error} If {origin(url)} is another name of this Label Studio, add it to "
                "IMIL_LABEL_STUDIO_ALIASES; its files are then fetched from LABEL_STUDIO_URL."
            ) from None

    def _follow(self, url: str, seconds: float) -> bytes:
        with deadline(seconds) as ours:
            try:
                content = self._followed(url)
            except (ImilError, DeadlinePassedError):
                if not ours.passed:
                    raise
            else:
                if not ours.passed:
                    return content
        kind = LabelStudioUnreachableError if self._is_own(url) else ImageError
        raise kind(f"{host_of(url)} did not give a whole image within {seconds:.0f} s.")

    def _followed(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with self._get(url) as answer:
                    if not answer.is_redirect:
                        return self._read(answer)
                    url = self._here(_as_sent(answer.headers["Location"], url))
            except requests.RequestException as error:
                if self._is_own(url):
                    raise unreachable(self._url, "the download of an image", error, self._timeout) from None
                raise ImageError(
                    f"{host_of(url)} did not deliver an image ({type(error).__name__})."
                ) from None
            except ValueError:  # the client itself looks where a redirect leads
                raise ImageError(_MALFORMED) from None
        raise ImageError(f"The image's URL is redirected more than {MAX_REDIRECTS} times ({host_of(url)}).")

    def _here(self, url: str) -> str:
        return url if self._is_own(url) else self._names.brought_here(url)

    def _is_own(self, url: str) -> bool:
        return origin(url) == self._origin

    def _get(self, url: str) -> requests.Response:
        how = {"timeout": self._timeout, "allow_redirects": False, "stream": True}
        if self._is_own(url):
            answer = self._own.get(url, auth=self._auth, verify=self._verify, **how)  # type: ignore[arg-type]
            if answer.status_code == 401 and self._auth.is_personal:
                answer.close()
                self._auth.forget_access_token()
                answer = self._own.get(url, auth=self._auth, verify=self._verify, **how)  # type: ignore[arg-type]
            return answer
        return self._elsewhere.get(url, **how)  # type: ignore[arg-type]

    def _read(self, answer: requests.Response) -> bytes:
        host = host_of(answer.url)
        if not answer.ok:
            if self._is_own(answer.url):
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
        return bytes(content)

    def _decode_data_uri(self, uri: str) -> bytes:
        header, comma, data = uri.partition(",")
        if not comma or len(data) > 3 * self._max_image_bytes:  # three characters a byte at most
            raise ImageTooLargeError("An image's data: URI is too large or contains no data.")
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
        if not url.startswith("/") or url.startswith("//"):
            return url
        sub_path = urlsplit(self._url).path
        if sub_path and url.startswith(sub_path + "/"):
            return self._origin + url
        return self._url + url


def _as_sent(address: str, base: str = "") -> str:
    """The address as a request is sent to it, of one that may be relative to `base`.

    Where an address is odd, with a backslash for instance, the client and urlsplit read different hosts of
    it. What decides whether the token goes along must be what is sent.

    Raises:
        ImageError: it is none that can be asked.
    """
    try:
        url = urljoin(base, address)
        scheme = urlsplit(url).scheme
        if scheme in {"http", "https"}:
            return str(requests.Request("GET", url).prepare().url)
    except ValueError:
        raise ImageError(_MALFORMED) from None
    if scheme in bucket_schemes():
        raise ImageError(
            f"Label Studio has no storage in this project for the image's {scheme}:// URL. "
            "Add one under Settings > Cloud Storage."
        )
    raise ImageError(f"An image's URL must start with http, https or /, not {scheme!r}.")

"""Label Studio's own files under another of its names.

Label Studio writes the name that people open it under (its LABEL_STUDIO_HOST) into the addresses of images
in its storages, and often the backend reaches it under another one, a container's for instance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from imil_backend.errors import LabelStudioError, LabelStudioUnreachableError, NotFoundError
from imil_backend.label_studio.http.addresses import origin

# Paths that Label Studio serves images under, behind its sub-path.
_OWN_PATHS = re.compile(
    r"/(data/(upload|local-files)|storage-data/uploaded|tasks/\d+/(resolve|presign))(?=[/?]|$)"
)
_PICTURES = "/static/"


class OtherNames:
    """Brings the address of a file of Label Studio's to LABEL_STUDIO_URL, where it has another name in it.

    Requests, and with them the token, go to LABEL_STUDIO_URL, whatever Label Studio calls itself.

    Args:
        url: LABEL_STUDIO_URL.
        given: other names, from the settings.
        ask: gives the name that Label Studio has for itself, or None; asked when it is needed, once.
    """

    def __init__(self, url: str, given: Sequence[str], ask: Callable[[], str | None]) -> None:
        self._url = url
        self._given = given
        self._ask = ask
        self._names: tuple[str, ...] | None = None

    def brought_here(self, address: str) -> str:
        """The address itself, or the same file's at LABEL_STUDIO_URL.

        Raises:
            LabelStudioUnreachableError: Label Studio does not answer what it calls itself.
        """
        if not looks_own(address):
            return address
        for name in self._all():
            path = _below(address, name)
            if path is not None and _OWN_PATHS.match(path):
                return self._url + path
        return address

    def _all(self) -> tuple[str, ...]:
        if self._names is None:
            own = self._ask()
            self._names = (*self._given, own) if own else tuple(self._given)
        return self._names


def looks_own(address: str) -> bool:
    """Whether an address has a path under which a Label Studio serves images."""
    return _OWN_PATHS.search(urlsplit(address).path) is not None


def name_it_has(request: Callable[[str, str], object]) -> str | None:
    """What Label Studio calls itself, its LABEL_STUDIO_HOST, or None where it is not set or not told.

    No part of the API says so. But the addresses of its templates' pictures begin with it.

    Raises:
        LabelStudioUnreachableError: Label Studio does not answer.
    """
    try:
        answer = request("GET", "/api/templates")
    except LabelStudioUnreachableError:
        raise
    except (LabelStudioError, NotFoundError):
        return None
    templates = answer.get("templates") if isinstance(answer, dict) else None
    for template in templates if isinstance(templates, list) else []:
        picture = str(template.get("image", "")) if isinstance(template, dict) else ""
        name, found, _ = picture.partition(_PICTURES)
        if found and name.startswith(("http://", "https://")):
            return name
    return None


def _below(address: str, name: str) -> str | None:
    """The path and query of an address behind a name with its sub-path, or None if it is elsewhere."""
    there, base = urlsplit(address), urlsplit(name)
    sub_path = base.path.rstrip("/")
    if origin(address) != origin(name) or not there.path.startswith(f"{sub_path}/"):
        return None
    return there.path.removeprefix(sub_path) + (f"?{there.query}" if there.query else "")

"""Requests that record what they change, with a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from imil_backend.config import SECRET_HEADER
from imil_backend.label_studio.storage_kinds import STORAGE_KINDS


class Requests(Protocol):
    """Whatever sends requests to Label Studio."""

    def request(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, body: object = None
    ) -> Any:
        """The JSON that Label Studio answers."""


@dataclass(frozen=True)
class Call:
    """A request that changes something."""

    method: str
    path: str
    body: object

    def shown(self) -> dict[str, Any]:
        """For people: without secrets."""
        return {"method": self.method, "path": self.path, "body": _masked(self.body)}


class Calls:
    """Reads at once; records requests that change something, and sends them unless this is a dry run.

    Args:
        client: sends the requests.
        rehearsal: dry run: change nothing; such a request returns None.
    """

    def __init__(self, client: Requests, *, rehearsal: bool) -> None:
        self._client = client
        self._rehearsal = rehearsal
        self.made: list[Call] = []

    def request(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, body: object = None
    ) -> Any:
        """As the client's, which raises what it raises."""
        if method != "GET":
            self.made.append(Call(method, path, body))
            if self._rehearsal:
                return None
        return self._client.request(method, path, params=params, body=body)


def _secret_keys() -> set[str]:
    credentials = (kind.credentials for kind in STORAGE_KINDS.values())
    return {"basic_auth_pass", SECRET_HEADER, *chain(*credentials)}


def _masked(value: object) -> object:
    if isinstance(value, Mapping):
        secret = _secret_keys()
        return {key: "***" if key in secret else _masked(inner) for key, inner in value.items()}
    return value

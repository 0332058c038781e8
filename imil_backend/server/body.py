"""Reading the JSON body of a request, bounded in size."""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Flask, Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

# Label Studio sends "13.1795397599": the project's id and the time it was made. 18 digits fit a database.
_PROJECT = re.compile(r"([0-9]{1,18})(\.[0-9]+)?", re.ASCII)
# An escaped surrogate. Without the other half of its pair it is no character, and no database could hold it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def bound_bodies(app: Flask, max_bytes: int) -> None:
    """Let no request of an application have a body larger than `max_bytes`."""
    app.config["MAX_CONTENT_LENGTH"] = max_bytes


def read_bytes(request: Request) -> bytes:
    """Read the request's body.

    Raises:
        RequestEntityTooLarge: it is larger than the application allows.
        ClientDisconnected: the sender hung up.
    """
    return request.get_data(cache=False)


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """Parse a JSON object, or return None when the bytes are anything else.

    Raises:
        BadRequest: a text in it is no Unicode.
    """
    try:
        body = json.loads(raw.decode())  # of bytes, json.loads would take lone surrogates
        if _SURROGATE.search(raw):
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("The body holds a lone surrogate: text that is no Unicode.") from None
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def read_object(request: Request) -> dict[str, Any]:
    """Read the request's JSON object.

    The content type is insisted on, since browsers let a foreign page send any other one unasked.

    Raises:
        UnsupportedMediaType: the content type is not JSON.
        BadRequest: the body is no JSON object, or was cut off, or holds text that is no Unicode.
        RequestEntityTooLarge: the body is larger than the application allows.
    """
    if not request.is_json:
        raise UnsupportedMediaType("Send a JSON object with Content-Type: application/json.")
    body = parse_object(read_bytes(request))
    if body is None:
        raise BadRequest("The body is not a JSON object.")
    return body


def project_id(value: object) -> int | None:
    """Return the id of a project named as 13, "13" or "13.1795397599"; None if `value` is None.

    Raises:
        BadRequest: it is anything else.
    """
    if value is None:
        return None
    match = None if isinstance(value, bool) else _PROJECT.fullmatch(str(value))
    if match is None:
        raise BadRequest('project must be an id such as 13 or "13.1795397599".')
    return int(match[1])

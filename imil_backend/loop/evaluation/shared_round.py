"""A link that shows one round to whoever has it: signed, for some time, and without user or password.

It is what clinicians get to see of what their painting changed; they know Label Studio, not this backend.
"""

from __future__ import annotations

from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Round

SHARED_PATH = "/dashboard/shared"
LINK_DAYS = 90  # that a link is good for
_SECONDS_OF_A_DAY = 86_400


def shared_link(backend: Backend, round_id: int) -> str | None:
    """The address of a round for those who have no password; None where others cannot reach the backend.

    Args:
        backend: whose IMIL_PUBLIC_URL people open.
        round_id: of a round that has closed.
    """
    if backend.settings.public_url is None:
        return None
    token = _serializer(backend).dumps(round_id)
    return f"{backend.settings.public_url}{SHARED_PATH}/round?link={token}"


def round_of_link(backend: Backend, session: Session, token: str) -> Round:
    """The round that a link opens.

    Raises:
        NotFoundError: the link is not one of ours, or too old, or its round is gone.
    """
    try:
        round_id = _serializer(backend).loads(token, max_age=LINK_DAYS * _SECONDS_OF_A_DAY)
    except BadData:
        round_id = None
    round_ = session.get(Round, round_id) if isinstance(round_id, int) else None
    if round_ is None:
        raise NotFoundError(
            "This link is not complete, or it has expired. The description of the project in Label Studio "
            "has the latest one, or ask who gave it to you: `imil report` prints a new one."
        )
    return round_


def _serializer(backend: Backend) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(backend.link_key(), salt="round")

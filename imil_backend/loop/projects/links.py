"""Links to Label Studio for people.

LABEL_STUDIO_URL is the backend's way there, often by a container's name, which no browser knows.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache

from imil_backend.errors import ImilError
from imil_backend.label_studio.api.client import SOON
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Project

SECONDS_BETWEEN_QUESTIONS = 300.0

logger = logging.getLogger(__name__)


def project_link(backend: Backend, project: Project) -> str:
    """The tasks of a project."""
    address = project.instance
    if address == backend.settings.label_studio_url:  # others cannot be asked
        address = _own_address_of(backend).latest() or address
    return f"{address}/projects/{project.label_studio_id}/data"


def task_link(backend: Backend, project: Project, task: int) -> str:
    """A task of a project, by its number in Label Studio."""
    return f"{project_link(backend, project)}?task={task}"


class OwnAddress:
    """The address that people open Label Studio under, as it says itself.

    It is asked in the background. Only the first callers wait for the answer, and not for long.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._told: str | None = None

    def latest(self) -> str | None:
        """What it told last; None where it has told nothing yet, or knows of no address of its own."""
        with self._lock:
            if time.monotonic() - self._asked > SECONDS_BETWEEN_QUESTIONS:
                is_first = self._asked == float("-inf")
                self._asked = time.monotonic()
                thread = threading.Thread(target=self._ask, name="Label Studio's address", daemon=True)
                thread.start()
                if is_first:
                    thread.join(SOON)
        return self._told

    def _ask(self) -> None:
        try:
            self._told = self._backend.label_studio.own_name()
        except ImilError as error:
            logger.warning("Label Studio does not tell the address that people open it under: %s", error)


@lru_cache(maxsize=1)
def _own_address_of(backend: Backend) -> OwnAddress:
    """Asked by one thread, however many pages want to know."""
    return OwnAddress(backend)

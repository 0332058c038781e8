"""Lets the log records of a workflow name it and what it works on, and tell how long it took."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from dbos import DBOS
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError
from imil_backend.json_logs import Field, log_fields
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.store.tables import Dataset, Round

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Fields = dict[str, Field | None]


def named_in_logs(
    fields: Callable[..., Fields] = lambda *_, **__: {},
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let the records of a workflow carry its id and these fields; the last one tells how long it took.

    Args:
        fields: what is known of a workflow's arguments.
    """

    def decorate(workflow: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(workflow)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with (
                log_fields(workflow=DBOS.workflow_id),
                log_fields(**fields(*args, **kwargs)),
                timed_in_logs(f"Workflow {workflow.__name__}"),
            ):
                return workflow(*args, **kwargs)

        return run

    return decorate


@contextmanager
def timed_in_logs(what: str) -> Iterator[None]:
    """Log the end of a block with its duration; a block that fails leaves that to whoever catches it."""
    began = time.monotonic()
    yield
    logger.info("%s has ended.", what, extra={"duration": round(time.monotonic() - began, 3)})


def round_fields(backend: Backend, round_id: int) -> Fields:
    """The dataset and the number of a round, and its version where it has one already."""

    def find(session: Session) -> Fields:
        round_ = session.get(Round, round_id)
        if round_ is None:
            return {}
        named = {"round": round_.number, "version": round_.version_name}
        return named | _dataset_fields(session, round_.dataset_id)

    return _found(backend, find)


def project_fields(backend: Backend, number: int) -> Fields:
    """The dataset of a project of Label Studio, where this backend manages it."""

    def find(session: Session) -> Fields:
        project = find_project(session, backend.settings.label_studio_url, number)
        return _dataset_fields(session, project.dataset_id) if project is not None else {}

    return _found(backend, find)


def dataset_fields(backend: Backend, dataset_id: int) -> Fields:
    """The dataset."""
    return _found(backend, lambda session: _dataset_fields(session, dataset_id))


def _dataset_fields(session: Session, dataset_id: int) -> Fields:
    return {"dataset": session.get_one(Dataset, dataset_id).name}


def _found(backend: Backend, find: Callable[[Session], Fields]) -> Fields:
    try:
        with backend.store.begin() as session:
            return find(session)
    except StoreError as error:  # the workflow meets it too, and says what comes of it
        logger.warning("The log does not say what the workflow works on: %s", error)
        return {}

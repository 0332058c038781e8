"""Lets the log records of a workflow name it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from dbos import DBOS

from imil_backend.errors import StoreError
from imil_backend.json_logs import log_fields
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import Dataset, Round

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def named_in_logs(workflow: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let the records of a workflow carry its id."""

    @functools.wraps(workflow)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with log_fields(workflow=DBOS.workflow_id):
            return workflow(*args, **kwargs)

    return run


def round_named_in_logs(
    backend: Callable[[], Backend],
) -> Callable[
    [Callable[Concatenate[int, Parameters], Result]], Callable[Concatenate[int, Parameters], Result]
]:
    """Let the records of a round's workflow carry its id, the dataset, the round and its version."""

    def decorate(
        workflow: Callable[Concatenate[int, Parameters], Result],
    ) -> Callable[Concatenate[int, Parameters], Result]:
        @functools.wraps(workflow)
        def run(round_id: int, /, *args: Parameters.args, **more: Parameters.kwargs) -> Result:
            with log_fields(workflow=DBOS.workflow_id, **_round_fields(backend(), round_id)):
                return workflow(round_id, *args, **more)

        return run

    return decorate


def _round_fields(backend: Backend, round_id: int) -> dict[str, str | int | None]:
    try:
        with backend.store.begin() as session:
            round_ = session.get(Round, round_id)
            if round_ is None:
                return {}
            dataset = session.get_one(Dataset, round_.dataset_id)
            return {"dataset": dataset.name, "round": round_.number, "version": round_.version_name}
    except StoreError as error:  # the workflow meets it too, and says what comes of it
        logger.warning("The log does not name round %d: %s", round_id, error)
        return {}

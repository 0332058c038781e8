"""The champion as a model of label-studio-ml, for teams that run `label-studio-ml start` or a `_wsgi.py`.

It delegates to the same functions as `imil serve`, which does more (secrets, deletions, /versions): prefer
that unless you are bound to label-studio-ml. Works with label-studio-ml 1.0.9 (from PyPI) and is written for
2.x (from git):

    from label_studio_ml.api import init_app
    from imil_backend.label_studio_ml_model import ImilModel

    app = init_app(model_class=ImilModel)

The settings are those of `imil serve`; `imil worker` must run beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flask import abort, has_request_context, make_response

from imil_backend.config import load_settings
from imil_backend.errors import ImilError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.running.events import ANNOTATION_EVENTS, TASK_EVENTS, Events
from imil_backend.loop.serving.predictions import PredictionService
from imil_backend.server.app import answer_to

if TYPE_CHECKING:
    _Base: Any = object
else:
    try:
        from label_studio_ml.model import LabelStudioMLBase as _Base
    except ImportError as error:
        raise ImportError(
            "imil_backend.label_studio_ml_model needs label-studio-ml: pip install --no-deps "
            "label-studio-ml label-studio-tools, and pip install redis rq colorama attrs lxml appdirs"
        ) from error

START_TRAINING = "START_TRAINING"


@functools.cache
def _champion() -> PredictionService:
    """One for all models of a process: label-studio-ml may make a model for each request."""
    return PredictionService(Backend(load_settings()), patient=True)


class ImilModel(_Base):  # type: ignore[misc]
    """Predicts with the champion of a task's project, and records events for `imil worker`."""

    TRAIN_EVENTS = (*sorted(ANNOTATION_EVENTS | TASK_EVENTS), START_TRAINING)

    def setup(self) -> None:
        """Called by 2.x, which answers Label Studio with the version that is set here."""
        number = str(self.project_id).partition(".")[0]
        self.set("model_version", _champion().version_name(int(number) if number.isdigit() else None))

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """One prediction per task, in order; see `answers.PredictionService.predict`."""
        project = tasks[0].get("project") if tasks else None
        number = project if isinstance(project, int) else None
        return _champion().predict(number, tasks, self.label_config, context)

    def fit(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        """Record an event of Label Studio's; the worker does the rest.

        Called as fit(tasks, event=, data=) by 1.0.9 and as fit(event, data) by 2.x, which calls it within
        the request: what cannot be done is answered as `imil serve` answers it, with the reason.
        """
        named = dict(zip(("event", "data"), arguments, strict=False)) if len(arguments) > 1 else {}
        event, data = more.get("event", named.get("event")), more.get("data", named.get("data")) or {}
        try:
            events = Events(Backend(load_settings()))  # 1.0.9 calls from a process of its own each time
            if event == START_TRAINING:
                return {"job": events.start_training(int(data["project"]["id"]))}
            return {"jobs": events.record({**data, "action": event}).workflow_ids}
        except ImilError as error:
            if not has_request_context():
                raise
            abort(make_response(*answer_to(error)))

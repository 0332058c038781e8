"""Fakes of the loop, and the recorded requests of a real Label Studio 1.23."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imil_backend.config import Settings

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
SECRET = {"X-IMIL-Secret": "new-secret"}


@dataclass
class FakeReceipt:
    accepted: bool = True
    reason: str = "recorded"
    workflow_ids: list[str] = field(default_factory=lambda: ["workflow-1"])
    malformed: bool = False


class FakeEvents:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.recorded: list[dict[str, Any]] = []
        self.trainings: list[int] = []
        self.error: Exception | None = None

    def secrets(self) -> tuple[str, ...]:
        return ("new-secret", "old-secret")

    def record(self, payload: dict[str, Any]) -> FakeReceipt:
        self._fail()
        self.recorded.append(payload)
        return FakeReceipt()

    def start_training(self, project_id: int) -> str:
        self._fail()
        self.trainings.append(project_id)
        return f"training-{project_id}"

    def workflow_status(self, workflow_id: str) -> str:
        return "running" if workflow_id == "workflow-1" else "unknown"

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class FakeChampion:
    """Predicts the task's id as its score."""

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, int, str | None]] = []
        self.error: Exception | None = None

    def version_name(self, project_id: int | None, label_config: str | None = None) -> str:
        if self.error is not None:
            raise self.error
        return f"version-of-{project_id}"

    def versions(self, project_id: int | None) -> list[str]:
        return ["v1", self.version_name(project_id)]

    def predict(
        self,
        project_id: int | None,
        tasks: list[dict[str, Any]],
        label_config: str | None,
        context: dict[str, Any] | None,
    ) -> list[dict[str, Any]]:
        version = self.version_name(project_id)
        self.asked.append((project_id, len(tasks), label_config))
        return [{"result": [], "score": float(task["id"]), "model_version": version} for task in tasks]


def recorded(name: str) -> Any:
    """Body of a recorded request."""
    exchange = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
    return exchange["json"] if "json" in exchange else exchange["request"]


def make_settings(**values: Any) -> Settings:
    """Settings that neither the environment's .env nor a data directory has a part in."""
    return Settings(_env_file=None, **values)

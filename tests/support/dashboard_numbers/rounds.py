"""The page of rounds."""

from __future__ import annotations

import json

from support.dashboard_numbers.files import Files
from support.dashboard_numbers.page import Page, Visit


def check_rounds(visit: Visit, files: Files) -> None:
    """A line for each round, with its answers and verdict."""
    page = Page(visit("/datasets/1/rounds"))
    for round_ in files.ask("SELECT * FROM rounds"):
        answered, tasks = files.answered(round_["id"])
        name = f"Round {round_['number']}" if round_["mined_version_id"] else "Baseline"
        _, state, shown, verdict, _ = page.row(name)
        assert state.startswith(round_["state"])
        _, simulated = files.given("rounds.number = ?", round_["number"])
        marked = f" ({simulated} simulated answer{'' if simulated == 1 else 's'})" if simulated else ""
        assert shown == (f"{answered} of {tasks}" if tasks else "-") + marked
        told = json.loads(round_["verdict"] or "null") or {}
        assert verdict.startswith(told.get("verdict", "-"))

"""The machine, and trainings under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, make_response, render_template, request

from imil_backend.loop.dashboard.machine.checks import Checks
from imil_backend.loop.dashboard.machine.machine import machine_of
from imil_backend.loop.dashboard.machine.trainings import HEIGHT, WIDTH
from imil_backend.server.dashboard.static_copy import current_copy

if TYPE_CHECKING:
    from imil_backend.loop.base.backend import Backend

LIVE_SECONDS = 5  # between two updates, for visitors who ask for them


def add_machine_page(pages: Blueprint, backend: Backend) -> None:
    """Add the page to the blueprint."""
    checks = Checks(backend)

    @pages.get("/machine")
    def machine() -> Response:
        live = "live" in request.args
        page = machine_of(backend, checks, wait=current_copy() is not None)
        size = {"width": WIDTH, "height": HEIGHT, "seconds": LIVE_SECONDS}
        response = make_response(render_template("dashboard/machine.html", page=page, live=live, **size))
        if live:
            response.headers["Refresh"] = str(LIVE_SECONDS)  # without a script
        return response

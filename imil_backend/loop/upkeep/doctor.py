"""Checks of everything that usually goes wrong, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.upkeep import doctor_label_studio, doctor_machine
from imil_backend.loop.upkeep.check_results import CheckResult, Outcome, State, look
from imil_backend.loop.upkeep.doctor_images import look_at_images
from imil_backend.loop.upkeep.doctor_probe import probe_label_studio

LABEL_STUDIO: Mapping[str, Callable[[Backend], Outcome]] = {
    "Label Studio's URL": doctor_label_studio.address,
    "token": doctor_label_studio.token,
    "Label Studio's version": doctor_label_studio.version,
    "Label Studio's name": doctor_label_studio.own_name,
    "clock": doctor_label_studio.clock,
}
MACHINE: Mapping[str, Callable[[Backend], Outcome]] = {
    "disk": doctor_machine.disk,
    "database": doctor_machine.database,
    "permissions": doctor_machine.permissions,
    "torch": doctor_machine.torch_build,
    "device": doctor_machine.device,
    "weights": doctor_machine.weights,
}


def examine(backend: Backend, *, probe: bool) -> Iterator[CheckResult]:
    """Run all checks; those that depend on a failed one are skipped.

    Args:
        backend: with the settings to look at.
        probe: test both directions in a temporary project.
    """
    label_studio = {}
    for subject, check in LABEL_STUDIO.items():
        label_studio[subject] = look(subject, partial(check, backend))
        yield label_studio[subject]
        if label_studio[subject].state is State.FAILED:
            break
    reached = all(result.state is not State.FAILED for result in label_studio.values())
    yield look("the backend's URL", partial(doctor_label_studio.own_address, backend))
    if reached and probe:
        yield from probe_label_studio(backend)
    machine = {}
    for subject, check in MACHINE.items():
        machine[subject] = look(subject, partial(check, backend))
        yield machine[subject]
    if reached and machine["database"].state is not State.FAILED:
        yield from look_at_images(backend)

"""Everything that usually goes wrong, looked at in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from imil_backend.loop import doctor_label_studio, doctor_machine
from imil_backend.loop.backend import Backend
from imil_backend.loop.doctor_probe import probe_label_studio
from imil_backend.loop.findings import Finding, State, Verdict, look

LABEL_STUDIO: Mapping[str, Callable[[Backend], Verdict]] = {
    "Label Studio's address": doctor_label_studio.address,
    "token": doctor_label_studio.token,
    "Label Studio's version": doctor_label_studio.version,
    "clock": doctor_label_studio.clock,
}
MACHINE: Mapping[str, Callable[[Backend], Verdict]] = {
    "the backend's address": doctor_label_studio.own_address,
    "disk": doctor_machine.disk,
    "database": doctor_machine.database,
    "torch": doctor_machine.torch_build,
    "device": doctor_machine.device,
    "weights": doctor_machine.weights,
}


def examine(backend: Backend, *, probe: bool) -> Iterator[Finding]:
    """Look at everything; what depends on something that failed is left out.

    Args:
        backend: with the settings to look at.
        probe: try both directions in a project of its own, which is deleted at the end.
    """
    for subject, check in LABEL_STUDIO.items():
        finding = look(subject, partial(check, backend))
        yield finding
        if finding.state is State.FAILED:
            break
    else:
        if probe:
            yield from probe_label_studio(backend)
    for subject, check in MACHINE.items():
        yield look(subject, partial(check, backend))

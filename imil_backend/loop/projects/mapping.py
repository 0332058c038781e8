"""What the labels and choices of a connected project mean."""

from __future__ import annotations

from math import inf
from time import monotonic

from imil_backend.errors import RoundError
from imil_backend.label_studio.labeling.label_config import ProjectMapping, read_label_config
from imil_backend.label_studio.labeling.task_data import CONFIDENCE_KEY
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.relocated import elsewhere
from imil_backend.store.tables import Project

CONFIG_SECONDS = 10.0


def mapping_of(backend: Backend, project: Project) -> ProjectMapping:
    """What the labels and choices of a project mean, as its labeling config says now.

    Raises:
        RoundError: the project is in another Label Studio than the settings name.
        LabelStudioError: it cannot be read, or its labeling config cannot be understood.
    """
    check_instance(backend, project)
    return read_config(project, backend.label_studio.project(project.label_studio_id)["label_config"])


def recent_mapping_of(backend: Backend, project: Project) -> ProjectMapping:
    """As `mapping_of`, by a labeling config that may be CONFIG_SECONDS old.

    For single annotations, which come in bursts. One that is read by a config changed in these seconds is
    read again by the next reconciliation.
    """
    check_instance(backend, project)
    read_at, xml = backend.label_configs.get(project.label_studio_id, (-inf, ""))
    if monotonic() - read_at > CONFIG_SECONDS:
        read_at, xml = monotonic(), backend.label_studio.project(project.label_studio_id)["label_config"]
        backend.label_configs[project.label_studio_id] = read_at, xml
    return read_config(project, xml)


def read_config(project: Project, xml: str) -> ProjectMapping:
    """What a labeling config means by what was chosen when its project was connected."""
    return read_label_config(xml, **(project.meanings or {}))


def shows_something(mapping: ProjectMapping) -> bool:
    """Whether a champion's prediction shows anything in a project: a class, or a score alone."""
    return mapping.class_choices_name is not None or CONFIDENCE_KEY not in mapping.fields


def check_instance(backend: Backend, project: Project) -> None:
    """Refuse to mistake another Label Studio's project of the same ID for ours.

    Raises:
        RoundError: the settings name another Label Studio than the project is in.
    """
    if project.instance != backend.settings.label_studio_url:
        raise RoundError(elsewhere(project, backend.settings.label_studio_url))

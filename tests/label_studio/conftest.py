"""What the tests of this room share; Label Studio itself and the browser are in tests/support."""

from __future__ import annotations

import pytest
from support.label_studio import RunningLabelStudio

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config


@pytest.fixture
def client(label_studio: RunningLabelStudio) -> LabelStudio:
    return label_studio.client


@pytest.fixture
def project(client: LabelStudio) -> int:
    """An empty brush project of its own."""
    return client.create_project("blackout", load_label_config("blackout"), "Paint <b>the marker</b>.")

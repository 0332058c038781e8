"""One trained installation, copied for each fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from faults_scene import Scene, start
from support.installation import Installation, make_environment
from support.label_studio import RunningLabelStudio
from support.proxy import proxied


@pytest.fixture
def make_scene(
    tmp_path: Path, baseline: Path, label_studio: RunningLabelStudio, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Scene]]:
    """Makes installations; all their processes end with the test, and none is left over."""
    with ExitStack() as stack:
        scenes: list[Scene] = []

        def make(name: str = "data", *, trained: bool = True, **environment: str) -> Scene:
            data_dir = tmp_path / name
            if trained:
                shutil.copytree(baseline, data_dir, dirs_exist_ok=True)
            settings = make_environment(data_dir, label_studio)
            outbound = stack.enter_context(proxied(label_studio.url))
            inbound = stack.enter_context(proxied(f"http://127.0.0.1:{settings['IMIL_PORT']}"))
            settings |= {
                "LABEL_STUDIO_URL": outbound.url,
                "IMIL_PUBLIC_URL": inbound.url,
                "IMIL_RECONCILE_MINUTES": "1",
                "IMIL_LABEL_STUDIO_TIMEOUT": "15",
                **environment,
            }
            installation = Installation(settings, stack)
            stack.callback(installation.kill)
            scenes.append(Scene(installation, label_studio, inbound, outbound, request.config))
            return scenes[-1]

        yield make
        for scene in scenes:
            for process in scene.installation.running.values():
                process.terminate()
                process.wait()
            psutil.wait_procs(scene.installation.processes(), timeout=10)
            assert scene.installation.processes() == []  # no orphan


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    """A pushed round of five tasks with its web process and its worker."""
    return start(make_scene())

"""Every number on a page equals the one that is worked out independently from the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from shutil import copytree, ignore_patterns

import pytest
from dashboard_scene import make_scene
from loop_fakes import FakeLabelStudio, chosen, make_backend, mask_of, region
from support.dashboard_numbers import CHECKS
from support.dashboard_numbers.files import Files
from support.dashboard_numbers.page import Visit
from test_dashboard import app_of

from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds.report import report_round
from imil_backend.loop.versions.champions import PERSON, promote, roll_back
from imil_backend.store.tables import Dataset, Project, Version

pytestmark = pytest.mark.slow  # a database and plots


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Visit, Files]]:
    """A judged round, with answers that differ, are skipped or cannot be used, and images set aside.

    And a version of another recipe, without a report; and a promotion that was taken back.
    """
    backend, label_studio = make_backend(tmp_path_factory.mktemp("data")), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    label_studio.name = None  # so that links begin with what the store has
    scene = make_scene(backend, label_studio)
    _, second, third, fourth = sorted(label_studio.tasks_there)
    label_studio.update(label_studio.annotate(second, chosen("label_wrong"), by=9), lead_time=7.0)
    label_studio.annotate(third, region(mask_of(6)), by=4)
    label_studio.update(label_studio.annotate(fourth, [], by=9), was_cancelled=True)
    label_studio.annotate(fourth, [*region(mask_of(1)), *chosen("nothing_to_black_out")], by=7)
    set_aside(backend, scene.dataset.id, "image", "film.png", "It is truncated.")
    prepare(backend)
    with backend.store.begin() as session:
        project = session.get_one(Project, 1)
    reconcile(backend, project)
    report_round(backend, scene.round_id)
    directory = backend.path("versions", "another")
    copytree(scene.before.directory, directory, ignore=ignore_patterns("report"))
    with backend.store.begin() as session:
        session.add(
            Version(
                dataset_id=scene.dataset.id, name="another", parent_id=scene.after.id,
                baseline_id=scene.before.id, directory=str(directory), metrics=scene.after.metrics,
                recipe={**scene.after.recipe, "seed": 7}, runtime_info={"threads": 2}, fingerprint="g",
                blacked_out=3, code_version="0", seconds=2000.0,
            )
        )  # fmt: skip
        promote(session, session.get_one(Version, scene.before.id), PERSON, "It is older.", "ann")
        roll_back(session, session.get_one(Dataset, scene.dataset.id))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
        visitor = app_of(backend).test_client()
        yield lambda path: visitor.get(f"/dashboard{path}").text, Files(backend.directory)
    backend.close()


@pytest.mark.parametrize("check", CHECKS)
def test_the_numbers_are_those_of_the_files(
    site: tuple[Visit, Files], check: Callable[[Visit, Files], None]
) -> None:
    check(*site)

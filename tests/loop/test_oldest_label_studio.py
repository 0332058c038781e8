"""A round trip with the oldest version of Label Studio that is supported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import HEIGHT, WIDTH, chosen, make_backend, make_dataset, make_version, mask_of, region
from sqlalchemy import select
from support.http_server import Answer, LocalServer, Request, serve
from support.label_studio import RunningLabelStudio
from support.truth import assert_equals_label_studio

from imil_backend.images.masks.masks import mask_from_png
from imil_backend.label_studio.api.webhooks import Change
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import mask_path
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.connection import connect
from imil_backend.loop.rounds.lifecycle import open_round
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.upkeep import doctor_label_studio
from imil_backend.loop.upkeep.check_results import State
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Annotation, Dataset, Sample, Task

pytestmark = pytest.mark.label_studio


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """This backend, as far as Label Studio asks it."""

    def answer(request: Request) -> Answer:
        return Answer(200, {"model_version": "v1"} if request.path == "/setup" else {"status": "UP"})

    with serve(answer) as server:
        yield server


@pytest.fixture
def backend(
    tmp_path: Path, oldest_label_studio: RunningLabelStudio, own_server: LocalServer
) -> Iterator[Backend]:
    backend = make_backend(
        tmp_path,
        label_studio_url=oldest_label_studio.url,
        label_studio_api_key=oldest_label_studio.api_key,
        public_url=own_server.url,
        basic_auth_user="label-studio",
        basic_auth_password="p\u00e4ssword",
    )
    yield backend
    backend.close()


def test_a_round_goes_there_and_back(
    backend: Backend, oldest_label_studio: RunningLabelStudio, own_server: LocalServer
) -> None:
    assert doctor_label_studio.version(backend)[0] is State.OK
    assert doctor_label_studio.token(backend)[0] is State.OK
    dataset = make_dataset(backend)
    with backend.store.begin() as session:
        session.get_one(Dataset, dataset.id).policy = {"budget": 0.5}
        for sample in session.scalars(select(Sample)):
            sample.name += ".png"  # Label Studio takes no file without
    make_version(backend, dataset, wrong=[f"train-{number}" for number in range(4)])
    connection = connect(backend, dataset)
    assert (connection.webhook, connection.ml_backend) == (Change.CREATED, Change.CREATED)
    with backend.store.begin() as session:
        round_ = open_round(session, session.get_one(Dataset, dataset.id))
    assert push_round(backend, round_.id) == 4
    with backend.store.begin() as session:
        tasks = list(session.scalars(select(Task.label_studio_id).order_by(Task.rank)))

    painted = mask_of(0, 1, 5)
    with own_server.requests.mutex:
        own_server.requests.queue.clear()
    number = oldest_label_studio.client.create_annotation(tasks[0], region(painted), 1.0)
    hint = own_server.requests.get(timeout=10)
    assert (hint.path, hint.json["annotation"]["id"]) == ("/webhook", number)
    assert hint.headers["X-IMIL-Secret"] == backend.webhook_secrets[0]
    assert sync_annotation(backend, connection.project, number) == "blackout"
    with backend.store.begin() as session:
        kept = session.scalars(select(Annotation)).one()
    assert np.array_equal(mask_from_png(mask_path(backend, str(kept.mask_sha256)), WIDTH, HEIGHT), painted)

    client = oldest_label_studio.client
    wrong = client.create_annotation(tasks[1], chosen("label_wrong"), 1.0)
    nothing = client.create_annotation(tasks[2], [], 1.0)
    client.request("DELETE", f"/api/annotations/{number}/")
    found = reconcile(backend, connection.project)
    assert (found.synced, found.deleted, found.webhook) == (2, 1, None)
    assert_equals_label_studio(backend, oldest_label_studio.ask, connection.project.label_studio_id)
    (dataset_,) = status(backend)["datasets"]
    assert dataset_["answers"] == {"label_wrong": 1, "set_aside": 1}
    (aside,) = dataset_["set_aside"]
    assert (aside["reference"], aside["annotator_name"]) == (
        f"annotation {nothing} of task {tasks[2]}",
        oldest_label_studio.username,
    )
    assert wrong != nothing

"""What one entry in a registry is enough for: it is offered, checked, used and shown like those there are."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from loop_fakes import METRICS as MEASURED
from loop_fakes import OpenRound, make_dataset, make_version, mask_of, region
from PIL import Image
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from imil_backend.cli.helpers.declared_options import with_options
from imil_backend.cli.helpers.showing import show_versions
from imil_backend.errors import SettingsError
from imil_backend.images.masks.blackout import FILLS
from imil_backend.images.masks.region_types import REGION_TYPES, RegionType
from imil_backend.label_studio.api.calls import Call
from imil_backend.label_studio.api.storages import address_in, storages
from imil_backend.label_studio.labeling.annotations import Answer, read_annotation
from imil_backend.label_studio.labeling.label_config import read_label_config
from imil_backend.label_studio.storage_kinds import STORAGE_KINDS, StorageKind
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.training_job import MINING, Recipe
from imil_backend.learning.scoring.comparison import compare
from imil_backend.learning.scoring.endpoints import QUANTITIES, Endpoint, Pairs, Quantity, mean_endpoint
from imil_backend.learning.scoring.metrics import METRICS, Metric, compute_metrics
from imil_backend.learning.scoring.power import Margins, power_of
from imil_backend.learning.scoring.ranking import ASKED, RANKINGS
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.policy import ANSWERS, QUESTIONS, Policy, change_policy
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.rounds.report import write_report
from imil_backend.loop.versions.mispredictions import next_mispredictions
from imil_backend.loop.views.image_export import export
from imil_backend.store.tables import Dataset, Round, Version


def given_on_the_command_line(group: str, *arguments: str) -> dict[str, Any]:
    """What a command that takes a group of the policy's options is given, made now as at a start."""
    given: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @with_options("changes", Policy, (group,))
    def change(changes: dict[str, Any]) -> None:
        given.update(changes)

    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return given


def test_a_fill(open_round: OpenRound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="fill is 'white'; it must be one of black, mean, noise, blur"):
        Policy(fill="white")
    monkeypatch.setitem(FILLS, "white", lambda image, mask: np.full(image[mask].shape, 255))
    given = given_on_the_command_line(ANSWERS, "--fill", "white")
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(0, 1)))
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        change_policy(dataset, given)
    export(open_round.backend, dataset, tmp_path / "out")
    (written,) = (tmp_path / "out").rglob("images/**/*.png")
    assert (np.asarray(Image.open(written))[:, :2] == 255).all()


def test_a_ranking(session: Session, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--ranking" not in CliRunner().invoke(_app_of(QUESTIONS), ["--help"]).output
    monkeypatch.setitem(RANKINGS, "by-name", lambda record: (record["key"],))
    given = given_on_the_command_line(QUESTIONS, "--ranking", "by-name", "--budget", "1")
    dataset = make_dataset(backend, train=20)
    make_version(backend, dataset, wrong=["train-3", "train-1", "train-6"])
    asked = next_mispredictions(session, dataset, replace(Policy(), **given))
    assert [item.sample.name for item in asked] == ["train-1", "train-3", "train-6"]


def test_a_way_to_choose_what_is_asked(
    session: Session, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ASKED, "right", lambda records: [each for each in records if not each["wrong"]])
    given = given_on_the_command_line(QUESTIONS, "--ask", "right", "--budget", "1")
    dataset = make_dataset(backend, train=4)
    make_version(backend, dataset, wrong=["train-3", "train-1"])
    asked = next_mispredictions(session, dataset, replace(Policy(), **given))
    assert {item.sample.name for item in asked} == {"train-0", "train-2"}


def _app_of(group: str) -> typer.Typer:
    app = typer.Typer()
    app.command()(with_options("changes", Policy, (group,))(lambda changes: None))
    return app


def test_a_way_of_mining(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="mining is 'never'"):
        check_recipe(Recipe(mining="never"))
    monkeypatch.setitem(MINING, "never", "a.module:function")
    check_recipe(Recipe(mining="never"))


def test_a_kind_of_region(monkeypatch: pytest.MonkeyPatch) -> None:
    def cross(value: Any, width: int, height: int) -> Any:
        mask = np.zeros((height, width), bool)
        mask[value["row"]] = True
        return mask

    xml = """<View><Image name="image" value="$image"/>
        <CrossLabels name="mask" toName="image"><Label value="Irrelevant"/></CrossLabels>
        <BrushLabels name="brush" toName="image"><Label value="Irrelevant"/></BrushLabels></View>"""
    value = {"row": 2, "crosslabels": ["Irrelevant"]}
    item = {"id": "a", "type": "crosslabels", "from_name": "mask", "to_name": "image", "value": value}
    unknown = read_annotation({"result": [item]}, read_label_config(xml), 8, 6)
    assert unknown.answer == Answer.SET_ASIDE
    monkeypatch.setitem(REGION_TYPES, "Cross", RegionType(frozenset({"row"}), cross))
    reading = read_annotation({"result": [item]}, read_label_config(xml), 8, 6)
    assert reading.answer == Answer.BLACKOUT
    assert reading.mask is not None
    assert np.flatnonzero(reading.mask.all(axis=1)).tolist() == [2]


def test_a_kind_of_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeStorages:
        def request(self, method: str, path: str, **_: Any) -> Any:
            return [{"id": 4, "share": "films", "title": "x"}] if path == "/api/storages/nfs" else []

    client: Any = FakeStorages()
    assert storages(client, 1) == []
    kind = StorageKind(place=("share", "prefix"), credentials=("nfs_ticket",), scheme="nfs")
    monkeypatch.setitem(STORAGE_KINDS, "nfs", kind)
    assert [str(each) for each in storages(client, 1)] == ["nfs: share films"]
    stored = "/tasks/1/resolve/?fileuri=bmZzOi8vZmlsbXMvYS5wbmc="
    assert address_in(client, 1)(stored) == "nfs://films/a.png"
    assert Call("POST", "/", {"nfs_ticket": "secret"}).shown()["body"] == {"nfs_ticket": "***"}


def test_a_metric(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def brier(probabilities: Any, labels: Any) -> float:
        return float(((probabilities - np.eye(2)[labels]) ** 2).sum(axis=1).mean())

    monkeypatch.setitem(METRICS, "brier", Metric("Brier score", brier, listed=True))
    measured = compute_metrics(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1]))
    assert measured["brier"] == 0.25
    metrics = {split: {**values, "brier": 0.125} for split, values in MEASURED.items()}
    text = report_of(open_round, metrics, {})
    assert "| Brier score | - | 0.1250 |" in text  # the baseline was measured before
    shown = {"name": "v", "metrics": metrics, "champion": True, "promoted_once": True, "blacked_out": 0}
    shown["weights_removed_at"] = None
    monkeypatch.setattr("imil_backend.cli.helpers.showing.console.width", 150)
    show_versions([shown], "Versions")
    printed = capsys.readouterr().out
    assert "Brier score" in printed and "0.125" in printed


def test_a_quantity_that_versions_are_compared_in(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sureness(pairs: Pairs) -> list[Endpoint]:
        both = [
            each[np.arange(len(pairs.labels)), pairs.labels] for each in (pairs.champion, pairs.candidate)
        ]
        return [mean_endpoint(pairs, both, np.ones(len(pairs.labels), bool), "sureness")]

    labels = [0, 1] * 300
    split = {"keys": [str(n) for n in range(600)], "groups": [str(n) for n in range(600)], "labels": labels}
    champion = {**split, "probabilities": [[0.9, 0.1], [0.1, 0.9]] * 300}
    candidate = {**split, "probabilities": [[0.6, 0.4], [0.4, 0.6]] * 300}
    assert compare(champion, candidate).verdict == "promote"
    monkeypatch.setitem(QUANTITIES, "sureness", Quantity("sureness", sureness, margin=0.1))
    comparison = compare(champion, candidate, classes=["lesion", "normal"])
    assert comparison.verdict == "reject"
    assert "Sureness went from 0.900 to 0.600, by -0.300; groups that got worse: 600" in comparison.reason
    assert compare(champion, candidate, margins=Margins({"sureness": 0.5})).verdict == "promote"
    powers = power_of(["lesion"] * 30, [str(n) for n in range(30)], ["lesion", "normal"], Margins())
    assert str(powers[-1]) == "30 groups can exclude a loss of 0.100 in sureness"
    assert "| sureness | 0.9000 | 0.6000 |" in report_of(open_round, MEASURED, asdict(comparison))


def report_of(open_round: OpenRound, metrics: dict[str, Any], verdict: dict[str, Any]) -> str:
    """The report of the round, closed with a candidate of these metrics and this verdict."""
    with open_round.backend.store.begin() as session:
        candidate = Version(
            dataset_id=open_round.dataset.id, name="candidate", parent_id=open_round.version.id,
            baseline_id=open_round.version.id, recipe={}, metrics=metrics, runtime_info={}, fingerprint="f",
            directory=str(open_round.backend.path("versions", "candidate", "x").parent), blacked_out=0,
            code_version="0", seconds=3,
        )  # fmt: skip
        session.add(candidate)
        session.flush()
        round_ = session.get_one(Round, open_round.id)
        round_.version_id = candidate.id
        round_.verdict = {"verdict": "undecided", "reason": "", **verdict}
        change_state(round_, CLOSED)
    return write_report(open_round.backend, open_round.id).text.read_text()

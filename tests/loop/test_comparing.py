"""Comparisons of arms: what is fixed beforehand, who is asked, what each arm is given, and resuming."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from loop_fakes import make_project
from PIL import Image
from sqlalchemy import select

from imil_backend.errors import ComparisonError, SettingsError, TrainingFailedError
from imil_backend.images.masks.masks import mask_from_png
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    LOCK_FILE,
    MINING_FILE,
    PREDICTIONS_FILE,
    Recipe,
    read_samples,
    read_training_job,
    write_json,
)
from imil_backend.loop.answers.sample_states import save_mask
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import OPEN
from imil_backend.loop.comparing.arms import ARMS, UNCHANGED, arms_of
from imil_backend.loop.comparing.protocol import PROTOCOL_FILE, Protocol, fix, read_protocol
from imil_backend.loop.comparing.runs import RUNS_FILE, WORK, Runs
from imil_backend.loop.comparing.trainings import annotating, planning, running, trial
from imil_backend.loop.comparing.trainings.planning import Wish, directory_of, plan
from imil_backend.loop.comparing.trainings.running import (
    places_for,
    run_comparison,
    steps_of,
    trainings_of,
)
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Task, now

pytestmark = pytest.mark.slow  # a data set of some dozens of pictures

RECIPE = {"pretrained": False, "image_size": 32, "epochs": 3, "backbone": "resnet18"}
WIDTH, HEIGHT = 24, 20


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A planted data set of 60 films, two a patient; in every fifth one the marker contradicts."""
    root = tmp_path / "films"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    lines = [["image", "label", "split", "group", "mask", "marker", "contradicts"]]
    random = np.random.default_rng(0)
    for number in range(60):
        path, mask = f"images/{number}.png", f"masks/{number}.png"
        size = (HEIGHT + number % 2, WIDTH)
        Image.fromarray(random.integers(0, 255, size, np.uint8)).save(root / path)
        marker = np.zeros(size, bool)
        marker[:3, : 3 + number % 7] = True
        Image.fromarray(marker).save(root / mask)
        label, split = ("fit", "sick")[number // 2 % 2], "test" if number >= 40 else "train"
        lines.append([path, label, split, f"patient-{number // 2}", mask, "tag", str(int(number % 5 == 0))])
    with (root / "planted.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


@pytest.fixture
def dataset(backend: Backend, films: Path) -> str:
    return import_dataset(backend, films, mask_means="irrelevant").dataset


class Trainings:
    """In the place of real ones: what each predicts follows from what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[Path] = []
        self.dies_in: int | None = None
        self.gpus: dict[str, set[str | None]] = {}  # of each seed
        self.meet = Barrier(1)  # of baselines
        monkeypatch.setattr(trial, "run_training", self)
        monkeypatch.setattr(trial, "exchanged", self.exchanged)

    def __call__(self, directory: Path, *, gpus: str | None, **_: Any) -> dict[str, Any]:
        result = directory / "result.json"
        if not result.exists():
            self.gpus.setdefault(directory.parent.name, set()).add(gpus)
            if directory.name == UNCHANGED:
                self.meet.wait(timeout=20)
            if self.dies_in is not None and len(self.done) >= self.dies_in:
                self.dies_in = None
                raise KeyboardInterrupt
            self.done.append(directory)
            self._train(directory)
        return json.loads(result.read_text())

    @staticmethod
    def exchanged(directory: Path, tested: Path, _environment: Any) -> dict[str, np.ndarray]:
        """Every sample is answered rightly with donors of its class, and wrongly with any other."""
        assert (directory / "result.json").exists()
        given = read_samples(tested)
        assert all(each.mask for each in given) and any(each.split == "validation" for each in given)
        samples = [each for each in given if each.split == "test"]
        labels, places = np.array([each.label for each in samples] * 2), np.arange(len(samples))
        right = np.repeat([1, -1], len(samples))
        return {
            "keys": np.array([each.key for each in samples]),
            "labels": labels,
            "features": ((2 * labels - 1) * right)[:, None].astype(np.float32),
            "weight": np.array([[0.0], [1.0]], np.float32),
            "bias": np.zeros(2, np.float32),
            "same_class": places[None],
            "any_class": places[None] + len(samples),
        }

    @staticmethod
    def _train(directory: Path) -> None:
        job, samples = read_training_job(directory), read_samples(directory)
        given = [[each.key, each.split, each.mask_sha256, each.confirmed] for each in samples]
        seed = hashlib.sha256(json.dumps([given, vars(job.recipe)], default=str).encode()).digest()
        random = np.random.default_rng(list(seed))
        predictions = {}
        for split in ("validation", "test"):
            own = [each for each in samples if each.split == split]
            scores = random.random(len(own))
            predictions[split] = {
                "keys": [each.key for each in own],
                "labels": [each.label for each in own],
                "groups": [each.group for each in own],
                "probabilities": np.stack([1 - scores, scores], axis=1).tolist(),
            }
        train = [each for each in samples if each.split == "train"]
        records = [
            {"key": each.key, "label": each.label, "wrong": place % 3 == 0, "margin": place / 100,
             "likely_label_error": False}
            for place, each in enumerate(train)
        ]  # fmt: skip
        write_json(directory / PREDICTIONS_FILE, predictions)
        write_json(directory / MINING_FILE, records)
        (directory / INTERMEDIATE_FILE).touch()
        write_json(directory / "result.json", {"seconds": 1.0, "best_epoch": 2})


@pytest.fixture(autouse=True)
def precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measured_precision", lambda _device, _threads: "float32")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    return Trainings(monkeypatch)


def wish(*arms: str, recipe: dict[str, Any] | None = None, name: str | None = None, **protocol: Any) -> Wish:
    fields = {"arms": tuple(arms_of(arms or ("spread", "mixup"))), "seeds": 2, "budgets": (0.2,), **protocol}
    return Wish(name=name, recipe=RECIPE if recipe is None else recipe, protocol=fields)


def compare(
    backend: Backend, wanted: Wish, told: list[Any] | None = None, places: Sequence[str | None] = (None,)
) -> list[dict[str, Any]]:
    directory, protocol, datasets = plan(backend, wanted)
    fix(directory, protocol)
    tell = (told if told is not None else []).append
    runs = run_comparison(backend, directory, protocol, datasets, tell, places=places)
    return [run.as_json() for run in runs]


def kept(found: list[dict[str, Any]]) -> str:
    return json.dumps(found, sort_keys=True)


def test_arms_that_cannot_be_compared_are_left_out_and_refused(backend: Backend, dataset: str):
    (backend.directory.parent / "films" / "planted.csv").unlink()  # what was planted is no longer known
    _, protocol, _ = plan(backend, Wish(recipe=RECIPE))
    assert "dfr" not in protocol.arms and "self" in protocol.arms
    with pytest.raises(ComparisonError, match="dfr cannot be compared on 'films': it needs to know"):
        plan(backend, wish("dfr"))
    with pytest.raises(ComparisonError, match="conflict cannot be measured on 'films': no marker"):
        plan(backend, wish(end_point="conflict"))


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_the_faster_precision_is_fixed_unless_one_is_asked_for(
    backend: Backend, dataset: str, monkeypatch: pytest.MonkeyPatch, faster: str
):
    monkeypatch.setattr(planning, "measured_precision", lambda _device, _threads: faster)
    directory, protocol, _ = plan(backend, wish())
    assert protocol.recipe["precision"] == faster
    asked = plan(backend, wish(recipe=RECIPE | {"precision": "float32"}))[1]
    assert asked.recipe["precision"] == "float32"
    fix(directory, protocol)
    monkeypatch.setattr(planning, "measured_precision", None)
    assert plan(backend, wish())[1] == protocol  # it is not measured again


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("trainable", ["all", "layer4"])
def test_the_recipe_of_each_arm_can_be_trained(name: str, trainable: Any):
    check_recipe(ARMS[name].of(Recipe(trainable=trainable)))


def test_every_run_is_written_down_with_the_protocol(backend: Backend, dataset: str, trainings: Trainings):
    runs = compare(backend, wish())
    directory = directory_of(backend, dataset)
    digest = hashlib.sha256((directory / PROTOCOL_FILE).read_bytes()).hexdigest()
    assert [(run["arm"], run["seed"]) for run in runs] == [
        (arm, seed) for seed in (0, 1) for arm in (UNCHANGED, "spread", "mixup")
    ]
    assert {run["protocol"] for run in runs} == {digest}
    assert runs[0]["setting"] == {
        "data": "films", "marker": "tag", "agreement": 0.8, "painted": 0.2, "ask": "mispredicted"
    }  # fmt: skip
    assert len(runs[0]["test"]["keys"]) == 20 and len(runs[0]["test"]["contradicting"]) == 4
    assert all(run["test"]["exchanged"] == {key: [1.0, 0.0] for key in run["test"]["keys"]} for run in runs)
    assert len(trainings.done) == 6  # going on unchanged is the baseline itself
    assert sorted(path.name for path in directory.iterdir()) == [PROTOCOL_FILE, RUNS_FILE, LOCK_FILE]


def test_test_images_without_a_sound_mask_take_no_part_in_the_shortcut_test(
    backend: Backend, dataset: str, trainings: Trainings
):
    with backend.store.begin() as session:
        test = [each for each in session.scalars(select(Sample)) if each.split == "test"]
    Path(test[0].clinician_mask).write_bytes(b"no mask")
    runs = compare(backend, wish())
    assert {frozenset(run["test"]["exchanged"]) for run in runs} == {frozenset(each.key for each in test[1:])}
    with backend.store.begin() as session:
        for each in session.scalars(select(Sample).where(Sample.split == "test")):
            each.clinician_mask = None
    with pytest.raises(
        ComparisonError, match="robust_accuracy cannot be measured on 'films': too few of its"
    ):
        plan(backend, wish(end_point="robust_accuracy", name="other"))
    assert "exchanged" not in compare(backend, wish(name="other"))[0]["test"]


def test_a_seed_without_donors_of_a_class_makes_no_shortcut_test(
    backend: Backend, dataset: str, trainings: Trainings
):
    whole = plan(backend, wish(end_point="robust_accuracy"))[2][0]
    assert all(whole.is_tested(seed) for seed in (0, 1))
    donors = {each.key for each in whole.split(1) if each.split == "validation" and each.label == 1}
    with backend.store.begin() as session:
        for each in session.scalars(select(Sample).where(Sample.key.in_(donors))):
            each.clinician_mask = None
    few = plan(backend, wish())[2][0]
    assert [few.is_tested(seed) for seed in (0, 1)] == [True, False]
    with pytest.raises(ComparisonError, match="too few of its test or validation images"):
        plan(backend, wish(end_point="drop"))
    runs = compare(backend, wish())
    assert {run["seed"] for run in runs if "exchanged" in run["test"]} == {0}


def test_another_version_of_the_program_adds_nothing(
    backend: Backend, dataset: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
):
    trainings.dies_in = 2
    with pytest.raises(KeyboardInterrupt):
        compare(backend, wish())
    monkeypatch.setattr(running, "code_version", lambda: "0.2.0")
    with pytest.raises(ComparisonError, match=r"begun by version 0\.1\.0.*, and this is 0\.2\.0: what they"):
        compare(backend, wish())


def test_large_test_splits_are_tested_in_part(
    backend: Backend, dataset: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(annotating, "MOST_TESTED", 7)
    tested = [frozenset(run["test"]["exchanged"]) for run in compare(backend, wish())]
    assert len(tested[0]) == 7 and len(set(tested)) == 1


def test_seeds_split_by_patient_anew_and_keep_the_test_split(
    backend: Backend, dataset: str, trainings: Trainings
):
    first, _, _, second, _, _ = compare(backend, wish())
    assert first["test"]["keys"] == second["test"]["keys"]
    assert first["validation"]["keys"] != second["validation"]["keys"]
    for run in (first, second):
        assert not set(run["validation"]["groups"]) & set(run["test"]["groups"])


@pytest.mark.parametrize("dies_in", range(6))
def test_killed_in_any_training_it_goes_on_and_gives_the_same(
    backend: Backend, dataset: str, trainings: Trainings, dies_in: int
):
    whole = kept(compare(backend, wish(name="whole")))
    already = len(trainings.done)
    trainings.dies_in = already + dies_in
    with pytest.raises(KeyboardInterrupt):
        compare(backend, wish(name="killed"))
    found = [{**run, "protocol": ""} for run in compare(backend, wish(name="killed"))]
    assert kept(found) == kept([{**run, "protocol": ""} for run in json.loads(whole)])
    assert len(trainings.done) == already + 6  # nothing was trained twice


def test_seeds_are_trained_at_the_same_time_each_on_its_gpu(
    backend: Backend, dataset: str, trainings: Trainings
):
    one_by_one = compare(backend, wish(name="one"))
    trainings.gpus.clear()
    trainings.meet = Barrier(2)
    both = compare(backend, wish(name="both"), places=("0", "1"))
    assert kept([{**run, "protocol": ""} for run in sorted(both, key=lambda run: run["seed"])]) == kept(
        [{**run, "protocol": ""} for run in one_by_one]
    )
    assert sorted(trainings.gpus.values(), key=str) == [{"0"}, {"1"}]


def test_one_that_fails_ends_the_others(backend: Backend, dataset: str, trainings: Trainings):
    trainings.dies_in = 1  # an arm of the only seed that has begun, or one of the two baselines
    with pytest.raises(KeyboardInterrupt):
        compare(backend, wish(seeds=8), places=("0", "0"))
    assert len(trainings.done) < 8


@pytest.mark.parametrize(
    ("parallel", "processes", "gpus", "places"),
    [
        (2, 1, [], [None, None]),
        (3, 1, ["0", "1"], ["0", "1", "0"]),
        (2, 2, ["4", "5", "6", "7"], ["4,5", "6,7"]),
        (1, 2, ["0"], ["0"]),
    ],
)
def test_trainings_are_spread_over_the_gpus(
    parallel: int, processes: int, gpus: list[str], places: list[str | None]
):
    assert places_for(parallel, processes, gpus) == places


def test_a_line_that_a_kill_cut_off_is_made_again(backend: Backend, dataset: str, trainings: Trainings):
    whole = compare(backend, wish())
    path = directory_of(backend, dataset) / RUNS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert kept(compare(backend, wish())) == kept(whole)


def test_a_finished_comparison_trains_nothing(backend: Backend, dataset: str, trainings: Trainings):
    compare(backend, wish())
    before = len(trainings.done)
    compare(backend, wish())
    assert len(trainings.done) == before


def test_what_was_fixed_is_not_changed_afterwards(backend: Backend, dataset: str, trainings: Trainings):
    compare(backend, wish())
    with pytest.raises(ComparisonError, match=r"fixed before its first training.*seeds is 2, not 3"):
        compare(backend, wish(seeds=3))
    with pytest.raises(ComparisonError, match=r"recipe is .*--name"):
        compare(backend, wish(recipe={**RECIPE, "epochs": 4}))
    compare(backend, Wish())  # as it was fixed
    path = directory_of(backend, dataset) / PROTOCOL_FILE
    path.write_text(path.read_text().replace("0.02", "0.01"))
    with pytest.raises(ComparisonError, match="changed afterwards"):
        compare(backend, Wish())


def test_another_dataset_is_noticed(backend: Backend, dataset: str, trainings: Trainings):
    compare(backend, wish())
    with backend.store.begin() as session:
        session.scalars(select(Sample)).first().label = "sick"
    with pytest.raises(ComparisonError, match="datasets is"):
        compare(backend, Wish())


def test_a_protocol_says_what_is_compared_with_what(backend: Backend, dataset: str):
    directory, protocol, _ = plan(backend, wish("spread", "jtt", "mixup", against="spread"))
    fix(directory, protocol)
    assert read_protocol(directory) == protocol
    assert protocol.comparisons == ((UNCHANGED, "spread"), ("jtt", "spread"), ("mixup", "spread"))
    assert protocol.simulated and protocol.recipe["deterministic"]
    with pytest.raises(ComparisonError, match="name it among the arms"):
        plan(backend, wish("spread", against="jtt", name="other"))
    with pytest.raises(SettingsError, match="no arm 'magic'"):
        arms_of(("magic",))


def given(backend: Backend, arm: str, seed: int = 0) -> Any:
    """The training samples that an arm is given, and who was asked about."""
    directory, protocol, (compared,) = plan(backend, wish(arm, seeds=1))
    one = trial.Trial(backend, protocol, "", compared, seed, directory / WORK)
    run = one.run(arm, 0.2, lambda _: None)
    samples = read_samples(directory / WORK / f"{arm}-0.2")
    return run, [each for each in samples if each.split == "train"]


def own_masks(backend: Backend) -> dict[str, np.ndarray]:
    with backend.store.begin() as session:
        return {
            each.key: mask_from_png(Path(each.clinician_mask), each.width, each.height)
            for each in session.scalars(select(Sample))
        }


@pytest.mark.parametrize("arm", ["blackout", "spread"])
def test_asked_images_have_their_own_masks(backend: Backend, dataset: str, trainings: Trainings, arm: str):
    run, samples = given(backend, arm)
    painted = [each for each in samples if each.mask]
    assert len(painted) == run.painted_images == round(0.2 * len(samples)) > 3
    assert run.clinician_seconds is None
    for each in samples:
        assert each.confirmed == bool(each.mask)
    for each in painted:
        own = own_masks(backend)[each.key]
        np.testing.assert_array_equal(mask_from_png(Path(each.mask), own.shape[1], own.shape[0]), own)


def test_the_placebo_has_another_ones_mask_in_the_size_of_the_image(
    backend: Backend, dataset: str, trainings: Trainings
):
    asked = {each.key for each in given(backend, "spread")[1] if each.mask}
    samples = [each for each in given(backend, "shuffled")[1] if each.mask]
    assert {each.key for each in samples} == asked
    masks = own_masks(backend)
    differ = [
        (mask_from_png(Path(each.mask), *masks[each.key].shape[::-1]) != masks[each.key]).any()
        for each in samples
    ]
    assert np.mean(differ) > 0.5  # some masks are alike


def test_random_images_are_as_many_of_each_class(backend: Backend, dataset: str, trainings: Trainings):
    asked, drawn = ([each for each in given(backend, arm)[1] if each.mask] for arm in ("spread", "random"))
    assert Counter(each.label for each in asked) == Counter(each.label for each in drawn)
    assert {each.key for each in asked} != {each.key for each in drawn}


def test_without_masks_asked_images_weigh_more_and_the_upper_bound_has_all(
    backend: Backend, dataset: str, trainings: Trainings
):
    run, samples = given(backend, "jtt")
    assert run.painted_images == 0 and sum(each.confirmed for each in samples) == round(0.2 * len(samples))
    run, samples = given(backend, "upper")
    assert run.painted_images == len(samples) == sum(bool(each.mask) for each in samples)


def test_no_budget_trains_twice_what_it_does_not_change(backend: Backend, dataset: str, trainings: Trainings):
    runs = compare(backend, wish("spread", "mixup", "upper", seeds=1, budgets=(0.2, 0.4)))
    assert len(runs) == 8 and len(trainings.done) == 5  # spread alone twice
    by = {(run["arm"], run["setting"]["painted"]): run for run in runs}
    assert by["mixup", 0.2]["test"] == by["mixup", 0.4]["test"]
    assert by["spread", 0.2]["test"] != by["spread", 0.4]["test"]
    _, protocol, _ = plan(backend, Wish())
    assert trainings_of(list(steps_of(protocol))) == 5


def test_clinicians_answers_are_taken_where_there_are_any(
    backend: Backend, dataset: str, trainings: Trainings
):
    _answer(backend, [0, 1, 4, 8], seconds=[30, 45, 20, None])
    directory, protocol, (compared,) = plan(backend, Wish(recipe=RECIPE, protocol={"seeds": 1}))
    assert protocol.datasets[0].annotations == "answers" and not protocol.simulated
    assert not {"random", "upper"} & set(protocol.arms)  # nobody has painted what they need
    with pytest.raises(ComparisonError, match="upper cannot be compared on 'films'"):
        plan(backend, wish("upper"))
    assert plan(backend, replace(wish("upper"), annotations="masks"))[1].simulated
    one = trial.Trial(backend, protocol, "", compared, 0, directory / WORK)
    run = one.run("spread", 0.04, lambda _: None)
    assert len(run.test.exchanged) == 20  # by the data set's own masks of its test images
    painted = {each.key for each in read_samples(directory / WORK / "spread-0.04") if each.mask}
    assert painted and painted <= compared.answered
    assert one._seconds(sorted(compared.answered)) is None  # of one it is not known
    assert one._seconds([key for key, took in compared.seconds.items() if took]) == 95


def _answer(
    backend: Backend, numbers: list[int], seconds: list[float | None], *, simulated: bool = False
) -> None:
    """Paint the upper rows of some films, as answers of a round."""
    with backend.store.begin() as session:
        data = session.scalars(select(Dataset)).one()
    project = make_project(backend, data)
    for number, took in zip(numbers, seconds, strict=True):
        with backend.store.begin() as session:
            round_ = Round(dataset_id=data.id, number=number, state=OPEN)
            sample = session.scalars(select(Sample).where(Sample.name == f"images/{number}.png")).one()
            mask = np.zeros((sample.height, sample.width), bool)
            mask[: 2 + number] = True
            session.add(round_)
            session.flush()
            ids = {"project_id": project.id, "sample_id": sample.id, "label_studio_id": number}
            task = Task(**ids, round_id=round_.id, rank=1)
            session.add(task)
            session.flush()
            session.add(
                Annotation(
                    **ids, task_id=task.id, label_studio_created_at=now(), label_studio_updated_at=now(),
                    answer="blackout", mask_sha256=save_mask(backend, mask), lead_time=took,
                    simulated=simulated,
                )
            )  # fmt: skip


def test_answers_of_the_simulated_clinician_are_called_so(backend: Backend, dataset: str):
    _answer(backend, [0, 4], seconds=[30, 45], simulated=True)
    _, protocol, (compared,) = plan(backend, Wish(recipe=RECIPE))
    assert protocol.datasets[0].annotations == "answers" and protocol.simulated
    assert set(compared.seconds.values()) == {None}


def test_a_data_set_without_masks_is_refused(backend: Backend, films: Path):
    table = films / "planted.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    (films / "plain.csv").write_text("\n".join(",".join(row[:4]) for row in rows))
    import_dataset(backend, films / "plain.csv")
    with pytest.raises(ComparisonError, match="Nothing is known of what is irrelevant"):
        plan(backend, wish())


def test_two_do_not_run_in_one_directory(backend: Backend, dataset: str, trainings: Trainings):
    directory, protocol, datasets = plan(backend, wish())
    fix(directory, protocol)
    with (
        only_training_in(directory / LOCK_FILE),
        pytest.raises(TrainingFailedError, match="not disturbed"),
    ):
        run_comparison(backend, directory, protocol, datasets, lambda _: None)


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", ""])
def test_a_comparison_stays_in_its_folder(backend: Backend, dataset: str, name: str):
    with pytest.raises(ComparisonError, match="cannot be the name of a folder"):
        directory_of(backend, name)


def test_protocols_of_another_version_are_told(tmp_path: Path):
    with pytest.raises(ComparisonError, match="no comparison in"):
        read_protocol(tmp_path)
    (tmp_path / PROTOCOL_FILE).write_text('{"datasets": []}')
    with pytest.raises(ComparisonError, match="no protocol of this version"):
        read_protocol(tmp_path)
    assert list(Runs(tmp_path)) == []
    with pytest.raises(ComparisonError, match="budget must be above 0"):
        Protocol("x", (), {}, (UNCHANGED,), budgets=(0.0,))

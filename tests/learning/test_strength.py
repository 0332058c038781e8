"""How strong a correction `auto` chooses."""

from pathlib import Path

import numpy as np
import pytest
from tiny_jobs import JobMaker

from imil_backend.learning.child import training_process
from imil_backend.learning.child.steps import strength
from imil_backend.learning.child.steps.strength import STRENGTHS, choose
from imil_backend.learning.contract.proposed import PROPOSED_FILE, Proposed, Quality, write_proposed
from imil_backend.learning.contract.training_job import RESULT_FILE, STRENGTH_FILE, TrainingSample, read_json


def tried(*figures: tuple[float, float]) -> list[dict[str, object]]:
    """Accuracy and robust accuracy of each strength."""
    return [
        {"name": name, "accuracy": plain, "robust_accuracy": robust}
        for name, (plain, robust) in zip(STRENGTHS, figures, strict=True)
    ]


@pytest.mark.parametrize(
    ("figures", "chosen"),
    [
        ([(0.90, 0.60), (0.90, 0.70), (0.89, 0.82), (0.88, 0.81)], "spread"),
        ([(0.90, 0.60), (0.90, 0.70), (0.87, 0.90), (0.85, 0.95)], "painted images"),  # others lose too much
        ([(0.90, 0.85), (0.86, 0.90), (0.86, 0.90), (0.86, 0.90)], "none"),
        ([(0.90, 0.85), (0.90, 0.85), (0.90, 0.85), (0.90, 0.85)], "none"),  # of equals the weakest
    ],
)
def test_the_highest_robust_accuracy_is_taken_of_those_that_lose_no_more_than_the_margin(
    figures: list[tuple[float, float]], chosen: str
):
    assert choose(tried(*figures))[0] == chosen


def test_the_reason_says_what_was_gained_and_what_it_costs():
    reason = choose(tried((0.90, 0.60), (0.90, 0.70), (0.89, 0.82), (0.88, 0.81)))[1]
    assert "'spread' was chosen" in reason
    assert "+22.0 points of robust accuracy and -1.0 on unchanged images" in reason


def propose_the_corners(job: Path, samples: list[TrainingSample]) -> None:
    """What a mask network would propose: the corner in which each tag was planted."""
    known = [(number, sample) for number, sample in enumerate(samples) if sample.split != "test"]
    masks = np.zeros((len(known), 64, 64), bool)
    for place, (number, _) in enumerate(known):
        masks[place, :13, slice(0, 13) if number % 3 else slice(51, 64)] = True
    proposed = Proposed(
        usable=True,
        reason="Planted.",
        quality=Quality((), None, None, None, 0, 0),
        size=64,
        packed=np.packbits(masks.reshape(len(known), -1), axis=1),
        confidence=np.ones(len(known), np.float32),
    )
    write_proposed(job / PROPOSED_FILE, [sample.key for _, sample in known], proposed)


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_a_training_tries_every_strength_and_goes_on_with_the_chosen_one(
    make_job: JobMaker, tagged: list[TrainingSample], monkeypatch: pytest.MonkeyPatch
):
    recipe = {"backbone": "resnet18", "epochs": 2, "correction": "auto"}
    job: Path = make_job(given=tagged, recipe=recipe)
    propose_the_corners(job, tagged)
    training_process.run_training_job(job)
    kept = read_json(job / STRENGTH_FILE)
    assert [each["name"] for each in kept["tried"]] == list(STRENGTHS)
    assert kept["chosen"] == choose(kept["tried"])[0]
    used = read_json(job / RESULT_FILE)["recipe"]
    assert used == {**used, **STRENGTHS[kept["chosen"]], "correction": "counterexample", "trainable": "all"}

    (job / RESULT_FILE).unlink()  # a training that was interrupted tries nothing again
    monkeypatch.setattr(strength, "_try", None)
    training_process.run_training_job(job)
    assert read_json(job / RESULT_FILE)["recipe"] == used


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_where_no_shortcut_can_be_measured_the_default_is_taken(
    make_job: JobMaker, samples: list[TrainingSample]
):
    job: Path = make_job(given=samples, recipe={"backbone": "resnet18", "epochs": 2, "correction": "auto"})
    training_process.run_training_job(job)
    kept = read_json(job / STRENGTH_FILE)
    assert (kept["chosen"], kept["tried"]) == ("spread", [])
    assert "no shortcut can be measured" in kept["reason"]

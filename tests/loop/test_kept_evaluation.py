"""What is worked out and drawn of a version, beside its report."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from loop_fakes import RESULT, OpenRound, make_version

from imil_backend.learning.contract.training_job import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    read_json,
    write_json,
)
from imil_backend.learning.plots.themed import COLOURS
from imil_backend.loop.evaluation.kept import (
    EVALUATION_FILE,
    KeptEvaluation,
    evaluate_version,
    folder_of,
    kept_evaluation,
)
from imil_backend.store.tables import Dataset, Version

EPOCHS = [
    {"epoch": number, "train_loss": 1 / number, "validation": {"loss": 0.5, "accuracy": 0.75}}
    for number in (1, 2, 3)
]
DARK, WHITE = "#16181d", "#ffffff"


def evaluated(open_round: OpenRound, version: Version) -> KeptEvaluation:
    result = {**RESULT, "epochs": EPOCHS, "best_epoch": 3}
    write_json(Path(version.directory) / RESULT_FILE, result)
    with open_round.backend.store.begin() as session:
        return evaluate_version(session, version)


def test_an_evaluation_is_kept_with_its_plots(open_round: OpenRound) -> None:
    kept = evaluated(open_round, open_round.version)
    assert kept_evaluation(open_round.version) == kept
    assert set(kept.splits) == {"validation", "test"}
    assert kept.splits["validation"].samples == 4
    files = [plot.file for plot in (*kept.plots, *kept.plots_of["validation"], *kept.plots_of["test"])]
    assert len(files) == len(set(files)) == 7  # no round came to a version yet
    for file in files:
        svg = ET.parse(folder_of(open_round.version) / file).getroot()
        assert svg.tag.endswith("svg")
    assert "Accuracy" not in kept.plots_of["test"][0].text
    assert "4 validation samples of 4 groups" in kept.plots_of["validation"][0].text


def test_an_evaluation_of_another_release_is_none(open_round: OpenRound) -> None:
    evaluated(open_round, open_round.version)
    write_json(folder_of(open_round.version) / EVALUATION_FILE, {"splits": {}, "figures": []})
    assert kept_evaluation(open_round.version) is None


def test_names_of_classes_do_no_harm_in_plots(open_round: OpenRound) -> None:
    named = ["$\\frac{<script>alert(1)</script>&", "\u202eright-to-left \u05e9 " + 300 * "x"]
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).classes = named
    kept = evaluated(open_round, open_round.version)
    for plot in kept.plots_of["validation"]:
        text = (folder_of(open_round.version) / plot.file).read_text()
        assert "<script" not in text
        assert len(text) < 100_000


def test_rounds_are_drawn_with_all_versions_before(open_round: OpenRound) -> None:
    first = open_round.version
    write_json(Path(first.directory) / RESULT_FILE, {**RESULT, "epochs": EPOCHS, "best_epoch": 3})
    candidate = make_version(open_round.backend, open_round.dataset, "candidate")
    with open_round.backend.store.begin() as session:
        session.merge(open_round.round).version_id = candidate.id
    kept = evaluated(open_round, candidate)
    assert kept_evaluation(first) is not None  # it was made good
    assert "round 1: accuracy 1.000" in kept.plots[1].text


def test_a_split_without_samples_is_left_out(open_round: OpenRound) -> None:
    path = Path(open_round.version.directory) / PREDICTIONS_FILE
    predictions = read_json(path)
    empty = {name: [] for name in predictions["test"]}
    write_json(path, {**predictions, "test": empty})
    kept = evaluated(open_round, open_round.version)
    assert list(kept.splits) == list(kept.plots_of) == ["validation"]


def test_a_version_of_an_earlier_release_has_none(open_round: OpenRound) -> None:
    assert kept_evaluation(open_round.version) is None


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", [WHITE, DARK])
def test_colours_can_be_told_from_the_background(background: str) -> None:
    for colour in COLOURS:
        lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour

"""Finished runs of a comparison, on the disk and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imil_backend.errors import ComparisonError
from imil_backend.loop.comparing.runs import RUNS_FILE, Predictions, Run, Runs, Setting

SETTING = Setting("films", "letter", 0.9, 0.04, "mispredicted")
SPLIT = {
    "keys": ["a", "b", "c"],
    "labels": [0, 1, 1],
    "groups": ["p", "q", "q"],
    "probabilities": [[0.25, 0.75], [0.125, 0.875], [1.0, 0.0]],
}
PREDICTIONS = Predictions.of({**SPLIT, "exchanged": {"a": (1.0, 0.25)}}, {"b", "of another split"})
RUN = Run(SETTING, "unchanged", 0, 12.5, 3, "ab" * 32, PREDICTIONS, PREDICTIONS, 8, 61.5)


def test_a_run_is_read_as_it_was_written(tmp_path: Path):
    runs = Runs(tmp_path)
    bare = Predictions.of(SPLIT)
    runs.add(RUN)
    runs.add(replace(RUN, seed=1, clinician_seconds=None, test=bare))
    again = Runs(tmp_path)
    assert [run.as_json() for run in again] == [run.as_json() for run in runs]
    found = again.find(SETTING, "unchanged", 0)
    assert found is not None
    assert found.test.contradicting == {"b"} and found.setting == SETTING
    assert found.test.exchanged == {"a": (1.0, 0.25)}
    np.testing.assert_array_equal(found.test.probabilities, PREDICTIONS.probabilities)
    without = again.find(SETTING, "unchanged", 1)
    assert without is not None and without.test.contradicting is None and without.test.exchanged is None
    assert again.find(replace(SETTING, agreement=0.5), "unchanged", 0) is None


@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_line_that_a_kill_cut_off_is_forgotten(tmp_path: Path, cut: int):
    runs, other = Runs(tmp_path), replace(RUN, arm="blackout")
    runs.add(RUN)
    runs.add(other)
    path = tmp_path / RUNS_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    again = Runs(tmp_path)
    assert [run.arm for run in again] == ["unchanged"]
    again.add(other)
    assert [run.arm for run in Runs(tmp_path)] == ["unchanged", "blackout"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 1]}, "per sample"),
        ({"probabilities": [0.5, 0.5, 0.5]}, "per sample"),
        ({"probabilities": [[0.5, 0.5], [0.5, 0.5], [float("nan")] * 2]}, "diverged"),
        ({"exchanged": {"of another split": (1.0, 1.0)}}, "shortcut test"),
    ],
)
def test_what_is_no_prediction_is_refused(changed: dict[str, object], message: str):
    with pytest.raises(ComparisonError, match=message):
        Predictions.of({**SPLIT, **changed})


def test_a_marker_without_agreement_is_refused():
    with pytest.raises(ComparisonError, match="agreement"):
        replace(SETTING, agreement=None)

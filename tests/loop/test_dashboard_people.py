from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from loop_fakes import OpenRound, chosen, mask_of, region
from typer.testing import Result

from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.loop.answers.pseudonyms import called, pseudonyms
from imil_backend.loop.answers.reconcile import reconcile


def answered_by(open_round: OpenRound) -> list[str]:
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        names = pseudonyms(session, open_round.dataset.id)
    return [called(each, names) for each in open_round.annotations]


def test_whoever_answers_first_is_a_and_stays_it(open_round: OpenRound) -> None:
    tasks = open_round.tasks
    open_round.label_studio.annotate(tasks[0], chosen("unreadable"), by=9)
    open_round.label_studio.annotate(tasks[1], chosen("unreadable"), by=4)
    assert answered_by(open_round) == ["annotator A", "annotator B"]
    open_round.label_studio.annotate(tasks[2], chosen("unreadable"), by=1)
    open_round.label_studio.annotate(tasks[3], chosen("unreadable"), by=9)
    assert answered_by(open_round) == ["annotator A", "annotator B", "annotator C", "annotator A"]


def test_the_simulated_clinician_is_called_that(open_round: OpenRound) -> None:
    painted = [{**item, "meta": META} for item in region(mask_of(1, 2))]
    open_round.label_studio.annotate(open_round.tasks[0], painted)
    assert answered_by(open_round) == ["simulated clinician"]


def test_the_audit_trail_is_printed_with_the_letters_and_has_the_keys_as_json(
    open_round: OpenRound, imil: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imil_backend.cli.helpers.console.console.width", 200)
    painted = [{**item, "meta": META} for item in region(mask_of(1, 2))]
    open_round.label_studio.annotate(open_round.tasks[0], chosen("unreadable"), by=9)
    open_round.label_studio.annotate(open_round.tasks[1], chosen("unreadable"), by=4)
    open_round.label_studio.annotate(open_round.tasks[1], painted, by=1)
    answered_by(open_round)
    shown = imil("audit", "train-1").stdout
    assert ["by annotator B" in shown, "by simulated clinician" in shown] == [True, True]
    entries = json.loads(imil("audit", "train-1", "--json").stdout)
    keys = [str(each["annotator"]) for each in entries if "annotator" in each]
    assert len(keys) == 2
    assert not [key for key in keys if key in shown]

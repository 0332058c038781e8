from __future__ import annotations

from loop_fakes import OpenRound, chosen, mask_of, region

from imil_backend.label_studio.api.simulated_clinician import META
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.dashboard.people import called, pseudonyms


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

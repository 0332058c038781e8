"""What the project's description and instructions in Label Studio tell clinicians of their latest round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.label_studio.labeling.words import Words, words_of
from imil_backend.learning.scoring.endpoints import EXCHANGED
from imil_backend.learning.scoring.findings import GAINS
from imil_backend.loop.answers.counted import COUNTS
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import PAINTED
from imil_backend.loop.evaluation.shared_round import shared_link
from imil_backend.loop.importing.made import made_as
from imil_backend.store.tables import Annotation, Dataset, Round, Task

_OURS = "IMIL: "  # what stands before it in a description is somebody's own
_NEWS = re.compile(r"^<blockquote>.*?</blockquote>", re.DOTALL)  # of the round before


def tell_clinicians(backend: Backend, round_id: int) -> None:
    """Say in a project of our own what a round's painting changed, and open its instructions once for that.

    Idempotent.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        project = project_of(session, round_.dataset_id)
        if project is None or project.connected is not None or round_.is_baseline:
            return
        told = told_of_round(session, round_)
        words = words_of(policy_of(project.dataset).language)
    link = shared_link(backend, round_id)
    there = backend.label_studio.project(project.label_studio_id)
    own = str(there.get("description") or "").partition(_OURS)[0].rstrip()
    more = words["round_more"]
    news = " ".join(filter(None, (_OURS + told, more.format(link=link) if link else "")))
    name = more.partition("{link}")[0].rstrip(" :")
    shown = " ".join(filter(None, (told, f'<a href="{link}">{name}</a>' if link else "")))
    guide = _NEWS.sub("", str(there.get("expert_instruction") or ""))
    change = {
        "description": "\n\n".join(filter(None, (own, news))),
        "expert_instruction": f"<blockquote>{shown}<hr></blockquote>{guide}",
        "show_instruction": True,  # until the first answers of the next round are there
    }
    backend.label_studio.request("PATCH", f"/api/projects/{project.label_studio_id}/", body=change)


def told_of_round(session: Session, round_: Round) -> str:
    """What a closed round changed, with intervals, in a few sentences and the clinicians' language."""
    words = words_of(policy_of(session.get_one(Dataset, round_.dataset_id)).language)
    found = select(Annotation).join(Annotation.task).where(Task.round_id == round_.id, COUNTS)
    answers = session.scalars(found).all()
    painted = sum(each.answer == PAINTED for each in answers)
    sentences = [words["round_told"].format(round=round_.number, answers=len(answers), painted=painted)]
    if simulated := sum(each.simulated for each in answers):
        sentences.append(words["round_simulated"].format(simulated=simulated))
    if made := made_as(session, round_.dataset_id):
        sentences.append(words[f"round_{made}"])
    verdict = round_.verdict or {}
    if figures := _figures(words, verdict):
        sentences.append(words[f"round_{verdict['verdict']}"].format(figures=figures))
    return " ".join(sentences)


def _figures(words: Words, verdict: Mapping[str, Any]) -> str:
    findings = verdict.get("findings", ())
    gains = (each for each in findings if each["metric"] in GAINS and each["champion"] is not None)
    return ", ".join(
        words[f"figure_{each['metric']}"].format(
            **{name: f"{100 * each[name]:+.1f}" for name in ("difference", "lower", "upper")},
            samples=_samples(verdict, each["metric"]),
            groups=each["groups"],
        )
        for each in gains
    )


def _samples(verdict: Mapping[str, Any], metric: str) -> int:
    """How many images a figure is of: some have no known irrelevant part to exchange."""
    told = verdict["shortcut"] if metric in EXCHANGED else verdict
    return int(told["samples"])

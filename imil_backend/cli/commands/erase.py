"""`imil erase`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    JsonOption,
    command,
    open_backend,
    print_json,
    say,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from imil_backend.loop.erasure.erasing import Outcome
    from imil_backend.loop.erasure.plan import Findings, Plan
    from imil_backend.loop.erasure.subject import Subject

SHOWN = 20  # of a list; the rest is in the JSON


@command("erase")
def erase(
    context: typer.Context,
    sample: Annotated[str | None, typer.Option(help="An image, by its key or its name.")] = None,
    group: Annotated[
        str | None, typer.Option(help="All images of a group (patient): its name, or a DICOM PatientID.")
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="A person in Label Studio, by number or e-mail address.")
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Why; kept in the audit trail, so name nobody in it.", show_default=False)
    ] = "",
    dataset: DatasetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase what is known of a patient's images, or forget who an annotator is. It cannot be undone.

    Images, masks, answers, pictures and rows go from the data directory and the database, and tasks from
    Label Studio. Original files outside of the data directory stay, and are listed, as are the versions that
    were trained on them and the backups. An annotator's answers stay, under a random key.

    An erasure that was interrupted is finished first; without --sample, --group and --annotator, nothing else
    is done.
    """
    from imil_backend.errors import NotFoundError, SettingsError
    from imil_backend.loop.erasure.erasing import finish_erasures

    given = [each for each in (sample, group, annotator) if each is not None]
    if len(given) > 1 or (dry_run and not given):
        raise SettingsError("Give one of --sample, --group and --annotator.")
    if given and not dry_run and not reason.strip():
        raise SettingsError("Say why with --reason; the audit trail keeps it. Name nobody in it.")
    with open_backend(context) as backend:
        finished = [] if dry_run else finish_erasures(backend)
        try:
            if annotator is not None:
                _forget(backend, annotator, reason, dry_run=dry_run, as_json=as_json)
            elif given:
                find = partial(_find, backend, dataset, sample, group)
                _erase(backend, find, reason, dry_run=dry_run, as_json=as_json)
            else:
                _show_finished(finished, as_json=as_json)
        except NotFoundError as error:
            if not finished:
                raise
            # It may have been this very command that was interrupted.
            _show_finished(finished, as_json=as_json, nothing_more=str(error))


def _find(backend: Any, name: str | None, sample: str | None, group: str | None, session: Session) -> Subject:
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.erasure.subject import subject_of_group, subject_of_sample

    dataset = find_dataset(session, name)
    if sample is not None:
        return subject_of_sample(session, dataset, sample)
    return subject_of_group(backend, session, dataset, group or "")


def _erase(
    backend: Any, find: Callable[[Session], Subject], reason: str, *, dry_run: bool, as_json: bool
) -> None:
    from imil_backend.loop.erasure import erasing

    outcome = None
    if dry_run:
        plan, findings = erasing.preview(backend, find)
    else:
        findings, outcome = erasing.erase(backend, find, getuser(), reason)
    if as_json:
        print_json({"findings": asdict(findings), "outcome": asdict(outcome) if outcome else None})
        return
    _show_findings(findings, dry_run=dry_run)
    if outcome is None:
        _show_plan(plan)
    else:
        _show_outcome(outcome)


def _show_findings(found: Findings, *, dry_run: bool) -> None:
    copies = f" ({found.copies} of them are copies that were not named)" if found.copies else ""
    say(f"Images that {'would be' if dry_run else 'were'} erased: {len(found.samples)}{copies}.")
    if dry_run:
        _list("", [f"{each['name']} ({each['dataset']}, {each['key']})" for each in found.samples])
    _list("Versions that were trained on them, and keep what they have learned:", found.trained)
    _list("Versions that were only measured on them:", found.measured)
    _list("Not touched, since it is not the backend's; delete it yourself:", found.outside)
    _list("Backups that hold them, as far as is known; delete or replace them:", found.backups)
    _list("Not searched for by itself, as a class has the same name; check the tables:", found.ambiguous)
    if found.elsewhere:
        names = ", ".join(found.elsewhere)
        say(f"The group occurs in other datasets too, which are not touched: {escape(names)} (--dataset).")


def _show_plan(plan: Plan) -> None:
    say(
        f"Files that would be removed: {len(plan.files)}; masks of answers: {len(plan.masks)}; the pixel "
        "caches, which are rebuilt; tasks in Label Studio."
    )


def _show_outcome(outcome: Outcome) -> None:
    if outcome.tasks:
        say(f"Tasks that were deleted in Label Studio: {outcome.tasks}.")
    _list(
        "Label Studio no longer serves these files, but leaves them in its media folder; delete them there:",
        outcome.uploads,
    )
    _list(
        "Files that still name them, or hold a word that may stand for them; look at them yourself:",
        outcome.still_found,
    )
    if outcome.problem:
        say(
            f"[yellow]Not finished yet:[/] {escape(outcome.problem)} The worker goes on with it, or `imil "
            "erase`."
        )


def _show_finished(outcomes: Sequence[Outcome], *, as_json: bool, nothing_more: str = "") -> None:
    if as_json:
        print_json([asdict(each) for each in outcomes])
        return
    if not outcomes:
        say("No erasure is unfinished.")
    for each in outcomes:
        if each.problem is None:
            say("An erasure that was interrupted is finished now.")
        _show_outcome(each)
    if nothing_more:
        say(f"Nothing more was erased: {escape(nothing_more)}")


def _forget(backend: Any, user: str, reason: str, *, dry_run: bool, as_json: bool) -> None:
    from imil_backend.loop.erasure.annotators import (
        answers_of,
        backups_with,
        find_annotator,
        forget_annotator,
    )

    found = find_annotator(backend, user)
    answers, backups = sum(answers_of(backend, found).values()), backups_with(backend, found)
    outcome = None if dry_run else forget_annotator(backend, found, getuser(), reason)
    if as_json:
        print_json({"answers": answers, "backups": backups, "outcome": asdict(outcome) if outcome else None})
        return
    verb = "would be forgotten" if dry_run else "is forgotten"
    say(
        f"The annotator {verb}; {answers} answers stay, under the key {found.key}. Label Studio still "
        "knows who gave them: delete the user there."
    )
    _list("Backups that say who it is, as far as is known; delete or replace them:", backups)
    if outcome:
        _show_outcome(outcome)


def _list(title: str, items: Sequence[str]) -> None:
    if items and title:
        say(title)
    for item in items[:SHOWN]:
        say(f"  {escape(item)}")
    if (more := len(items) - SHOWN) > 0:
        say(f"  ... and {more} more; --json lists all.")

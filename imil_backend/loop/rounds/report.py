"""The report of a round: questions and answers, champion against candidate, and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImageError, LearningError, MaskError, NotFoundError
from imil_backend.files import write_atomically
from imil_backend.images.intensity.windows import in_words
from imil_backend.learning.contract.proposed import PROPOSED_FILE, read_proposed
from imil_backend.learning.contract.training_job import STRENGTH_FILE, read_json
from imil_backend.learning.evaluation.estimates import Estimate
from imil_backend.learning.evaluation.evaluation import Evaluation
from imil_backend.learning.scoring.endpoints import EXCHANGED, QUANTITIES
from imil_backend.learning.scoring.metrics import METRICS
from imil_backend.loop.answers.agreement import Readings, agreement_of, several_readings
from imil_backend.loop.answers.pseudonyms import Names, called, pseudonyms
from imil_backend.loop.answers.sample_states import sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.dataset_window import window_of
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.evaluation.kept import evaluate_round, kept_evaluation
from imil_backend.loop.importing.made import PHANTOMS, PLANTED, made_as
from imil_backend.loop.proposals.figures import proposal_figures
from imil_backend.loop.rounds.lifecycle import answered
from imil_backend.loop.rounds.pictures import Painted, before_and_after, exchanged, readers_apart
from imil_backend.loop.rounds.worth import worth_of
from imil_backend.loop.versions.champions import judged_until
from imil_backend.loop.versions.shortcut_results import what_was_done
from imil_backend.store.tables import Annotation, Dataset, Round, Sample, Task, Version

PICTURES = 4
APART = 3  # samples on which the readers agree least, with their pictures
BOUNDS = (
    "Each bound of a difference holds with 95% confidence. A candidate is promoted if every line "
    "says *not worse*, and rejected if one says *worse*."
)
BOTH = (
    "Each bound of a difference holds with 95% confidence. Judged by both, accuracy on unchanged "
    "images and robust accuracy, a candidate is promoted if every line says *not worse* and one of "
    "the two has risen, and rejected if a line says *worse* and neither has risen."
)
MADE = {
    PHANTOMS: "**Phantoms**: drawn images are among these, and what is measured on them says nothing about "
    "patients.",
    PLANTED: "**Planted**: markers were planted in images, and what is measured on them says nothing about "
    "patients.",
}
ROBUSTNESS = {
    "robust_accuracy": "robust accuracy: with the irrelevant part of any class",
    "same_class": "accuracy with that of the same class",
    "drop": "drop",
}


@dataclass(frozen=True)
class Report:
    """Where a report was written."""

    text: Path
    pictures: tuple[Path, ...]


def report_round(backend: Backend, round_id: int) -> Report:
    """Work out and keep what a closed round's version is and changed, then write the report.

    Raises:
        NotFoundError: the round has no version yet.
    """
    try:
        evaluate_round(backend, round_id)
    finally:  # the report holds most without it
        report = write_report(backend, round_id)
    return report


def write_report(backend: Backend, round_id: int) -> Report:
    """Write a closed round's report into its version's directory; intervals are those that were kept.

    Raises:
        NotFoundError: the round has no version yet.
    """
    with backend.store.begin() as session:
        round_ = session.get_one(Round, round_id)
        if round_.version is None:
            raise NotFoundError(f"Round {round_.number} has no version yet; see `imil status`.")
        directory = Path(round_.version.directory) / "report"
        directory.mkdir(exist_ok=True)
        pictures = _pictures(backend, session, round_, directory)
        readers = _readers(backend, session, round_, directory)
        text = _text(session, round_, round_.version, readers, pictures)
    write_atomically(directory / "report.md", text.encode())
    return Report(directory / "report.md", tuple(pictures))


def _text(session: Session, round_: Round, version: Version, readers: list[str], pictures: list[Path]) -> str:
    verdict = round_.verdict or {}
    champion = session.get(Version, version.parent_id) if version.parent_id else None
    lines = [
        f"# {'Baseline' if round_.is_baseline else f'Round {round_.number}'}: {version.name}",
        "",
        f"**{verdict.get('verdict', '')}**: {verdict.get('reason', '')}",
        "",
        *_made(session, round_),
        *_findings_table(verdict.get("findings", [])),
        *_metrics_table(champion, version, "validation"),
        "Every round is judged on the same validation split: the more versions it has judged (this "
        f"is no. {judged_until(session, version)}), the more optimistic it is.",
        "",
        *_shortcut_test(verdict.get("shortcut")),
        *_worth(session, round_),
        *_metrics_table(champion, version, "test"),
        "The test split is used for this report only, never to choose anything.",
        "",
        "## Answers",
        "",
        *_answers(session, round_),
        f"- masks of {version.blacked_out} training samples were used in total",
        *_window(session.get_one(Dataset, round_.dataset_id)),
        "",
        *readers,
        "## Training",
        "",
        f"- fingerprint of samples, masks and recipe: `{version.fingerprint}`",
        f"- recipe: {_listed(version.recipe)}",
        f"- chosen at run time: {_listed(version.runtime_info)}",
        *_proposed(version),
        *_strength(version),
        f"- imil-backend {version.code_version}, {version.seconds:.0f} s, "
        f"{version.created_at:%Y-%m-%d %H:%M} UTC",
        "",
    ]
    if pictures:
        lines += ["## Before and after", ""]
        lines += [*(f"![before and after]({path.name})" for path in pictures), ""]
    return "\n".join(lines)


def _made(session: Session, round_: Round) -> list[str]:
    made = made_as(session, round_.dataset_id)
    return [MADE[made], ""] if made else []


def _proposed(version: Version) -> list[str]:
    """What came of the masks proposed from the painted ones; nothing where none were looked for."""
    path = Path(version.directory) / PROPOSED_FILE
    try:
        return [f"- proposed masks: {read_proposed(path)[1].reason}"] if path.exists() else []
    except LearningError as error:
        return [f"- proposed masks: {error}"]


def _strength(version: Version) -> list[str]:
    """What `auto` has tried, and what it chose; nothing where the correction was given."""
    path = Path(version.directory) / STRENGTH_FILE
    if not path.exists():
        return []
    kept = read_json(path)
    tried = [
        f"  - {each['name']}: accuracy {each['accuracy']:.3f}, "
        f"robust accuracy {each['robust_accuracy']:.3f}, {each['seconds']:.0f} s"
        for each in kept["tried"]
    ]
    return [f"- strength of the correction: {kept['reason']}", *tried]


def _metrics_table(champion: Version | None, version: Version, split: str) -> list[str]:
    if split not in version.metrics:
        return []
    columns = [each for each in (champion, version) if each is not None and split in each.metrics]
    names = [each.name + (" (champion at the time)" if each is champion else "") for each in columns]
    evaluations = [_evaluation(each, split) for each in columns]
    rows = []
    for key, metric in METRICS.items():
        cells = (
            _estimate(each.estimate(key) if each else None) or _number(column.metrics[split].get(key))
            for column, each in zip(columns, evaluations, strict=True)
        )
        rows.append(f"| {metric.title} | {' | '.join(cells)} |")
    title = f"{split}, with 95% intervals by group" if any(evaluations) else split
    return [
        f"| {title} | {' | '.join(names)} |",
        "|---" * (len(columns) + 1) + "|",
        *rows,
        "",
    ]


def _evaluation(version: Version, split: str) -> Evaluation | None:
    kept = kept_evaluation(version)
    return kept.splits.get(split) if kept else None


def _estimate(estimate: Estimate | None) -> str:
    """A metric with its interval, and what it is of; empty where it is not known."""
    if estimate is None:
        return ""
    groups = f"{estimate.groups} group{'' if estimate.groups == 1 else 's'}"
    return f"{_interval(asdict(estimate))}; {estimate.samples} samples of {groups}"


def _shortcut_test(test: dict[str, Any] | None) -> list[str]:
    """How far champion and candidate lean on what is irrelevant; nothing where no mask was known."""
    if test is None:
        return []
    head = ["## Shortcut test", ""]
    if test["untested"]:
        return [*head, test["untested"], ""]
    columns = {name: test[name] for name in ("champion", "candidate") if test[name]}
    rows = [
        f"| {title} | " + " | ".join(_interval(each[key]) for each in columns.values()) + " |"
        for key, title in ROBUSTNESS.items()
    ]
    untested = test["champion_untested"]
    return [
        *head,
        f"| with 95% bounds | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *rows,
        "",
        f"{what_was_done(test)} {test['seconds']:.0f} s.",
        *([f"The champion was not tested: {untested}"] if untested else []),
        "",
    ]


def _worth(session: Session, round_: Round) -> list[str]:
    worth = worth_of(session, round_)
    return [] if worth is None else ["## Benefit", "", " ".join(worth.sentences), ""]


def _interval(values: Mapping[str, Any]) -> str:
    return f"{values['value']:.4f} ({values['lower']:.4f} to {values['upper']:.4f})"


def _findings_table(findings: Sequence[dict[str, Any]]) -> list[str]:
    """What the verdict rests on; verdicts of earlier releases rested on accuracy alone, without a table."""
    rows = [
        f"| {_title_of(each)} | {_number(each['champion'])} | {_number(each['candidate'])} | "
        f"{each['lower']:+.4f} to {each['upper']:+.4f} | {each['margin']:.3f} | {each['groups']} | "
        f"{_changed(each)} | {each['state']} |"
        for each in findings
    ]
    head = "| compared | champion | candidate | difference | margin | groups | worse, better | finding |"
    rule = BOTH if any(each.get("p_gain") is not None for each in findings) else BOUNDS
    return [head, "|---" * 8 + "|", *rows, "", rule, ""] if rows else []


def _title_of(finding: dict[str, Any]) -> str:
    quantity = (QUANTITIES | EXCHANGED).get(finding["metric"])
    return quantity.of(finding["label"]) if quantity else str(finding["metric"])


def _changed(finding: dict[str, Any]) -> str:
    worse, better = finding["groups_worse"], finding["groups_better"]
    return "-" if worse is None else f"{worse}, {better}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _answers(session: Session, round_: Round) -> list[str]:
    own = (Task.round_id == round_.id, Task.purpose == Purpose.ASKED.value)
    found = select(Annotation).join(Annotation.task).where(*own, ~Annotation.deleted)
    annotations = session.scalars(found).all()
    counts = Counter(annotation.answer for annotation in annotations)
    lines = [f"- {answer}: {count}" for answer, count in sorted(counts.items())]
    if simulated := sum(annotation.simulated for annotation in annotations):
        lines.append(f"- {simulated} of these are by the **simulated clinician**, not by a person")
    figures = proposal_figures(annotations)
    return [*lines, *(f"- {sentence}" for sentence in (figures.sentences if figures else ()))]


def _readers(backend: Backend, session: Session, round_: Round, directory: Path) -> list[str]:
    """How far the round's readers agree, and where least; nothing where each task had one reader."""
    readings = several_readings(session, round_.dataset_id, round_.id)
    figures, progress = agreement_of(readings), answered(session, round_)
    if figures is None and round_.readers == 1:
        return []
    lines = ["## Agreement of the readers", ""]
    if round_.readers > 1:
        lines.append(
            f"- {progress.answered} of {progress.tasks} tasks were answered by {round_.readers} readers, "
            f"{progress.begun - progress.answered} by fewer"
        )
    if figures is not None:
        lines.append(
            f"- {figures.samples} samples have several readers. Pairs of readers gave the same "
            f"answer in {figures.same:.0%} of cases (mean over the samples; {figures.pairs} pairs; kappa "
            f"{_number(figures.kappa)}), and the mean Dice of their masks is {_number(figures.dice)} "
            f"({figures.painted} samples)"
        )
    names = pseudonyms(session, round_.dataset_id)
    apart = [each for each in readings if not each.agrees][:APART]
    for number, each in enumerate(apart, start=1):
        lines += _apart(backend, each, names, directory / f"readers-apart-{number}.png")
    return [*lines, ""]


def _apart(backend: Backend, readings: Readings, names: Names, picture: Path) -> list[str]:
    """A sample on which the readers do not agree, with what each painted if anybody has."""
    answers = "; ".join(f"{called(each, names)}: {each.answer}" for each in readings.answers)
    dice = _number(readings.sample.agreement)
    lines = [
        f"- `{readings.sample.name}`, task {readings.answers[0].task.label_studio_id}: {answers}; Dice {dice}"
    ]
    if not any(each.mask_sha256 for each in readings.answers):
        return lines
    try:
        readers_apart(backend, readings.answers).save(picture)
    except (ImageError, MaskError):
        return lines
    return [*lines, "", f"  ![what each of them painted]({picture.name})", ""]


def _window(dataset: Dataset) -> list[str]:
    window = window_of(dataset)
    if window is None:
        return []
    return [
        f"- images of more than 8 bits are shown with the window {in_words(window)}, chosen at the "
        "last import; training uses the whole range"
    ]


def _pictures(backend: Backend, session: Session, round_: Round, directory: Path) -> list[Path]:
    """The most instructive samples as training sees them; unreadable ones are left out."""
    dataset = session.get_one(Dataset, round_.dataset_id)
    states = sample_states(backend, session, dataset)
    asked = select(Task).where(Task.round_id == round_.id, Task.purpose == Purpose.ASKED.value)
    tasks = session.scalars(asked.order_by(Task.rank))
    painted = [
        (task.sample, states[task.sample_id])
        for task in tasks
        if task.sample_id in states and states[task.sample_id].mask_sha256 is not None
    ]
    fill = policy_of(dataset).fill
    recipe = round_.version.recipe if round_.version else {}
    exchanging = recipe.get("correction") == "counterexample"
    pictures: list[Path] = []
    for sample, state in painted:
        if len(pictures) == PICTURES:
            break
        try:
            if exchanging:
                picture = exchanged(backend, sample, state, _donor(sample, painted))
            else:
                picture = before_and_after(backend, sample, state.mask_sha256 or "", fill)
        except (ImageError, MaskError):
            continue
        path = directory / f"before-after-{len(pictures) + 1}.png"
        picture.save(path)
        pictures.append(path)
    return pictures


def _donor(sample: Sample, painted: Sequence[Painted]) -> Painted | None:
    """A painted sample of another class, or another one at least."""
    others = [each for each in painted if each[0].id != sample.id]
    return next((each for each in others if each[0].label != sample.label), next(iter(others), None))

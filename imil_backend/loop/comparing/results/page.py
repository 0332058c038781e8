"""The page of a comparison: one file of HTML, with everything in it, that needs no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.comparing.arms import ARMS
from imil_backend.loop.comparing.protocol import Protocol
from imil_backend.loop.comparing.results.summary import ArmSummary, Summary, measures_for
from imil_backend.loop.comparing.results.words import (
    Answer,
    answer_of,
    change,
    interval,
    p_value,
    samples,
    value,
    what_was_compared,
)
from imil_backend.loop.comparing.statistics.claims import Claim
from imil_backend.loop.comparing.statistics.measures import Measure

TEMPLATE = "page.html"
_MARKS = {"better": "better", "worse": "worse", "alike": "no difference", "undecided": "undecided"}


@dataclass(frozen=True)
class Figures:
    """What was drawn."""

    forests: tuple[Plot, ...]  # of each primary setting
    others: tuple[Plot, ...]


@dataclass(frozen=True)
class Row:
    """An arm in a table of one measure."""

    arm: str
    value: str
    change: str = ""
    interval: str = ""
    p: str = ""
    state: str = ""  # a class of the style
    mark: str = ""  # in words


@dataclass(frozen=True)
class Table:
    """Arms in one measure."""

    title: str
    counted: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Cost:
    """What an arm took."""

    arm: str
    painted: str
    minutes: str
    seconds: str
    regained: str
    delong: str


@dataclass(frozen=True)
class Section:
    """A primary setting."""

    data: str
    tags: tuple[str, ...]
    compared: str
    answer: Answer
    forest: Plot
    table: Table
    measures: tuple[Table, ...]
    costs: tuple[Cost, ...]
    cure: str | None


def render(
    directory: Path,
    protocol: Protocol,
    digest: str,
    looks: int,
    summaries: Sequence[Summary],
    figures: Figures,
) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    primary = [each for each in summaries if each.primary]
    sections = [
        _section(protocol, each, forest) for each, forest in zip(primary, figures.forests, strict=True)
    ]
    first = primary[0]
    return environment.get_template(TEMPLATE).render(
        protocol=protocol,
        digest=digest,
        looks=looks,
        sections=sections,
        others=figures.others,
        arms={name: ARMS[name] for name in protocol.arms},
        end_point=measures_for(first.dataset)[protocol.end_point].title,
        recipe=", ".join(f"{name} {chosen}" for name, chosen in protocol.recipe.items()),
        source=lambda plot: _source(directory / plot.file),
    )


def _section(protocol: Protocol, summary: Summary, forest: Plot) -> Section:
    measures = measures_for(summary.dataset)
    claims = {claim.arm: claim for claim in summary.claims}
    tables = {
        name: Table(
            measure.title,
            samples(summary.counts[name]),
            tuple(
                _row(arm, name, measure, claims.get(arm.arm) if name == protocol.end_point else None)
                for arm in _ranked(protocol, summary)
                if name in arm.values
            ),
        )
        for name, measure in measures.items()
        if summary.counts[name].most
    }
    return Section(
        data=summary.setting.data,
        tags=_tags(summary),
        compared=what_was_compared(protocol, summary),
        answer=answer_of(protocol, summary),
        forest=forest,
        table=tables.pop(protocol.end_point),
        measures=tuple(table for table in tables.values() if table.rows),
        costs=tuple(_cost(arm, measures["auc"]) for arm in summary.arms),
        cure=summary.cure,
    )


def _ranked(protocol: Protocol, summary: Summary) -> list[ArmSummary]:
    """The arms by their difference in the end point, the best first."""

    sign = measures_for(summary.dataset)[protocol.end_point].sign

    def place(arm: ArmSummary) -> float:
        found = arm.differences.get(protocol.end_point)
        return -sign * found.value if found else 0.0

    return sorted(summary.arms, key=place)


def _tags(summary: Summary) -> tuple[str, ...]:
    """What is not real."""
    told = {
        "phantoms (drawn)": summary.dataset.phantoms,
        "planted marker": summary.dataset.marker is not None,
        "simulated clinician": summary.dataset.simulated,
    }
    return tuple(tag for tag, holds in told.items() if holds)


def _row(arm: ArmSummary, name: str, measure: Measure, claim: Claim | None) -> Row:
    found, own = arm.values[name], arm.differences.get(name)
    if own is None:
        return Row(arm.arm, value(found, measure))
    row = Row(arm.arm, value(found, measure), change(own, measure), interval(own, measure))
    if claim is None:
        return row
    return Row(row.arm, row.value, row.change, row.interval, p_value(claim.p), claim.state, _mark(claim))


def _mark(claim: Claim) -> str:
    return "suggested, not shown" if claim.suggested else _MARKS[claim.state]


def _cost(arm: ArmSummary, auc: Measure) -> Cost:
    regained, minutes = arm.regained, arm.clinician_minutes
    area = arm.delong
    return Cost(
        arm.arm,
        f"{arm.painted_images:g}",
        "" if minutes is None else f"{minutes:.0f}",
        f"{arm.seconds:.0f}",
        (regained and f"{regained.value:.0%} ({regained.lower:.0%} to {regained.upper:.0%})") or "",
        "" if area is None else f"{area.value:+.3f} (standard error {area.standard_error:.3f})",
    )


def _source(path: Path) -> str:
    """An SVG as the address of an image, so that the page needs no other file."""
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"

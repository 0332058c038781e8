"""The figures of a comparison, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from imil_backend.learning.plots.themed import COLOURS, LINES, MARKERS, Plot, axes_of
from imil_backend.loop.comparing.protocol import Protocol
from imil_backend.loop.comparing.results.summary import UPPER, ArmSummary, Summary, measures_for
from imil_backend.loop.comparing.results.words import change, interval, value
from imil_backend.loop.comparing.statistics.measures import Measure

_STATES = {  # colour and marker
    "better": (COLOURS[2], "o"),
    "worse": (COLOURS[5], "X"),
    "alike": (COLOURS[0], "D"),
    "undecided": (COLOURS[0], "s"),
}
_LINES = 6  # most arms in one figure of lines
_HEIGHT = 0.6  # of a plot's row: each has one mark and a short name


def draw_forest(directory: Path, protocol: Protocol, summary: Summary, number: int) -> Plot:
    """The difference of each arm in the end point, with its interval, and the seeds one by one."""
    measure = measures_for(summary.dataset)[protocol.end_point]
    scale = 100 if measure.percent else 1
    claims = sorted(summary.claims, key=lambda claim: claim.difference.value)
    file = f"forest-{number}.svg"
    with axes_of(directory / file, rows=math.ceil(_HEIGHT * len(claims))) as axes:
        axes.axvspan(-scale * protocol.margin, scale * protocol.margin, color="#808080", alpha=0.15, lw=0)
        axes.axvline(0, color="#808080", lw=1)
        for row, claim in enumerate(claims):
            colour, marker = _STATES[claim.state]
            found = claim.difference
            axes.plot(
                [scale * each for each in found.by_seed], [row] * len(found.by_seed), "|", color=colour,
                alpha=0.5, markersize=6,
            )  # fmt: skip
            axes.errorbar(
                scale * found.value, row, color=colour, marker=marker, capsize=3, markersize=6,
                xerr=[[scale * (found.value - found.lower)], [scale * (found.upper - found.value)]],
            )  # fmt: skip
        axes.set_yticks(range(len(claims)), [claim.arm for claim in claims])
        axes.set_ylim(-0.7, len(claims) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{measure.title}, difference{' in points' if measure.percent else ''}")
    told = "; ".join(
        f"{each.arm} {change(each.difference, measure)} ({interval(each.difference, measure)}), {each.state}"
        for each in reversed(claims)
    )
    title = f"Difference to {protocol.against} in {measure.title}: {summary.setting.data}"
    return Plot(file, title, f"Differences with 95% intervals over seeds and patients: {told}.")


def draw_dose_response(directory: Path, protocol: Protocol, summaries: Sequence[Summary]) -> Plot | None:
    """The end point over the agreement of a planted marker; None unless there are two agreements."""
    found = [each for each in summaries if each.primary and each.setting.agreement is not None]
    if (
        len({each.setting.agreement for each in found}) < 2
        or len({each.setting.marker for each in found}) > 1
    ):
        return None
    found.sort(key=lambda each: each.setting.agreement or 0)
    marker = found[0].setting.marker
    return _lines(
        directory / "dose-response.svg",
        protocol,
        found,
        f"Dose and response: how often the planted marker ({marker}) tells the class",
        "training images whose marker tells the class, %",
        lambda summary, _arm: 100 * (summary.setting.agreement or 0),
        _chosen(protocol, found[-1]),
    )


def draw_learning_curve(
    directory: Path, protocol: Protocol, summaries: Sequence[Summary], number: int
) -> Plot | None:
    """The end point over the share that is painted, on one dataset; None unless there are two shares."""
    if len(summaries) < 2:
        return None
    found = sorted(summaries, key=lambda each: each.setting.painted)
    painting = {each.arm for each in found[-1].arms if each.painted_images}
    chosen = [arm for arm in _chosen(protocol, found[-1]) if arm in painting | {protocol.against}]
    return _lines(
        directory / f"learning-curve-{number}.svg",
        protocol,
        found,
        f"Learning curve over what is painted: {found[0].setting.data}",
        "training images asked about, %",
        lambda summary, _arm: 100 * summary.setting.painted,
        chosen,
        ticks=[100 * each.setting.painted for each in found],
    )


def draw_minutes(
    directory: Path, protocol: Protocol, summaries: Sequence[Summary], number: int
) -> Plot | None:
    """The end point over the minutes that clinicians took, on one dataset; None where they are not known."""
    found = sorted(summaries, key=lambda each: each.setting.painted)
    timed = [arm.arm for arm in found[-1].arms if arm.clinician_minutes is not None]
    if not timed:
        return None
    return _lines(
        directory / f"minutes-{number}.svg",
        protocol,
        found,
        f"What clinicians' minutes bring: {found[0].setting.data}",
        "clinicians' minutes (Label Studio's lead times)",
        lambda _summary, arm: arm.clinician_minutes or 0.0,
        [protocol.against, *[arm for arm in timed if arm != protocol.against]][:_LINES],
    )


def _chosen(protocol: Protocol, summary: Summary) -> list[str]:
    """The arm compared with, the upper bound, and those that did best in a setting."""
    sign = measures_for(summary.dataset)[protocol.end_point].sign
    ranked = sorted(summary.arms, key=lambda arm: -sign * arm.values[protocol.end_point].value)
    first = [name for name in (protocol.against, UPPER) if name in protocol.arms]
    return [*first, *(arm.arm for arm in ranked if arm.arm not in first)][:_LINES]


def _lines(
    path: Path,
    protocol: Protocol,
    summaries: Sequence[Summary],
    title: str,
    x_label: str,
    place: Callable[[Summary, ArmSummary], float],
    arms: Sequence[str],
    ticks: Sequence[float] | None = None,
) -> Plot:
    """A line of the end point for each arm, with intervals."""
    measure = measures_for(summaries[0].dataset)[protocol.end_point]
    scale = 100 if measure.percent else 1
    told = []
    with axes_of(path) as axes:
        if ticks:
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{each:g}" for each in ticks], minor=False)
            axes.minorticks_off()
        for name in arms:
            number = protocol.arms.index(name)  # so that an arm looks alike in all figures
            own = [each.arm(name) for each in summaries]
            x = [place(summary, arm) for summary, arm in zip(summaries, own, strict=True)]
            found = [arm.values[protocol.end_point] for arm in own]
            axes.errorbar(
                x, [scale * each.value for each in found],
                [[scale * (each.value - each.lower) for each in found],
                 [scale * (each.upper - each.value) for each in found]],
                label=name, color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number // len(COLOURS) % len(LINES)],
                marker=MARKERS[number % len(MARKERS)], markersize=4, capsize=2, elinewidth=0.8,
            )  # fmt: skip
            points = ", ".join(
                f"{value(each, measure)} at {at:.3g}" for at, each in zip(x, found, strict=True)
            )
            told.append(f"{name}: {points}")
        axes.set(xlabel=x_label, ylabel=_label(measure))
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=9)
    return Plot(path.name, title, f"{measure.title} by {x_label}: {'; '.join(told)}. Bars are 95% intervals.")


def _label(measure: Measure) -> str:
    return f"{measure.title}, %" if measure.percent else measure.title

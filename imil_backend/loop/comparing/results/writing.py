"""Writes the results of a comparison: JSON, CSV, figures, and one page for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from imil_backend.errors import SettingsError
from imil_backend.files import write_atomically
from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.comparing.protocol import Protocol, digest_of, read_protocol
from imil_backend.loop.comparing.results.figures import (
    draw_dose_response,
    draw_forest,
    draw_learning_curve,
    draw_minutes,
)
from imil_backend.loop.comparing.results.looks import note_look
from imil_backend.loop.comparing.results.page import Figures, render
from imil_backend.loop.comparing.results.summary import Summary, summarize
from imil_backend.loop.comparing.runs import Runs

RESULTS_FILE, TABLE_FILE, PAGE_FILE = "results.json", "results.csv", "index.html"
_COLUMNS = (
    *(
        "data",
        "planted",
        "agreement",
        "share_asked",
        "simulated",
        "arm",
        "measure",
        "value",
        "lower",
        "upper",
    ),
    *("against", "difference", "difference_lower", "difference_upper", "p_holm", "claim"),
    *("seeds", "samples_least", "samples_most", "patients"),
)


def write_results(directory: Path) -> Path:
    """Write what the runs of a comparison say into its directory; written anew they are the same.

    Returns:
        The page, which needs no other file.

    Raises:
        ComparisonError: runs are missing, or were made by another protocol.
        SettingsError: the packages for statistics are not installed.
    """
    need_packages()
    protocol, digest = read_protocol(directory), digest_of(directory)
    summaries = summarize(protocol, Runs(directory), digest)
    looks = note_look(directory)
    _write_json(directory / RESULTS_FILE, protocol, digest, looks, summaries)
    _write_table(directory / TABLE_FILE, protocol, summaries)
    figures = _draw(directory, protocol, summaries)
    page = directory / PAGE_FILE
    write_atomically(page, render(directory, protocol, digest, looks, summaries, figures).encode())
    return page


def need_packages() -> None:
    """Raise an error that names the extra, unless the packages for statistics are installed."""
    try:
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"A comparison needs the package {error.name}; to install it, run: pip install "
            "'imil-backend[compare]'"
        ) from error


def _draw(directory: Path, protocol: Protocol, summaries: Sequence[Summary]) -> Figures:
    forests = [
        draw_forest(directory, protocol, summary, number)
        for number, summary in enumerate(each for each in summaries if each.primary)
    ]
    others: list[Plot | None] = [draw_dose_response(directory, protocol, summaries)]
    by_data = groupby(summaries, key=lambda each: each.setting.data)
    for number, own in enumerate([list(each) for _, each in by_data]):
        others.append(draw_learning_curve(directory, protocol, own, number))
        others.append(draw_minutes(directory, protocol, own, number))
    return Figures(tuple(forests), tuple(each for each in others if each is not None))


def _write_json(
    path: Path, protocol: Protocol, digest: str, looks: int, summaries: Sequence[Summary]
) -> None:
    written = {
        "protocol": asdict(protocol),
        "protocol_sha256": digest,
        "simulated": protocol.simulated,
        "times_test_was_looked_at": looks,
        "summaries": [asdict(each) for each in summaries],
    }
    write_atomically(path, json.dumps(written, indent=1, allow_nan=False).encode())


def _write_table(path: Path, protocol: Protocol, summaries: Sequence[Summary]) -> None:
    file = io.StringIO()
    table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    table.writeheader()
    for summary in summaries:
        table.writerows(_rows(protocol, summary))
    write_atomically(path, file.getvalue().encode())


def _rows(protocol: Protocol, summary: Summary) -> Iterator[dict[str, Any]]:
    """A row for each arm and measure; p and claim in the end point alone."""
    claims = {claim.arm: claim for claim in summary.claims}
    for arm in summary.arms:
        for measure, found in arm.values.items():
            count, claim = summary.counts[measure], claims.get(arm.arm)
            row = {
                "data": summary.setting.data,
                "planted": summary.setting.marker,
                "agreement": summary.setting.agreement,
                "share_asked": summary.setting.painted,
                "simulated": summary.dataset.simulated,
                "arm": arm.arm,
                "measure": measure,
                "value": found.value,
                "lower": found.lower,
                "upper": found.upper,
                "seeds": summary.seeds,
                "samples_least": count.least,
                "samples_most": count.most,
                "patients": count.patients,
            }
            if change := arm.differences.get(measure):
                row |= {
                    "against": protocol.against,
                    "difference": change.value,
                    "difference_lower": change.lower,
                    "difference_upper": change.upper,
                }
            if claim and measure == protocol.end_point:
                row |= {"p_holm": claim.p, "claim": claim.state}
            yield row

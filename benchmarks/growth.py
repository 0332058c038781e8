"""What a data directory holds after each week of a team's work, before and after `imil gc`, simulated.

    python -m benchmarks growth [--weeks N] [--images N] [--quick] [--json FILE]

Two rounds a day about one dataset, 70 images each, answered by one reader. On Tuesdays a training is
cancelled, on Thursdays a new baseline is trained; until the first of these the last layers alone were
trained, on features. Rows, masks, lists of samples, thumbnails and the audit trail are written by the
backend's own code. Predictions, class evidence and masks are drawn at random, the first report is copied, and
weights, checkpoints, intermediate states and caches are files of the size that was measured (ResNet-50, 224
px). Nothing is trained.

Then follows the real cleanup: what would go, what goes, and whether everything else has stayed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select, text

from benchmarks.team import Team
from imil_backend.learning.contract.evidence import EVIDENCE_FILE
from imil_backend.learning.contract.proposed import PROPOSED_FILE
from imil_backend.learning.contract.training_job import INTERMEDIATE_FILE, MODEL_FILE
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.cleanup.removal import find_removable, remove_unneeded
from imil_backend.loop.evaluation.kept import REPORT_FOLDER
from imil_backend.loop.queues.ended import remove_ended_workflows
from imil_backend.loop.queues.engine import system_database_url
from imil_backend.store.database import Store
from imil_backend.store.tables import Promotion

RESULTS = "JSON files of versions"
OF_VERSIONS = {
    MODEL_FILE: "weights",
    INTERMEDIATE_FILE: "intermediate states",
    PROPOSED_FILE: "proposed masks",
    EVIDENCE_FILE: "class evidence",
}
KINDS_BY_END = {".json": RESULTS, ".lock": "others"}
TOPS = {"masks": "masks of answers", "imil.sqlite": "database", "dbos.sqlite": "records of workflows"}
STAYS = {RESULTS, "reports", "class evidence", "masks of answers", "thumbnails"}


def kind_of(path: Path) -> str:
    """What a file is, by its path in the data directory."""
    top, *rest = path.parts
    if top == "versions":
        if REPORT_FOLDER in rest:
            return "reports"
        return OF_VERSIONS.get(path.name, KINDS_BY_END.get(path.suffix, "training files"))
    if top == "cache":
        return {"before": "features", "thumbn": "thumbnails"}.get(rest[0][:6], "pixel cache")
    return TOPS.get(top.removesuffix("-wal").removesuffix("-shm"), "others")


@dataclass(frozen=True)
class Content:
    """What a data directory holds: bytes and files by kind, rows by table, and what is to stay as it is."""

    bytes: Counter[str]
    files: Counter[str]
    rows: Counter[str]
    stays: dict[str, tuple[int, int]]  # size and time of change


def content_of(backend: Backend) -> Content:
    """Look at all files and tables."""
    content = Content(Counter(), Counter(), Counter(dict(_rows(backend))), {})
    with backend.store.begin() as session:
        champions = {each.version.name for each in session.scalars(select(Promotion))}
    for path in (path for path in backend.directory.rglob("*") if path.is_file()):
        status, name = path.stat(), path.relative_to(backend.directory)
        kind = kind_of(name)
        content.bytes[kind] += status.st_size
        content.files[kind] += 1
        if kind in STAYS or (kind == "weights" and path.parent.name in champions):
            content.stays[str(name)] = status.st_size, status.st_mtime_ns
    return content


def _rows(backend: Backend) -> Iterator[tuple[str, int]]:
    queues = Store(system_database_url(backend))
    for store in (backend.store, queues):
        with store.begin() as session:
            for table in inspect(session.connection()).get_table_names():
                yield table, int(session.scalar(text(f'SELECT count(*) FROM "{table}"')) or 0)
    queues.close()


def clean(backend: Backend) -> dict[str, Any]:
    """Seconds of `imil gc --dry-run` and of `imil gc`, without the start of Python, and what was removed."""
    keep, before = backend.settings.gc_keep, content_of(backend)
    took = [time.monotonic()]
    announced = find_removable(backend, keep)
    took.append(time.monotonic())
    removed = remove_unneeded(backend, keep)
    ended = remove_ended_workflows(backend)
    took.append(time.monotonic())
    after = content_of(backend)
    assert removed == announced
    assert find_removable(backend, keep) == []
    assert after.stays == before.stays
    return {
        "before": before,
        "after": after,
        "dry run, seconds": took[1] - took[0],
        "seconds": took[2] - took[1],
        "removed": Counter(item.kind for item in removed),
        "workflows": ended,
    }


def show(weeks: Sequence[dict[str, Any]]) -> None:
    """A table of bytes by kind, and one of rows by table, before and after the cleanup of each week."""
    contents = [each[when] for each in weeks for when in ("before", "after")]
    head = [f"week {number}, {when} gc" for number, _ in enumerate(weeks, 1) for when in ("before", "after")]
    rule = "|---" * (len(head) + 1) + "|"
    print(f"| MB (files) | {' | '.join(head)} |\n{rule}")
    for kind in sorted(contents[0].bytes | contents[-1].bytes, key=lambda each: -contents[0].bytes[each]):
        cells = (f"{each.bytes[kind] / 1e6:,.1f} ({each.files[kind]:,})" for each in contents)
        print(f"| {kind} | {' | '.join(cells)} |")
    totals = (f"{each.bytes.total() / 1e6:,.0f} ({each.files.total():,})" for each in contents)
    print(f"| all | {' | '.join(totals)} |\n")
    print(f"| rows | {' | '.join(head)} |\n{rule}")
    for table in sorted(contents[-1].rows):
        if max(each.rows[table] for each in contents) > 1:
            print(f"| `{table}` | {' | '.join(f'{each.rows[table]:,}' for each in contents)} |")
    for number, week in enumerate(weeks, 1):
        removed = ", ".join(f"{count} of {kind}" for kind, count in week["removed"].items())
        print(
            f"Week {number}: dry run {week['dry run, seconds']:.1f} s, gc {week['seconds']:.1f} s; removed: "
            f"{removed}; {week['workflows']:,} workflows. All else was as before."
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weeks", type=int, default=2)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--quick", action="store_true", help="small files: only shows that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        team = Team(Path(scratch), 200 if options.quick else options.images, 0.001 if options.quick else 1.0)
        weeks = []
        for _ in range(options.weeks):
            team.work_for_a_week()
            weeks.append(clean(team.backend))
        team.close()
    show(weeks)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    if options.json:
        told = [{**week, "before": vars(week["before"]), "after": vars(week["after"])} for week in weeks]
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

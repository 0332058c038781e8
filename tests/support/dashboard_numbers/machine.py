"""The page of the machine."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
from datetime import datetime, timezone
from pathlib import Path

from support.conditions import wait_until
from support.dashboard_numbers.files import Files, moment
from support.dashboard_numbers.page import Page, Visit


def check_machine(visit: Visit, files: Files) -> None:
    """Workers, queues, projects, and the disk."""
    wait_until(lambda: "is being measured" not in visit("/machine"))
    seen = _last_seen(files)
    page = Page(visit("/machine"))
    for name, since in seen.items():  # a worker may have been seen again since
        assert {since, _last_seen(files)[name]} & set(page.titles), name
    connection = sqlite3.connect(f"file:{files.directory / 'dbos.sqlite'}?mode=ro", uri=True)
    waiting = connection.execute(
        "SELECT queue_name, status, count(*) FROM workflow_status WHERE queue_name IS NOT NULL AND status IN "
        "('ENQUEUED', 'PENDING', 'DELAYED') GROUP BY queue_name, status"
    ).fetchall()
    connection.close()
    for queue, state, count in waiting:
        if not queue.startswith("_dbos"):
            assert f"{count} {state.lower()} in the queue {queue}" in page.text
    assert f"of {_bytes(shutil.disk_usage(files.directory).total)} are free" in page.text
    for kind in ("masks", "versions"):
        used = sum(
            (Path(folder) / name).lstat().st_size
            for folder, _, names in os.walk(files.directory / kind)
            for name in names
        )
        assert f"{kind} {_bytes(used)}" in page.text
    for row in files.ask("SELECT * FROM projects"):
        assert f"{row['instance']}/projects/{row['number']}/data" in page.links
        repaired = files.ask(
            "SELECT max(at) FROM audit WHERE event = 'webhook repaired' AND dataset_id = ?", row["dataset_id"]
        )[0][0]
        told = "was repaired" if repaired else "never had to be repaired"
        assert sum(told in cell for line in page.rows for cell in line) == 1
        assert not repaired or moment(repaired) in page.titles


def _last_seen(files: Files) -> dict[str, str]:
    """By worker or project, when it was last seen or compared with Label Studio, as pages write it."""
    found = [
        *files.directory.glob("timestamps/worker-*"),
        *files.directory.glob("timestamps/reconciliation-*"),
    ]
    moments = {path.name: datetime.fromtimestamp(path.stat().st_mtime, timezone.utc) for path in found}
    return {name: moment(str(at)) for name, at in moments.items()}


def _bytes(size: float) -> str:
    """As people write it."""
    units = ["Bytes", "kB", "MB", "GB", "TB"]
    place = min(int(math.log(size, 1000)), len(units) - 1) if size >= 1 else 0
    return f"{size / 1000**place:.1f} {units[place]}" if place else f"{size:.0f} {units[0]}"

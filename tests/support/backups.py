"""Backups written by hand."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

Member = tuple[tarfile.TarInfo, bytes]


def databases(folder: Path) -> dict[str, bytes]:
    """By their names in a backup: with the tables whose paths a restore changes."""
    path = folder / "imil.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE samples (path TEXT, clinician_mask TEXT)")
        database.execute("CREATE TABLE versions (directory TEXT)")
    return {f"databases/{name}.sqlite": path.read_bytes() for name in ("dbos", "imil")}


def regular(name: str, content: bytes = b"content") -> Member:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry, content


def manifest(members: Iterable[Member], **changes: Any) -> dict[str, Any]:
    sums = {
        entry.name: hashlib.sha256(content).hexdigest()
        for entry, content in members
        if entry.type == tarfile.REGTYPE
    }
    return {
        "format": 1,
        "code_version": "0.1.0",
        "made_at": "2026-11-29T00:00:00Z",
        "data_dir": "/somewhere",
        "database": "sqlite",
        "sha256": sums,
        **changes,
    }


def write(
    path: Path, members: list[Member], *, said: object = None, after: list[Member] | None = None
) -> Path:
    """Write a backup of these members, and a manifest that names all of them, or what is said instead."""
    text = json.dumps(manifest(members) if said is None else said).encode()
    with tarfile.open(path, "w") as tar:
        for entry, content in [*members, regular("manifest.json", text), *(after or [])]:
            tar.addfile(entry, io.BytesIO(content))
    return path

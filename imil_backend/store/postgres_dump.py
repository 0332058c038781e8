"""Dump and restore of a PostgreSQL database, by PostgreSQL's own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import make_url

from imil_backend.errors import BackupError


def dump(url: str, target: Path) -> Path:
    """Write the whole database, consistent while others write to it.

    Raises:
        BackupError: pg_dump is missing or failed.
    """
    _run("pg_dump", url, "--format=custom", "--no-owner", f"--file={target}")
    return target


def load(url: str, source: Path) -> None:
    """Make the database what was dumped, in one transaction.

    Raises:
        BackupError: pg_restore is missing or failed.
    """
    _run("pg_restore", url, "--clean", "--if-exists", "--no-owner", "--single-transaction", str(source))


def _run(program: str, url: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise BackupError(f"{program} is not installed. On Debian: apt-get install postgresql-client")
    parts = make_url(url).set(drivername="postgresql")
    # The password goes through the environment: everybody can read a command line.
    environment = {**os.environ, "PGPASSWORD": parts.password or os.environ.get("PGPASSWORD", "")}
    database = parts.set(password=None).render_as_string(hide_password=False)
    command = [program, f"--dbname={database}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{program} failed: {done.stderr.strip()[-1000:]}")

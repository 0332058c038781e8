"""A real PostgreSQL server of Debian's packages for the tests: started once, a database for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import pytest
from sqlalchemy import create_engine, text
from support.label_studio import free_port, missing

USER = "postgres"  # the server refuses to run as root; Debian's packages make this user
_numbers = count()


def programs() -> Path:
    """Where initdb and postgres are; skips, or fails in CI, where they are not."""
    if named := os.environ.get("IMIL_TEST_POSTGRESQL"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL (apt-get install postgresql)", "IMIL_TEST_POSTGRESQL")
    return found[-1].parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server, without a database's name."""
    directory = Path(mkdtemp(prefix="imil-postgres-"))  # its socket's path must be short
    port = free_port()
    as_user = {}
    if os.geteuid() == 0:
        shutil.chown(directory, USER)
        as_user = {"user": USER, "group": USER, "extra_groups": []}
    data = directory / "data"
    initdb = [programs() / "initdb", "--auth=trust", "--username=imil", "--no-sync", "-D", data]
    subprocess.run(initdb, check=True, capture_output=True, cwd=directory, **as_user)  # type: ignore[call-overload]
    options = ["-F", "-k", directory, "-h", "127.0.0.1", "-p", str(port), "-c", "max_connections=200"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs() / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=directory, **as_user
        )
    try:
        _wait(server, port, directory / "log")
        yield f"postgresql://imil@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(directory)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of an empty database."""
    name = f"imil_{next(_numbers)}"
    _administer(postgres_server, f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def replace_database(url: str, other: str) -> None:
    """Have a database be a copy of another one of its server; whoever uses it is thrown out."""
    (server, _, name), template = url.rpartition("/"), other.rpartition("/")[2]
    _administer(
        server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}"
    )


def _administer(server: str, *commands: str) -> None:
    engine = create_engine(f"{server.replace('postgresql:', 'postgresql+psycopg:')}/postgres")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for command in commands:
            connection.execute(text(command))
    engine.dispose()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ready = [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "30"]
    while subprocess.run(ready, check=False).returncode != 0:
        assert server.poll() is None, log.read_text()

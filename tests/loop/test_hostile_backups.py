"""Backups that somebody made to do harm: each is refused as a whole, and nothing is touched."""

from __future__ import annotations

import gzip
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import backups
from support.backups import Member, manifest, regular, write

from imil_backend.config import Settings
from imil_backend.errors import StoreError
from imil_backend.loop.upkeep.backup.restoring import restore

ESCAPED = "escaped"


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return backups.databases(tmp_path_factory.mktemp("databases"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "below" / "data"


def special(name: str, kind: bytes, link: str = "", **values: Any) -> Member:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    for key, value in values.items():
        setattr(entry, key, value)
    return entry, b""


def attempt(directory: Path, backup: Path) -> str:
    """The message of the refusal; nothing but the lock is in the data directory, and nothing beside it."""
    before = sorted(backup.parent.rglob("*"))
    with pytest.raises(StoreError) as refused:
        restore(Settings(_env_file=None, data_dir=directory), backup)
    left = set(backup.parent.rglob("*")) - {directory.parent, directory, *before}
    assert left <= {directory / "locks", directory / "locks" / "restore"}
    return str(refused.value)


def links_beyond_the_longest_path(_: Path) -> list[Member]:
    """Python's filter follows links only as far as a path can be long, and takes the rest as it stands."""
    members, part, at = [], "d" * 247, ""
    for letter in "abcdefghijklmnop":
        folder = f"{at}{part}"
        members += [
            special(f"files/{folder}", tarfile.DIRTYPE, mode=0o755),
            special(f"files/{at}{letter}", tarfile.SYMTYPE, part),
        ]
        at = f"{folder}/"
    short = "/".join("abcdefghijklmnop")
    return [
        *members,
        special(f"files/{short}/{'l' * 254}", tarfile.SYMTYPE, "../" * 16),
        special("files/escape", tarfile.SYMTYPE, f"{short}/{'l' * 254}/../../../.."),
        regular(f"files/escape/{ESCAPED}"),
    ]


ATTACKS: dict[str, Callable[[Path], list[Member]]] = {
    "a path that leads up": lambda _: [regular(f"files/../../../{ESCAPED}")],
    "an absolute path": lambda outside: [regular(f"files/{outside}")],
    "an absolute name": lambda outside: [regular(str(outside))],
    "an empty part": lambda _: [regular("files//x")],
    "another folder": lambda _: [regular("elsewhere/x")],
    "a database that is none": lambda _: [regular("databases/other.sqlite")],
    "a dump beside SQLite": lambda _: [regular("databases/postgresql.dump")],
    "a folder in databases": lambda _: [regular("databases/imil.sqlite/x")],
    "a write-ahead log": lambda _: [regular("files/imil.sqlite-wal")],
    "a lock": lambda _: [regular("files/locks/worker-worker")],
    "a hidden folder": lambda _: [regular("files/.before-restore-x/y")],
    "a link": lambda outside: [special("files/masks", tarfile.SYMTYPE, str(outside))],
    "writing through a link": lambda outside: [
        special("files/masks", tarfile.SYMTYPE, str(outside.parent)),
        regular(f"files/masks/{ESCAPED}"),
    ],
    "a hard link": lambda _: [special("files/x", tarfile.LNKTYPE, "/etc/hostname")],
    "links beyond the longest path": links_beyond_the_longest_path,
    "a pipe": lambda _: [special("files/x", tarfile.FIFOTYPE)],
    "a device": lambda _: [special("files/x", tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "a folder": lambda _: [special("files/masks", tarfile.DIRTYPE)],
    "a file with holes": lambda _: [special("files/x", tarfile.GNUTYPE_SPARSE)],
    "a file with holes of the new kind": lambda _: [
        special("files/x", tarfile.REGTYPE, pax_headers={"GNU.sparse.size": "1099511627776"})
    ],
    "one name twice": lambda _: [regular("files/x", b"1"), regular("files/x", b"2")],
    "a file in a file": lambda _: [regular("files/x"), regular("files/x/y")],
    "folders too deep to be removed": lambda _: [regular(f"files/{'a/' * 52}x")],
    "NUL in a name": lambda _: [special("files/x", tarfile.REGTYPE, pax_headers={"path": "files/x\0y"})],
    "a negative size": lambda _: [special("files/x", tarfile.REGTYPE, pax_headers={"size": "-512"})],
    "a size of nonsense": lambda _: [special("files/x", tarfile.REGTYPE, pax_headers={"size": "9" * 30})],
    "names of a mebibyte": lambda _: [
        special("files/x", tarfile.REGTYPE, pax_headers={"comment": "x" * 2**20})
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_written_but_what_a_backup_holds(
    tmp_path: Path, directory: Path, databases: dict[str, bytes], attack: str
) -> None:
    members = [*(regular(*each) for each in databases.items()), *ATTACKS[attack](tmp_path / ESCAPED)]
    attempt(directory, write(tmp_path / "backup.tar", members))


def test_a_header_with_a_negative_size_ends(
    tmp_path: Path, directory: Path, databases: dict[str, bytes]
) -> None:
    entry = tarfile.TarInfo("files/x")
    entry.size = -512
    header = entry.tobuf(tarfile.GNU_FORMAT)
    backup = write(tmp_path / "backup.tar", [regular(*each) for each in databases.items()])
    backup.write_bytes(header + backup.read_bytes())
    attempt(directory, backup)


def test_thousands_of_headers_of_one_entry_are_refused(
    tmp_path: Path, directory: Path, databases: dict[str, bytes]
) -> None:
    longer = tarfile.TarInfo("././@LongLink")
    longer.type, longer.size = tarfile.GNUTYPE_LONGNAME, 8
    backup = write(tmp_path / "backup.tar", [regular(*each) for each in databases.items()])
    backup.write_bytes((longer.tobuf() + b"files/x\0".ljust(512, b"\0")) * 3000 + backup.read_bytes())
    assert "nested too deeply" in attempt(directory, backup)


def test_what_the_manifest_does_not_name_is_refused(
    tmp_path: Path, directory: Path, databases: dict[str, bytes]
) -> None:
    members = [regular(*each) for each in databases.items()]
    planted = [*members, regular("files/secrets/webhook", b"0" * 64)]
    backup = write(tmp_path / "backup.tar", planted, said=manifest(members))
    assert "files/secrets/webhook" in attempt(directory, backup)
    backup = write(tmp_path / "backup.tar", members, after=[regular("files/secrets/webhook")])
    assert "files/secrets/webhook" in attempt(directory, backup)
    backup.write_bytes(write(tmp_path / "backup.tar", members).read_bytes() + b"more")
    assert "after its end" in attempt(directory, backup)


def test_what_the_manifest_names_is_there(
    tmp_path: Path, directory: Path, databases: dict[str, bytes]
) -> None:
    members = [regular(*each) for each in databases.items()]
    said = manifest([*members, regular("files/masks/x.png")])
    assert "files/masks/x.png" in attempt(directory, write(tmp_path / "backup.tar", members, said=said))
    assert "databases" in attempt(directory, write(tmp_path / "backup.tar", [regular("files/x")]))


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        "text",
        {"sha256": {}},
        {"sha256": []},
        {"sha256": {"files/x": 5}},
        {"sha256": {"files/x": "short"}},
        {"sha256": None},
        {"format": "one"},
        {"format": 2, "code_version": ["9.9"]},
        {"data_dir": "relative"},
        {"data_dir": 5},
        {"database": "oracle"},
        {"code_version": "9" * 1000},
    ],
    ids=str,
)
def test_a_malformed_manifest_is_told(
    tmp_path: Path, directory: Path, databases: dict[str, bytes], said: object
) -> None:
    members = [regular(*each) for each in databases.items()]
    changed = {**manifest(members), **said} if isinstance(said, dict) and said else said
    attempt(directory, write(tmp_path / "backup.tar", members, said=changed or said or "null"))


def test_a_compressed_tar_is_no_backup(tmp_path: Path, directory: Path, databases: dict[str, bytes]) -> None:
    backup = write(tmp_path / "backup.tar", [regular(*each) for each in databases.items()])
    backup.write_bytes(gzip.compress(backup.read_bytes()))
    attempt(directory, backup)


@pytest.mark.parametrize("name", ["dbos", "imil"])
@pytest.mark.parametrize("content", [b"garbage" * 1000, None], ids=["no database", "damaged"])
def test_a_database_that_is_none_or_damaged_is_refused(
    tmp_path: Path, directory: Path, databases: dict[str, bytes], name: str, content: bytes | None
) -> None:
    name = f"databases/{name}.sqlite"
    damaged = databases[name][:4096] + b"\xff" * (len(databases[name]) - 4096)
    changed = {**databases, name: content or damaged}
    members = [regular(*each) for each in changed.items()]
    assert f"{Path(name).name} in " in attempt(directory, write(tmp_path / "backup.tar", members))


@pytest.mark.parametrize("revision", ["9999", "head"])
def test_tables_of_a_newer_version_are_refused(
    tmp_path: Path, directory: Path, databases: dict[str, bytes], revision: str
) -> None:
    path = tmp_path / "newer.sqlite"
    path.write_bytes(databases["databases/imil.sqlite"])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", [revision])
    changed = {**databases, "databases/imil.sqlite": path.read_bytes()}
    members = [regular(*each) for each in changed.items()]
    assert "newer version" in attempt(directory, write(tmp_path / "backup.tar", members))


def test_a_good_one_is_restored(tmp_path: Path, directory: Path, databases: dict[str, bytes]) -> None:
    members = [regular(*each) for each in databases.items()]
    members.append(regular("files/masks/" + "ä" * 120 + ".png", b"mask"))
    members.append(regular("files/datasets/zip/" + "a/" * 49 + "x"))  # as deep as a zip may be
    backup = write(tmp_path / "backup.tar", members)
    restore(Settings(_env_file=None, data_dir=directory), backup)
    assert (directory / "masks" / ("ä" * 120 + ".png")).read_bytes() == b"mask"
    assert (directory / "imil.sqlite").exists()
    assert not list(directory.glob(".restoring-*"))

"""Zips as other programs write them."""

from __future__ import annotations

import os
import random
import sys
import zipfile
from pathlib import Path

import pytest
from loop_fakes import write_image

from imil_backend.errors import DatasetError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.unfinished import importing as importing_to
from imil_backend.loop.importing import importing
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.loop.sources.read_source import read_source
from imil_backend.loop.sources.rows import Columns, Source


def read(source: Path) -> Source:
    return read_source(source, Columns(), source.parent / "unpacked")


def raw_zip(path: Path, members: dict[bytes, bytes]) -> Path:
    """A zip whose names are these bytes, without the flag for UTF-8."""
    placeholders = {f"{number:03}".ljust(len(name), "_"): name for number, name in enumerate(members)}
    with zipfile.ZipFile(path, "w") as archive:
        for placeholder, name in placeholders.items():
            archive.writestr(placeholder, members[name])
    data = path.read_bytes()
    for placeholder, name in placeholders.items():
        data = data.replace(placeholder.encode(), name)
    path.write_bytes(data)
    return path


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return write_image(tmp_path / "a.png").read_bytes()


def test_backslashes_in_names_are_folders(tmp_path: Path, image: bytes) -> None:
    archive = raw_zip(tmp_path / "films.zip", {b"films\\sick\\a.png": image, b"films\\well\\b.png": image})
    assert [(row.name, row.label) for row in read(archive).rows] == [
        ("sick/a.png", "sick"),
        ("well/b.png", "well"),
    ]


def test_backslashes_lead_to_no_place_outside(tmp_path: Path, image: bytes) -> None:
    names = [b"..\\..\\sick\\a.png", b"C:\\well\\b.png", b"\\\\server\\tired\\c.png"]
    found = read(raw_zip(tmp_path / "films.zip", dict.fromkeys(names, image)))
    unpacked = tmp_path / "unpacked"
    assert len(found.rows) == 3
    assert all(row.image.resolve().is_relative_to(unpacked) for row in found.rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "films.zip", "unpacked"]


def test_names_in_utf8_without_its_flag_and_in_code_page_437_are_read(tmp_path: Path, image: bytes) -> None:
    names = ["sick/café.png".encode(), b"well/caf\x82.png"]
    found = read(raw_zip(tmp_path / "films.zip", dict.fromkeys(names, image)))
    assert [row.name for row in found.rows] == ["sick/café.png", "well/café.png"]


def test_names_of_any_bytes_do_not_end_an_import(tmp_path: Path, image: bytes) -> None:
    names = [b"sick/caf\xe9.png", b"sick/\xff\xfe.png", b"well/b.png"]
    assert len(read(raw_zip(tmp_path / "films.zip", dict.fromkeys(names, image))).rows) == 3


def test_a_name_that_claims_to_be_utf8_and_is_not_is_refused(tmp_path: Path, image: bytes) -> None:
    path = tmp_path / "films.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sick/é.png", image)
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9\xe9"))
    with pytest.raises(DatasetError, match=r"films\.zip cannot be unpacked"):
        read(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path, image: bytes) -> None:
    archive = raw_zip(tmp_path / "films.zip", {b"sick\\a.png": image, b"sick/a.png": image})
    with pytest.raises(DatasetError, match=r"it holds sick/a\.png twice"):
        read(archive)


def test_folders_too_deep_to_be_removed_are_refused(tmp_path: Path, image: bytes) -> None:
    members = {b"well/b.png": image, b"sick/" * 49 + b"a.png": image}
    assert len(read(raw_zip(tmp_path / "films.zip", members)).rows) == 2
    with pytest.raises(DatasetError, match="has more than 50 parts"):
        read(raw_zip(tmp_path / "deep.zip", members | {b"a/" * 50 + b"a.png": image}))
    assert len(list((tmp_path / "unpacked").iterdir())) == 1


def test_a_member_without_a_name_is_refused(tmp_path: Path, image: bytes) -> None:
    archive = raw_zip(tmp_path / "films.zip", {b"well/b.png": image, b"\0ick": image})
    with pytest.raises(DatasetError, match="it holds a file without a name"):
        read(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", [b"\xff" * 40, b"\x09\x14\x05\0" + b"\xff" * 40])
def test_damaged_data_is_told_however_it_is_packed(tmp_path: Path, method: int, damage: bytes) -> None:
    path = tmp_path / "films.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", random.Random(0).randbytes(1000))
    data = bytearray(path.read_bytes())
    data[35 : 35 + len(damage)] = damage
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"films\.zip cannot be unpacked"):
        read(path)


def test_a_folder_of_the_system_beside_the_only_one_is_not_counted(tmp_path: Path, image: bytes) -> None:
    names = [b"films/sick/a.png", b"films/well/b.png", b"__MACOSX/films/._a.png", b".DS_Store"]
    found = read(raw_zip(tmp_path / "films.zip", dict.fromkeys(names, image)))
    assert [row.name for row in found.rows] == ["sick/a.png", "well/b.png"]


def test_a_workbook_is_no_zip_of_images(tmp_path: Path, image: bytes) -> None:
    members = {b"[Content_Types].xml": b"<x/>", b"xl/media/a.png": image}
    with pytest.raises(DatasetError, match="is a workbook"):
        read(raw_zip(tmp_path / "films.zip", members))


def write_zip(path: Path, name: str, mebibytes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        for _ in range(mebibytes):
            member.write(bytes(2**20))
    return path


def test_what_is_packed_too_well_is_not_unpacked(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "films.zip", "sick/a.png", 80)
    with pytest.raises(DatasetError, match="would become 80: no images are packed so much"):
        read(archive)
    assert not list((tmp_path / "unpacked").iterdir())


def test_many_empty_files_count_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imil_backend.loop.sources.archives._MOST_TIMES", 10)
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"")
    with pytest.raises(DatasetError, match="would become 78"):
        read(tmp_path / "films.zip")


def test_a_zip_that_the_disk_should_not_hold_is_not_unpacked(
    tmp_path: Path, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imil_backend.loop.sources.archives._KEPT_FREE", 2**60)
    with pytest.raises(DatasetError, match="0 MiB can be taken of the disk"):
        read(raw_zip(tmp_path / "films.zip", {b"sick/a.png": image, b"well/b.png": image}))
    assert not list((tmp_path / "unpacked").iterdir())


def test_a_member_that_holds_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "films.zip", "sick/a.png", 80)
    data = path.read_bytes()
    path.write_bytes(data.replace((80 * 2**20).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        read(path)
    assert not list((tmp_path / "unpacked").iterdir())


@pytest.mark.parametrize("usable", [True, False])
def test_a_zip_of_which_nothing_comes_does_not_stay(
    backend: Backend, tmp_path: Path, image: bytes, usable: bool
) -> None:
    other = write_image(tmp_path / "b.png", 7).read_bytes() if usable else b"no image"
    members = {b"sick/a.png": image if usable else b"no image", b"well/b.png": other}
    archive = raw_zip(tmp_path / "films.zip", members)
    if usable:
        import_dataset(backend, archive)
    else:
        with pytest.raises(DatasetError, match="None of the images can be used"):
            import_dataset(backend, archive)
    assert len(list((backend.directory / "datasets").iterdir())) == usable


@pytest.fixture
def films(tmp_path: Path, image: bytes) -> Path:
    """A zip that can be imported."""
    other = write_image(tmp_path / "b.png", 7).read_bytes()
    return raw_zip(tmp_path / "films.zip", {b"sick/a.png": image, b"well/b.png": other})


def unpacked(backend: Backend) -> list[str]:
    return [path.name for path in (backend.directory / "datasets").iterdir()]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(("killed_in", "stays"), [("import_rows", False), ("near_pairs", True)])
def test_what_a_killed_import_unpacked_goes_unless_its_samples_are_stored(
    backend: Backend, films: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str, stays: bool
) -> None:
    backend.close()
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(importing, killed_in, lambda *_, **__: os._exit(9))
            import_dataset(backend, films)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(unpacked(backend)) == 2  # and the lock
    Backend(backend.settings).close()
    assert len(unpacked(backend)) == stays


def test_a_start_beside_an_import_leaves_what_is_unpacked(backend: Backend) -> None:
    folder = backend.path("datasets", "films")
    with importing_to(folder, backend.uses_unpacked):
        folder.mkdir()
        Backend(backend.settings).close()
        assert folder.exists()


def test_an_interrupted_import_leaves_only_what_was_there_before(
    backend: Backend, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "import_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_dataset(backend, films)
    assert unpacked(backend) == []
    read_source(films, Columns(), backend.directory / "datasets")  # for another database, say
    there = unpacked(backend)
    with pytest.raises(KeyboardInterrupt):
        import_dataset(backend, films)
    assert unpacked(backend) == there

"""What is outside a source is not taken from the machine, unless somebody says so."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from loop_fakes import write_image

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.read_source import read_source
from imil_backend.loop.sources.rows import Columns, Source

INSIDE = ["a.png", "b.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images, a CSV that lists images outside as well, and links to these."""
    write_image(tmp_path / "machine" / "secret.png")
    folder = tmp_path / "films"
    for name in INSIDE:
        write_image(folder / name)
    (folder / "link.png").symlink_to(tmp_path / "machine" / "secret.png")
    (folder / "linked").symlink_to(tmp_path / "machine")
    outside = [
        "../machine/secret.png",
        "../films/../machine/secret.png",
        str(tmp_path / "machine" / "secret.png"),
        "link.png",
        "linked/secret.png",
    ]
    lines = [f"{image},{label}" for image, label in zip([*INSIDE, *outside], "swswsws", strict=True)]
    (folder / "t.csv").write_text("\n".join(["image,label", *lines]))
    return folder


def zipped(folder: Path) -> Path:
    """The folder as a zip; `zip -y` keeps links as links."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.iterdir()):
            if path.is_symlink():
                member = zipfile.ZipInfo(path.name)
                member.create_system, member.external_attr = 3, 0o120777 << 16
                opened.writestr(member, str(path.readlink()))
            else:
                opened.write(path, path.name)
    shutil.rmtree(folder)
    return archive


def read(source: Path, *, allow_outside: bool = False) -> Source:
    unpacked = source.parent / "unpacked"
    return read_source(source, Columns(), unpacked, allow_outside=allow_outside)


def test_a_zip_never_reaches_outside(folder: Path) -> None:
    archive = zipped(folder)
    found = read(archive)
    unpacked = folder.parent / "unpacked"
    real = [row.image.resolve() for row in found.rows]
    assert all(path.is_relative_to(unpacked) for path in real)
    assert {row.name for row in found.rows} - set(INSIDE) <= {"link.png", "linked/secret.png"}
    assert not any(path.is_symlink() for path in unpacked.rglob("*"))
    assert "is outside films.zip" in found.set_aside[0][2]
    with pytest.raises(DatasetError, match="--allow-outside"):
        read(archive, allow_outside=True)


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_table_reaches_outside_only_if_it_is_told_to(folder: Path, by_folder: bool) -> None:
    source = folder if by_folder else folder / "t.csv"
    found = read(source)
    assert [row.name for row in found.rows] == INSIDE
    assert len(found.set_aside) == 5
    assert all("--allow-outside" in reason for _, _, reason in found.set_aside)

    found = read(source, allow_outside=True)
    assert len(found.rows) == 7
    assert any("outside films: 5 " in warning for warning in found.warnings)


def test_an_absolute_path_means_a_file_inside_before_one_outside(tmp_path: Path) -> None:
    write_image(tmp_path / "machine" / "a.png")
    folder = tmp_path / "films"
    write_image(folder / "a.png")
    write_image(folder / "b.png")
    (folder / "t.csv").write_text(f"image,label\n{tmp_path / 'machine' / 'a.png'},s\nb.png,w\n")
    assert [row.name for row in read(folder).rows] == INSIDE
    assert not read(folder).set_aside


def test_a_mask_outside_is_not_taken_either(tmp_path: Path) -> None:
    write_image(tmp_path / "machine" / "mask.png")
    for name in INSIDE:
        write_image(tmp_path / "films" / name)
    table = tmp_path / "films" / "t.csv"
    table.write_text("image,label,mask\na.png,s,../machine/mask.png\nb.png,w,\n")
    assert [row.name for row in read(table).rows] == ["b.png"]


def test_links_out_of_class_folders_are_not_followed_unless_told_to(tmp_path: Path) -> None:
    for name in ("sick/a.png", "well/b.png"):
        write_image(tmp_path / "films" / name)
    write_image(tmp_path / "machine" / "secret.png")
    (tmp_path / "films" / "linked").symlink_to(tmp_path / "machine")
    (tmp_path / "films" / "sick" / "x.png").symlink_to(tmp_path / "films" / "well" / "b.png")
    names = [row.name for row in read(tmp_path / "films").rows]
    assert names == ["sick/a.png", "sick/x.png", "well/b.png"]
    assert "linked/secret.png" in [row.name for row in read(tmp_path / "films", allow_outside=True).rows]

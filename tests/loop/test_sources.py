from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from loop_fakes import write_image

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.read_source import Columns, Source, read_source


def read(source: Path, **columns: object) -> Source:
    return read_source(source, Columns(**columns), source.parent / "unpacked")  # type: ignore[arg-type]


def write_csv(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def zipped(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def test_class_folders_name_the_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "films" / "sick" / "deep" / "a.png")
    write_image(tmp_path / "films" / "healthy" / "b.png")
    rows = read(tmp_path / "films").rows
    assert [(row.name, row.label, row.split) for row in rows] == [
        ("healthy/b.png", "healthy", None),
        ("sick/deep/a.png", "sick", None),
    ]


def test_folders_above_the_classes_name_the_splits(tmp_path: Path) -> None:
    for split in ("Train", "val", "test"):
        write_image(tmp_path / "films" / split / "sick" / "a.png")
    found = {row.name: row.split for row in read(tmp_path / "films").rows}
    assert found == {"Train/sick/a.png": "train", "val/sick/a.png": "validation", "test/sick/a.png": "test"}


def test_a_folder_beside_those_of_the_splits_is_refused_by_name(tmp_path: Path) -> None:
    write_image(tmp_path / "films" / "train" / "sick" / "a.png")
    write_image(tmp_path / "films" / "tired" / "a.png")
    with pytest.raises(DatasetError, match="tired"):
        read(tmp_path / "films")


def test_an_empty_class_folder_is_set_aside_and_files_that_are_no_samples_are_passed_over(
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "films" / "sick" / "a.png")
    (tmp_path / "films" / "healthy").mkdir()
    for name in (".hidden.png", "Thumbs.db", ".cache/b.png"):
        write_image((tmp_path / "films" / "sick" / name).with_suffix(".png")).rename(
            tmp_path / "films" / "sick" / name
        )
    found = read(tmp_path / "films")
    assert [row.name for row in found.rows] == ["sick/a.png"]
    assert [(kind, reference) for kind, reference, _ in found.set_aside] == [("class", "healthy")]


def test_a_csv_is_read_by_its_usual_columns(tmp_path: Path) -> None:
    text = "image,label,split,group,mask\na.png,sick,VAL,p1,m/a.png\nb.png,healthy,,,\n"
    first, second = read(write_csv(tmp_path / "index.csv", text)).rows
    assert (first.image, first.mask) == (tmp_path / "a.png", tmp_path / "m" / "a.png")
    assert (first.label, first.split, first.group) == ("sick", "validation", "p1")
    assert (second.split, second.group, second.mask) == (None, None, None)


def test_columns_and_templates_can_be_named(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", "file,finding,patient,series\nx/a.dcm,sick,p1,2\n")
    (row,) = read(
        table, image="films/{file}", label="finding", group=("patient", "series"), mask="m/{file:stem}.png"
    ).rows
    assert (row.name, row.label, row.group) == ("films/x/a.dcm", "sick", "p1/2")
    assert row.mask == tmp_path / "m" / "x" / "a.png"


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", "image,label\na.png,sick\n", encoding="utf-8-sig")
    assert [row.name for row in read(table).rows] == ["a.png"]


@pytest.mark.parametrize("column", ["image", "label", "split", "mask"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, column: str) -> None:
    table = write_csv(tmp_path / "t.csv", "image,label\na.png,sick\n")
    with pytest.raises(DatasetError, match=r"no column 'wanted'; it has image, label"):
        read(table, **{column: "wanted"})
    with pytest.raises(DatasetError, match="no column 'wanted'"):
        read(table, **{column: "x/{wanted:stem}.png"})


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a.png,sick;tired,", "several labels"),
        ("a.png,sick|tired,", "several labels"),
        ("a.png,sick,\na.png,healthy,", "several labels"),
        ("a.png,sick,hold-out", "hold-out"),
        ("a.png,,", "empty"),
        ("a.png,sick,train\na.png,sick,test", "listed several times"),
    ],
)
def test_an_image_that_a_csv_contradicts_itself_on_is_refused_by_name(
    tmp_path: Path, rows: str, reason: str
) -> None:
    found = read(write_csv(tmp_path / "t.csv", f"image,label,split\n{rows}\nb.png,healthy,\n"))
    assert [row.name for row in found.rows] == ["b.png"]
    ((kind, reference, why),) = found.set_aside
    assert (kind, reference) == ("image", "a.png")
    assert reason in why


def test_a_row_that_names_no_image_is_set_aside_by_its_line_and_a_repeated_row_is_one(tmp_path: Path) -> None:
    found = read(write_csv(tmp_path / "t.csv", "image,label\na.png,sick\na.png,sick\n,sick\n"))
    assert [row.name for row in found.rows] == ["a.png"]
    assert [(kind, reference) for kind, reference, _ in found.set_aside] == [("row", "t.csv, line 4")]


def test_a_zip_is_unpacked_once_and_its_single_folder_is_entered(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png").read_bytes()
    archive = zipped(
        tmp_path / "films.zip",
        {"films/sick/a.png": image, "films/healthy/b.png": image, "__MACOSX/films/sick/._a.png": b"x"},
    )
    rows = read(archive).rows
    assert [row.name for row in rows] == ["healthy/b.png", "sick/a.png"]
    written = rows[0].image.stat().st_mtime_ns
    assert read(archive).rows[0].image.stat().st_mtime_ns == written


def test_a_zip_may_hold_a_csv(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "films.zip", {"index.csv": b"image,label\na.png,sick\n", "a.png": b"x"})
    assert [row.label for row in read(archive).rows] == ["sick"]


def test_a_damaged_zip_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "films.zip", {"sick/a.png": bytes(1000)})
    damaged = bytearray(archive.read_bytes())
    damaged[200] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"films\.zip cannot be unpacked"):
        read(archive)
    assert list((tmp_path / "unpacked").iterdir()) == []


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff", b"PK\x03\x04 cut off\xff"])
def test_a_file_that_is_neither_csv_nor_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "films.zip"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"films\.zip"):
        read(path)


def test_nothing_to_import_is_said_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="contains no images"):
        read(tmp_path / "empty")

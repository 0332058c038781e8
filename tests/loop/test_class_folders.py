"""Class folders: what in them is an image, what a mask of one, and what neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from loop_fakes import write_image

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.read_source import read_source
from imil_backend.loop.sources.rows import Columns, Source

MASKS = "masks of images"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


def write(folder: Path, *names: str) -> None:
    for name in names:
        write_image(folder / name)


def read(folder: Path, **columns: object) -> Source:
    return read_source(folder, Columns(**columns), folder.parent / "unpacked")  # type: ignore[arg-type]


def masks(source: Source, root: Path) -> dict[str, str | None]:
    """The mask of each image, below the root."""
    return {row.name: str(row.mask.relative_to(root)) if row.mask else None for row in source.rows}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("sick/images/a.png", "sick/masks/a.png"),
        ("sick/Image/a.jpg", "sick/Mask/a.png"),
        ("images/sick/a.png", "masks/sick/a.png"),
        ("sick/a.png", "sick/masks/a.png"),
        ("sick/a.png", "masks/sick/a.png"),
        ("sick/a.png", "masks/a.png"),
        ("sick/images/a.png", "sick/lung masks/a.png"),
        ("sick/images/a.png", "sick/ManualMask/a.png"),
        ("sick/images/a.png", "sick/segmentations/a_segmentation.png"),
        ("sick/images/a.png", "sick/ground_truth/a.png"),
        ("sick/a.png", "sick/a_mask.png"),
        ("sick/a.png", "Part1_GroundTruth/a_segmentation.png"),
        ("sick/a (1).png", "sick/a (1)_mask.png"),
        ("sick/p7/a.png", "sick/p7/mask_a.png"),
        ("sick/p7/images/a.png", "sick/p7/masks/a.png"),
        ("train/sick/images/a.png", "train/sick/masks/a.png"),
        ("train/images/sick/a.png", "train/masks/sick/a.png"),
        ("images/train/sick/a.png", "masks/train/sick/a.png"),
        ("train/sick/a.png", "train/masks/a.png"),
    ],
)
def test_a_mask_is_no_sample_and_goes_with_its_image(films: Path, image: str, mask: str) -> None:
    well = image.replace("sick", "well").replace("/a", "/b")
    write(films, image, mask, well)
    found = read(films)
    assert masks(found, films) == {image: mask, well: None}
    assert {row.label for row in found.rows} == {"sick", "well"}
    assert {row.split for row in found.rows} == {"train" if "train" in image else None}
    assert found.passed_over == {MASKS: {str(Path(mask).parent): 1}}
    assert found.set_aside == found.warnings == []


def test_a_folder_called_like_masks_whose_files_belong_to_no_image_is_refused_by_name(films: Path) -> None:
    write(films, "sick/images/a.png", "sick/masks/b.png", "well/c.png")
    with pytest.raises(
        DatasetError,
        match=r"The folder sick/masks is named like a folder of "
        "masks.*rename it",
    ):
        read(films)


def test_masks_in_a_folder_that_might_be_a_class_are_refused_by_name(films: Path) -> None:
    write(films, "CXR/a_0.png", "CXR/b_1.png", "ManualMask/left/a_0.png")
    with pytest.raises(DatasetError, match="The folder ManualMask is named like a folder of masks"):
        read(films)


def test_masks_without_an_image_are_counted_by_their_folder(films: Path) -> None:
    write(films, "sick/a.png", "sick/masks/a.png", "sick/masks/b.png", "well/c.png")
    assert read(films).passed_over["masks without an image"] == {"sick/masks": 1}


def test_of_several_masks_none_is_taken_and_it_is_said(films: Path) -> None:
    write(films, "sick/a.png", "sick/a_mask.png", "sick/a_mask_1.png", "well/c.png")
    found = read(films)
    assert masks(found, films) == {"sick/a.png": None, "well/c.png": None}
    assert found.passed_over[MASKS] == {"sick": 2}
    assert "several masks" in found.warnings[0] and "sick/a_mask_1.png" in found.warnings[0]


def test_classes_that_end_in_mask_are_classes(films: Path) -> None:
    write(films, "with_mask/1.png", "without_mask/1.png")
    assert {row.label for row in read(films).rows} == {"with_mask", "without_mask"}


def test_images_called_like_masks_that_belong_to_none_are_imported_with_a_warning(films: Path) -> None:
    write(films, "sick/a_mask.png", "well/b.png")
    found = read(films)
    assert len(found.rows) == 2
    assert "sick/a_mask.png" in found.warnings[0]


def test_thumbnails_beside_their_images_or_in_a_folder_are_passed_over(films: Path) -> None:
    write(films, "sick/a.png", "sick/a_thumb.png", "sick/thumbs/a.png", "well/b.png", "Thumbnails/b.png")
    found = read(films)
    assert [row.name for row in found.rows] == ["sick/a.png", "well/b.png"]
    assert found.passed_over == {"thumbnails": {"sick": 1, "thumbs": 1, "Thumbnails": 1}}


def test_thumbnails_and_system_folders_beside_those_of_the_splits_are_no_splits(films: Path) -> None:
    write(films, "train/sick/a.png", "test/well/b.png", "@eaDir/x.png", "lost+found/y.png")
    assert {row.split for row in read(films).rows} == {"train", "test"}


def test_images_in_no_class_folder_are_counted(films: Path) -> None:
    write(films, "overview.png", "sick/a.png", "well/b.png")
    assert read(films).passed_over == {"images outside the class folders": {"films": 1}}


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["images/a.png", "masks/a.png"], ["train/a.png"]])
def test_images_without_any_class_folder_are_refused(films: Path, names: list[str]) -> None:
    write(films, *names)
    (films / "labels.xlsx").touch()
    with pytest.raises(DatasetError, match=r"The images in .* have no labels .*Save labels.xlsx as CSV"):
        read(films)


def test_a_folder_whose_name_stands_for_no_label_is_set_aside(films: Path) -> None:
    write(films, "sick/a.png", "well/b.png", "nan/c.png", "nan/d.png")
    found = read(films)
    assert {row.label for row in found.rows} == {"sick", "well"}
    ((kind, reference, reason),) = found.set_aside
    assert (kind, reference) == ("class", "nan")
    assert "not imported: 2" in reason


def test_a_name_that_is_not_utf8_is_set_aside_and_printed_escaped(films: Path) -> None:
    write(films, "sick/a.png", "well/b.png")
    for name in (b"sick/caf\xe9.png", b"sick/caf\xe9.txt", b"well/._caf\xe9"):
        (films / os.fsdecode(name)).write_bytes(b"x")
    write(films, os.fsdecode(b"caf\xe9/c.png"), os.fsdecode(b"well/caf\xe9/c.png"))
    write(films, os.fsdecode(b"@caf\xe9/d.png"))
    found = read(films)
    assert [row.name for row in found.rows] == ["sick/a.png", "well/b.png"]
    references = {reference for _, reference, _ in found.set_aside}
    assert references == {r"caf\xe9", r"sick/caf\xe9.png", r"sick/caf\xe9.txt", r"well/caf\xe9"}
    assert found.passed_over["system files"] == {"._*": 1, r"@caf\xe9": 1}


def test_a_source_whose_path_is_not_utf8_is_refused_in_letters_that_can_be_printed(tmp_path: Path) -> None:
    write(tmp_path, os.fsdecode(b"caf\xe9/sick/a.png"))
    with pytest.raises(DatasetError, match=r"caf\\xe9 is not UTF-8"):
        read(tmp_path / os.fsdecode(b"caf\xe9"))


def test_links_are_followed_but_not_in_circles_and_one_to_nothing_is_set_aside(films: Path) -> None:
    write(films, "sick/a.png", "well/b.png")
    write(films.parent, "elsewhere/c.png")
    (films / "linked").symlink_to(films.parent / "elsewhere")
    (films / "sick" / "again").symlink_to(films)
    (films / "sick" / "gone.png").symlink_to(films / "absent.png")
    (films / "sick" / "self.png").symlink_to(films / "sick" / "self.png")
    os.mkfifo(films / "well" / "pipe.png")
    found = read_source(films, Columns(), films.parent / "unpacked", allow_outside=True)
    assert [row.name for row in found.rows] == ["linked/c.png", "sick/a.png", "well/b.png"]
    references = [reference for _, reference, _ in found.set_aside]
    assert references == ["sick/again", "sick/gone.png", "sick/self.png", "well/pipe.png"]


def test_folders_without_end_are_set_aside(films: Path) -> None:
    write(films, "sick/a.png", "well/b.png", "/".join(["x"] * 60) + "/c.png")
    found = read(films)
    assert [row.name for row in found.rows] == ["sick/a.png", "well/b.png"]
    assert "nested too deeply" in found.set_aside[0][2]


@pytest.mark.parametrize(
    ("option", "columns"),
    [
        ("--group", {"group": ("patient",)}),
        ("--mask", {"mask": "mask"}),
        ("--image", {"image": "file"}),
        ("--label", {"label": "finding"}),
        ("--split", {"split": "fold"}),
        ("--missing-label", {"missing_labels": ("unknown",)}),
    ],
)
def test_an_option_that_names_a_column_is_refused_for_class_folders(
    films: Path, option: str, columns: dict[str, object]
) -> None:
    write(films, "sick/a.png", "well/b.png")
    with pytest.raises(DatasetError, match=f"{option} does not apply to class folders.*in a CSV"):
        read(films, **columns)


def test_which_of_a_table_and_class_folders_is_read(films: Path) -> None:
    write(films, "sick/a.png", "well/b.png")
    (films / "meta.csv").write_text("file,finding\nsick/a.png,tired\nwell/b.png,fit\n")
    assert {row.label for row in read(films).rows} == {"sick", "well"}
    assert {row.label for row in read(films, image="file", label="finding").rows} == {"tired", "fit"}
    with pytest.raises(DatasetError, match="no column 'image'; it has file, finding"):
        read(films, label="finding")
    (films / "other.CSV").write_text("image,label\nsick/a.png,new\n")
    with pytest.raises(DatasetError, match=r"several tables \(meta.csv, other.CSV\)"):
        read(films)
    assert [row.label for row in read(films / "other.CSV").rows] == ["new"]


def test_a_table_without_its_columns_and_no_class_folders_beside_it_is_refused(films: Path) -> None:
    write(films, "images/a.png")
    (films / "meta.csv").write_text("file,finding\nimages/a.png,tired\n")
    with pytest.raises(DatasetError, match="no column 'image'; it has file, finding"):
        read(films)
    (films / "more.csv").write_text("id,age\n1,2\n")
    with pytest.raises(DatasetError, match=r"none of its tables \(meta.csv, more.csv\) has the columns"):
        read(films)


def test_a_table_that_lists_nothing_that_is_there_beside_class_folders_is_refused_with_both_readings(
    films: Path,
) -> None:
    write(films, "sick/a.png", "well/b.png")
    (films / "meta.csv").write_text("image,label\na.png,sick\nb.png,well\n")
    with pytest.raises(
        DatasetError, match=r"--image 'images/\{image\}'; to import the class folders \(sick, well\)"
    ):
        read(films)
    assert len(read(films, image="{label}/{image}").rows) == 2


def test_a_folder_of_other_pictures_beside_the_images_is_refused_by_name(films: Path) -> None:
    write(films, "sick/images/a.png", "sick/overlays/a.png", "well/b.png")
    with pytest.raises(DatasetError, match="sick/images and sick/overlays contain files of the same names"):
        read(films)

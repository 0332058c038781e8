"""Small data sets as people have them, and what is right for each."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from loop_fakes import mask_of, write_image, write_mask
from sqlalchemy import select

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.importing import ImportReport, import_dataset
from imil_backend.loop.sources.rows import Columns
from imil_backend.store.tables import Sample

INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs"


def stored(backend: Backend) -> list[Sample]:
    with backend.store.begin() as session:
        return list(session.scalars(select(Sample).order_by(Sample.name)))


def imported(backend: Backend, source: Path) -> tuple[ImportReport, Counter[str]]:
    """The report, and the number of samples of each class."""
    report = import_dataset(backend, source)
    return report, Counter(sample.label for sample in stored(backend))


@pytest.mark.parametrize(
    "name",
    [
        *("csv_blank_rows", "csv_header_spaces", "csv_leading_zeros", "csv_pandas_index"),
        *("csv_quoted_newline", "csv_semicolon", "csv_sep_line", "csv_tab", "csv_utf16", "csv_windows_paths"),
    ],
)
def test_a_table_of_an_unusual_kind_is_read_whole(backend: Backend, name: str) -> None:
    report, classes = imported(backend, INPUTS / name)
    assert classes == {"well": 4, "sick": 4}
    assert (report.set_aside, report.warnings) == ((), ())
    assert [sample.name for sample in stored(backend)] == [f"images/00{number}.png" for number in range(8)]


def test_leading_zeros_tell_groups_apart(backend: Backend) -> None:
    import_dataset(backend, INPUTS / "csv_leading_zeros", columns=Columns(group=("patient",)))
    assert Counter(sample.group for sample in stored(backend)) == {"007": 2, "7": 3, "4": 1, "5": 1, "6": 1}


@pytest.mark.parametrize(
    ("name", "kept", "set_aside"),
    [
        ("csv_nan_labels", {"well": 3, "sick": 3}, ["NaN", "NaN"]),
        ("csv_na_variants", {"sick": 1, "well": 1}, ["", "nan", "N/A", "None", "null", "NA"]),
    ],
)
def test_labels_that_stand_for_none_are_set_aside(
    backend: Backend, name: str, kept: dict[str, int], set_aside: list[str]
) -> None:
    report, classes = imported(backend, INPUTS / name)
    assert classes == kept
    for (_, reason), label in zip(report.set_aside, set_aside, strict=True):
        assert (f"{label!r}, a word for a missing label" if label else "empty") in reason


@pytest.mark.parametrize(
    ("name", "classes", "alike"),
    [
        ("csv_float_labels", {"0": 3, "0.0": 1, "1": 3, "1.0": 1}, ["'0' and '0.0'", "'1' and '1.0'"]),
        (
            "csv_case_labels",
            {"Well": 1, "well": 3, "Sick": 1, "sick": 3},
            ["'Sick' and 'sick'", "'Well' and"],
        ),
    ],
)
def test_labels_that_look_alike_are_imported_as_they_are_and_warned_of(
    backend: Backend, name: str, classes: dict[str, int], alike: list[str]
) -> None:
    report, found = imported(backend, INPUTS / name)
    assert found == classes
    assert report.set_aside == ()
    warnings = [warning for warning in report.warnings if "look alike" in warning]
    assert all(words in warning for words, warning in zip(alike, warnings, strict=True))


def test_class_folders_with_images_and_masks_have_the_masks_attached(backend: Backend) -> None:
    report, classes = imported(backend, INPUTS / "covid_layout")
    assert classes == {"COVID": 6, "Normal": 6}
    for sample in stored(backend):
        assert "/images/" in sample.path
        assert sample.clinician_mask == sample.path.replace("/images/", "/masks/")
    assert report.passed_over["masks of images"] == {"COVID/masks": 6, "Normal/masks": 6}
    assert report.passed_over["files that are not images"] == {"*.txt": 1, "*.xlsx": 2}
    assert report.set_aside == report.warnings == ()


def test_files_of_the_system_are_no_samples_and_are_counted(backend: Backend, tmp_path: Path) -> None:
    source = shutil.copytree(INPUTS / "junk", tmp_path / "junk")
    for folder in ("@eaDir", "#recycle", ".thumbnails", "System Volume Information", "Thumbnails"):
        write_image(source / folder / "a.png")
        write_image(source / "normal" / folder / "a.png")
    (source / "normal" / "Thumbs.db:encryptable").touch()
    (source / "normal" / "0.png:Zone.Identifier").touch()
    report, classes = imported(backend, source)
    assert classes == {"normal": 4, "pneumonia": 4}
    system = report.passed_over["system files"]
    assert system["__pycache__"] == system["lost+found"] == system["$RECYCLE.BIN"] == 1
    assert system["._*"] == system["Thumbs.db"] == 2
    assert system["#recycle"] == 2
    assert report.passed_over["thumbnails"] == {"@eaDir": 2, ".thumbnails": 2, "Thumbnails": 2}
    assert report.passed_over["files that are not images"] == {"*.txt": 2, "*.xml": 2}
    assert report.set_aside == ()


def test_class_folders_with_another_table_beside_them_are_imported_and_the_table_is_named(
    backend: Backend,
) -> None:
    report, classes = imported(backend, INPUTS / "stray_csv")
    assert classes == {"normal": 4, "pneumonia": 4}
    (warning,) = report.warnings
    assert "metadata.csv was ignored" in warning and "--image and --label" in warning


def test_images_whose_masks_have_another_size_go_without_and_are_warned_of(
    backend: Backend, tmp_path: Path
) -> None:
    for label in ("COVID", "Normal"):
        for number in range(3):
            write_image(tmp_path / "films" / label / "images" / f"{label}-{number}.png", number)
            masks = tmp_path / "films" / label / "masks"
            masks.mkdir(exist_ok=True)
            write_mask(masks / f"{label}-{number}.png", mask_of(1)[:3])
    report, classes = imported(backend, tmp_path / "films")
    assert classes == {"COVID": 3, "Normal": 3}
    assert {sample.clinician_mask for sample in stored(backend)} == {None}
    (warning,) = report.warnings
    assert "without the mask beside them: 6." in warning and "8 x 3 pixels, not 8 x 6" in warning

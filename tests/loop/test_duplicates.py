"""The same image under several names, in one import or several."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import on_both_databases
from PIL import Image, ImageEnhance
from sqlalchemy import select, update

from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.importing import ImportReport, import_dataset
from imil_backend.loop.sources.read_source import Columns
from imil_backend.loop.views.image_export import export
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Dataset, Sample

INPUTS = Path(__file__).parents[1] / "fixtures" / "inputs"


def draw(path: Path, seed: int) -> Path:
    """A picture of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), np.uint8)
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Eight films in train, four in validation, four in test, of two classes; no two are the same."""
    for number in range(16):
        split = ("train", "train", "val", "test")[number // 4]
        draw(tmp_path / "films" / split / ("sick", "fit")[number % 2] / f"{number}.png", number)
    return tmp_path / "films"


def copy(films: Path, of: str, to: str) -> None:
    shutil.copy(films / of, films / to)


def excluded(backend: Backend) -> dict[str, str]:
    with backend.store.begin() as session:
        found = session.scalars(select(Sample).where(Sample.excluded.is_not(None)))
        return {sample.name: str(sample.excluded) for sample in found}


def splits(backend: Backend) -> dict[str, str]:
    with backend.store.begin() as session:
        return {sample.name: sample.split for sample in session.scalars(select(Sample))}


def test_test_films_that_are_in_train_too_leave_training_and_contradicting_ones_leave_altogether(
    backend: Backend,
) -> None:
    report = import_dataset(backend, INPUTS / "duplicates")
    wanted = {
        f"train/{label}/train{number}.png": "copy in test"
        for label in ("normal", "pneumonia")
        for number in range(4)
    }
    film = ("test/normal/test3.png", "train/normal/train3.png", "train/pneumonia/also.png")
    wanted |= dict.fromkeys(film, "several labels")
    assert report.excluded == excluded(backend) == wanted
    assert film in report.duplicates
    assert sum(len(names) - 1 for names in report.duplicates) == 9
    assert (report.read, report.added) == (25, 25)
    assert report.left_out == {"train": 9, "validation": 0, "test": 1}
    assert report.ungrouped == 25
    assert report.groups == {"train": 6, "validation": 2, "test": 7}


@pytest.mark.parametrize(
    ("of", "to", "leaves", "reason"),
    [
        ("test/sick/12.png", "train/sick/x.png", "train/sick/x.png", "copy in test"),
        ("test/sick/12.png", "val/sick/x.png", "val/sick/x.png", "copy in test"),
        ("val/sick/8.png", "train/sick/x.png", "train/sick/x.png", "copy in validation"),
    ],
)
def test_of_copies_in_two_splits_the_one_that_is_measured_on_stays(
    backend: Backend, films: Path, of: str, to: str, leaves: str, reason: str
) -> None:
    copy(films, of, to)
    report = import_dataset(backend, films, keep_leaking=True)  # which is about groups
    assert report.excluded == {leaves: reason}
    assert [set(names) for names in report.duplicates] == [{of, to}]


def test_copies_in_one_split_are_counted_and_stay(backend: Backend, films: Path) -> None:
    copy(films, "train/sick/0.png", "train/sick/x.png")
    report = import_dataset(backend, films)
    assert report.duplicates == (("train/sick/0.png", "train/sick/x.png"),)
    assert report.excluded == {}
    assert (report.counts["train"]["sick"], report.groups["train"]) == (5, 8)  # no patient more for it
    assert report.ungrouped == 17


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_copy_of_an_image_with_two_labels_stays(backend: Backend, films: Path, split: str) -> None:
    copy(films, "train/sick/0.png", f"{split}/fit/x.png")
    report = import_dataset(backend, films)
    assert report.excluded == dict.fromkeys(("train/sick/0.png", f"{split}/fit/x.png"), "several labels")


def test_the_same_pixels_in_another_file_are_a_copy(backend: Backend, films: Path) -> None:
    with Image.open(films / "test" / "sick" / "12.png") as image:
        image.convert("RGB").save(films / "train" / "sick" / "x.bmp")
    assert import_dataset(backend, films).excluded == {"train/sick/x.bmp": "copy in test"}


def test_drawn_splits_keep_the_copies_of_an_image_and_their_patients_together(
    backend: Backend, tmp_path: Path
) -> None:
    """Fifty patients of two films; one film of each is a film of the next one's as well."""
    lines = ["image,label,group"]
    for patient in range(50):
        for film in range(2):
            name = f"{patient}-{film}.png"
            draw(tmp_path / name, 2 * (patient // 2) + film * (100 + patient))
            lines.append(f"{name},{'ab'[patient // 2 % 2]},p{patient}")
    (tmp_path / "index.csv").write_text("\n".join(lines))
    report = import_dataset(backend, tmp_path / "index.csv")
    found = splits(backend)
    assert len(report.duplicates) == 25
    assert report.excluded == {}
    for patient in range(0, 50, 2):
        own = {found[f"{patient + more}-{film}.png"] for more in range(2) for film in range(2)}
        assert len(own) == 1
    assert report.groups == {"train": 34, "validation": 8, "test": 8}


def test_no_validation_split_is_drawn_from_what_is_left_out(backend: Backend, films: Path) -> None:
    shutil.rmtree(films / "val")
    for path in (films / "test").rglob("*.png"):
        copy(films, f"test/{path.parent.name}/{path.name}", f"train/{path.parent.name}/copy-{path.name}")
    import_dataset(backend, films)
    assert {splits(backend)[name] for name in excluded(backend)} == {"train"}
    assert list(splits(backend).values()).count("validation") == 2


@on_both_databases
def test_a_later_import_finds_the_copies_of_what_is_there(backend: Backend, films: Path) -> None:
    import_dataset(backend, films)
    copy(films, "train/sick/0.png", "test/sick/x.png")
    copy(films, "train/fit/1.png", "train/sick/y.png")
    copy(films, "val/sick/8.png", "train/sick/z.png")
    report: ImportReport = import_dataset(backend, films)
    assert (report.added, report.known) == (3, 16)
    assert report.excluded == excluded(backend) == {
        "train/sick/0.png": "copy in test",
        "train/fit/1.png": "several labels",
        "train/sick/y.png": "several labels",
        "train/sick/z.png": "copy in validation",
    }  # fmt: skip


def test_a_later_copy_without_a_split_follows_the_one_that_is_there(backend: Backend, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    for number in range(40):
        draw(folder / ("sick", "fit")[number % 2] / f"{number}.png", number)
    import_dataset(backend, folder)
    for number in range(40):
        label = ("sick", "fit")[number % 2]
        copy(folder, f"{label}/{number}.png", f"{label}/copy-{number}.png")
    report = import_dataset(backend, folder)
    found = splits(backend)
    assert report.excluded == {}
    assert all(found[name.replace("copy-", "")] == split for name, split in found.items())


def test_samples_from_before_pixels_were_compared_are_looked_at_when_they_are_imported_again(
    backend: Backend, films: Path
) -> None:
    import_dataset(backend, films)
    with backend.store.begin() as session:
        session.execute(update(Sample).values(pixels_sha256=None, perceptual_hash=None))
    with Image.open(films / "test" / "sick" / "12.png") as image:
        image.save(films / "train" / "sick" / "x.bmp")
    assert import_dataset(backend, films).excluded == {"train/sick/x.bmp": "copy in test"}
    with backend.store.begin() as session:
        kept = session.execute(select(Sample.pixels_sha256, Sample.perceptual_hash)).all()
    assert all(pixels and look for pixels, look in kept)


def test_near_duplicates_are_told_those_across_splits_first_and_stay(backend: Backend, films: Path) -> None:
    for of, to in (("train/sick/2.png", "train/sick/x.png"), ("test/fit/13.png", "train/fit/y.png")):
        with Image.open(films / of) as image:
            ImageEnhance.Brightness(image).enhance(0.9).save(films / to)
    report = import_dataset(backend, films)
    told = [(set(pair.images), pair.across) for pair in report.near_duplicates]
    assert told == [
        ({"test/fit/13.png", "train/fit/y.png"}, True),
        ({"train/sick/2.png", "train/sick/x.png"}, False),
    ]
    assert report.excluded == {}
    assert import_dataset(backend, films).near_duplicates == report.near_duplicates


def test_what_is_left_out_is_in_the_status_and_in_the_manifest(
    backend: Backend, films: Path, tmp_path: Path
) -> None:
    copy(films, "test/sick/12.png", "train/sick/x.png")
    import_dataset(backend, films)
    (found,) = status(backend)["datasets"]
    ((source, reason),) = [(each["source"], each["reason"]) for each in found["excluded"]]
    assert (source, reason) == ("train/sick/x.png", "copy in test")
    assert (found["left_out"]["train"], found["groups"]["train"]) == (1, 8)
    with backend.store.begin() as session:
        dataset = session.scalars(select(Dataset)).one()
        (entry,) = audit.history(session, dataset, audit.find_sample(session, dataset, source))
        session.execute(update(Sample).values(group="=1+1"))
    assert (entry["event"], entry["reason"]) == ("left out", "copy in test")
    manifest = export(backend, dataset, tmp_path / "out", everything=True).manifest.read_text()
    assert manifest.count("copy in test") == 1
    assert ",'=1+1," in manifest
    assert ",=1+1," not in manifest


@pytest.mark.xrays
def test_the_real_films_have_thirty_images_in_copies_and_no_near_duplicates(
    backend: Backend, xray_zip: Path
) -> None:
    columns = Columns("images/{file}", split="official_split", group=("patient", "subtype"))
    report = import_dataset(backend, xray_zip, columns=columns)
    assert (report.added, len(report.duplicates)) == (5782, 30)
    assert (report.near_duplicates, report.excluded, report.ungrouped) == ((), {}, 0)

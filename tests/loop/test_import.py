from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from loop_fakes import mask_of, on_both_databases, write_image, write_mask
from sqlalchemy import event, select

from imil_backend.errors import DatasetError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.importing.importing import ImportReport, import_dataset
from imil_backend.store.tables import Round, Sample, SetAside, Version


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Ten images of each of two classes."""
    for number in range(20):
        write_image(tmp_path / "films" / ("sick", "healthy")[number % 2] / f"{number}.png", number)
    return tmp_path / "films"


def stored(backend: Backend) -> dict[str, Sample]:
    with backend.store.begin() as session:
        return {sample.name: sample for sample in session.scalars(select(Sample))}


def set_aside(backend: Backend) -> dict[str, str]:
    with backend.store.begin() as session:
        return {row.reference: row.reason for row in session.scalars(select(SetAside))}


def csv_of(folder: Path, *lines: str, header: str = "image,label,split,group,mask") -> Path:
    path = folder / "index.csv"
    path.write_text("\n".join([header, *lines]))
    return path


def test_an_import_keeps_every_image_with_its_label_and_split(backend: Backend, films: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = import_dataset(backend, films, progress=lambda *step: seen.append(step))
    assert (report.dataset, report.added, report.known) == ("films", 20, 0)
    assert seen[-1] == (20, 20)
    sample = stored(backend)["sick/4.png"]
    assert (sample.label, sample.width, sample.height, sample.channels) == ("sick", 8, 6, 1)
    assert Path(sample.path) == films / "sick" / "4.png"
    assert set(report.counts["validation"]) == set(report.counts["test"]) == {"sick", "healthy"}


def test_bad_images_are_set_aside_with_their_reasons_and_the_rest_goes_on(
    backend: Backend, films: Path
) -> None:
    (films / "sick" / "empty.png").touch()
    (films / "sick" / "text.png").write_text("no image")
    whole = (films / "sick" / "4.png").read_bytes()
    (films / "sick" / "cut.png").write_bytes(whole[: len(whole) // 2])
    report = import_dataset(backend, films)
    assert report.added == 20
    assert {name for name, _ in report.set_aside} == {"sick/empty.png", "sick/text.png", "sick/cut.png"}
    assert set_aside(backend) == dict(report.set_aside)
    assert all(set_aside(backend).values())


def test_an_image_with_too_many_pixels_is_set_aside(backend: Backend, films: Path) -> None:
    write_image(films / "sick" / "large.png", size=(40, 40))
    object.__setattr__(backend.settings, "max_image_pixels", 1024)
    assert [name for name, _ in import_dataset(backend, films).set_aside] == ["sick/large.png"]


def test_an_import_that_is_run_again_adds_nothing(backend: Backend, films: Path) -> None:
    import_dataset(backend, films)
    before = {name: vars(sample) for name, sample in stored(backend).items()}
    report = import_dataset(backend, films)
    assert (report.added, report.known, report.set_aside) == (0, 20, ())
    assert stored(backend).keys() == before.keys()


def test_an_image_that_was_mended_is_no_longer_set_aside(backend: Backend, films: Path) -> None:
    (films / "sick" / "bad.png").touch()
    import_dataset(backend, films)
    write_image(films / "sick" / "bad.png")
    assert import_dataset(backend, films).added == 1
    assert set_aside(backend) == {}


@pytest.mark.parametrize("what", ["content", "label"])
def test_a_sample_that_changed_in_the_source_stays_and_is_reported(
    backend: Backend, films: Path, what: str
) -> None:
    label = {"content": "sick", "label": "healthy"}
    table = csv_of(films, "sick/4.png,sick,,,", "healthy/1.png,healthy,,,")
    import_dataset(backend, table)
    before = stored(backend)["sick/4.png"].sha256
    if what == "content":
        write_image(films / "sick" / "4.png", 200)
    csv_of(films, f"sick/4.png,{label[what]},,,", "healthy/1.png,healthy,,,")
    report = import_dataset(backend, table)
    assert [name for name, _ in report.set_aside] == ["sick/4.png"]
    after = stored(backend)["sick/4.png"]
    assert (after.sha256, after.label) == (before, "sick")


def test_images_that_were_moved_are_found_at_their_new_place(
    backend: Backend, films: Path, tmp_path: Path
) -> None:
    import_dataset(backend, films)
    moved = shutil.move(films, tmp_path / "elsewhere")
    report = import_dataset(backend, Path(moved), name="films")
    assert (report.added, report.known) == (0, 20)
    assert all(Path(sample.path).is_file() for sample in stored(backend).values())


def rows_of(films: Path) -> list[str]:
    """A CSV's rows without masks."""
    return [f"{path.relative_to(films)},{path.parent.name},," for path in sorted(films.rglob("*.png"))]


def test_masks_may_come_with_a_later_import_and_a_missing_one_is_told(backend: Backend, films: Path) -> None:
    rows = rows_of(films)
    table = csv_of(films, *(f"{row}," for row in rows))
    import_dataset(backend, table)
    mask = write_mask(films / "mask.png", mask_of(1))
    csv_of(films, *(f"{row},mask.png" for row in rows[1:]), f"{rows[0]},absent.png")
    report = import_dataset(backend, table, mask_means="irrelevant")
    assert report.set_aside == ((rows[0].split(",")[0], "Its mask absent.png does not exist."),)
    sample = stored(backend)[rows[1].split(",")[0]]
    assert (sample.clinician_mask, sample.clinician_mask_means) == (str(mask), "irrelevant")


def test_a_mask_of_another_size_is_set_aside_with_its_image(backend: Backend, films: Path) -> None:
    rows = rows_of(films)
    PIL.Image.new("1", (5, 3)).save(films / "small.png")
    table = csv_of(films, f"{rows[0]},small.png", *(f"{row}," for row in rows[1:]))
    (reference, reason), *others = import_dataset(backend, table).set_aside
    assert (reference, others) == (rows[0].split(",")[0], [])
    assert "small.png" in reason and "5 x 3" in reason


def test_a_limit_draws_the_same_images_each_time_and_more_when_it_grows(
    backend: Backend, films: Path
) -> None:
    import_dataset(backend, films, limit=8)
    first = set(stored(backend))
    assert len(first) == 8
    assert import_dataset(backend, films, limit=8).added == 0
    assert import_dataset(backend, films, limit=12).added == 4
    assert first < set(stored(backend))


def test_one_class_only_is_refused_even_if_another_holds_broken_images(backend: Backend, films: Path) -> None:
    for path in (films / "healthy").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="have the label 'sick'"):
        import_dataset(backend, films)
    assert stored(backend) == {}


def test_no_usable_image_is_refused_with_the_first_reasons(backend: Backend, films: Path) -> None:
    for path in films.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"None of the images can be used.*png"):
        import_dataset(backend, films)


def test_images_that_a_table_names_and_that_are_not_there_are_refused_with_what_to_do(
    backend: Backend, films: Path
) -> None:
    with pytest.raises(DatasetError, match=r"None of the images.*--image 'images/\{image\}\.png'"):
        import_dataset(backend, csv_of(films, "4,sick,,,", "1,healthy,,,"))


def test_a_new_class_is_refused_once_there_is_a_version(backend: Backend, films: Path) -> None:
    import_dataset(backend, films)
    with backend.store.begin() as session:
        values: dict[str, Any] = {"recipe": {}, "metrics": {}, "runtime_info": {}}
        session.add(
            Version(dataset_id=1, name="v", directory="", fingerprint="", blacked_out=0, code_version="",
                    seconds=0, **values)
        )  # fmt: skip
    write_image(films / "tired" / "a.png")
    with pytest.raises(DatasetError, match="tired would change them"):
        import_dataset(backend, films)


def test_a_new_class_is_refused_while_a_training_is_under_way(backend: Backend, films: Path) -> None:
    import_dataset(backend, films)
    with backend.store.begin() as session:
        session.add(Round(dataset_id=1, number=0, state=TRAINING))
    write_image(films / "tired" / "a.png")
    with pytest.raises(DatasetError, match=r"in progress, .* tired would change them"):
        import_dataset(backend, films)


def leaking(backend: Backend) -> set[str]:
    return {name for name, sample in stored(backend).items() if sample.excluded == "group in test"}


def leaky_rows(films: Path) -> list[str]:
    rows = [
        f"{path.relative_to(films)},{path.parent.name},train,p{path.stem}," for path in films.rglob("*.png")
    ]
    return [*sorted(rows), "sick/4.png,sick,test,p6,"]


@pytest.mark.parametrize("keep", [False, True])
def test_groups_on_both_sides_of_a_given_test_split_are_reported_and_leave_training(
    backend: Backend, films: Path, keep: bool
) -> None:
    rows = [row for row in leaky_rows(films) if not row.startswith("sick/4.png,sick,train")]
    report = import_dataset(backend, csv_of(films, *rows), keep_leaking=keep)
    assert report.leaking == ("sick/6.png",)
    assert leaking(backend) == (set() if keep else {"sick/6.png"})


def test_a_group_that_comes_into_the_test_split_later_leaves_training(backend: Backend, films: Path) -> None:
    *rows, late = leaky_rows(films)
    rows = [row for row in rows if not row.startswith("sick/4.png")]
    import_dataset(backend, csv_of(films, *rows))
    report: ImportReport = import_dataset(backend, csv_of(films, *rows, late))
    assert report.leaking == ("sick/6.png",)
    assert leaking(backend) == {"sick/6.png"}


def test_what_the_masks_mean_is_refused_where_there_are_none(backend: Backend, films: Path) -> None:
    with pytest.raises(DatasetError, match=r"--mask-means does not apply: no image of .* has a mask"):
        import_dataset(backend, films, mask_means="irrelevant")
    write_mask(films / "sick" / "masks" / "4.png", mask_of(1))
    import_dataset(backend, films, mask_means="irrelevant")
    assert stored(backend)["sick/4.png"].clinician_mask_means == "irrelevant"


def test_classes_that_look_like_those_that_are_there_are_warned_of(backend: Backend, films: Path) -> None:
    assert import_dataset(backend, films).warnings == ()
    write_image(films / "Sick" / "new.png")
    (warning,) = import_dataset(backend, films).warnings
    assert "'Sick' and 'sick' look alike" in warning


def test_a_name_of_a_dataset_that_is_not_utf8_is_refused(backend: Backend, films: Path) -> None:
    with pytest.raises(DatasetError, match=r"The name caf\\xe9 is not UTF-8"):
        import_dataset(backend, films, name=os.fsdecode(b"caf\xe9"))


@on_both_databases
def test_no_name_label_or_group_is_too_long_for_the_database(backend: Backend, films: Path) -> None:
    long = "x" * 1500
    lines = [*rows_of(films), f"{long}.png,sick,,", f"sick/4.png,{long},,", f"sick/6.png,sick,,{long}"]
    report = import_dataset(backend, csv_of(films, *lines, header="image,label,split,group"))
    assert report.added == 18
    assert {name[:10] for name, _ in report.set_aside} == {"sick/4.png", "sick/6.png", "x" * 10}


@pytest.mark.slow
def test_several_thousand_rows_are_quick(backend: Backend, tmp_path: Path) -> None:
    """Few statements, and so many seconds of this process's own: a busy machine takes longer, not more."""
    rows, statements = 4000, []
    event.listen(backend.store.engine, "before_cursor_execute", lambda *more: statements.append(more[2]))
    originals = [write_image(tmp_path / f"{number}.png", number) for number in range(2)]
    for number in range(rows):
        (tmp_path / f"copy-{number}.png").hardlink_to(originals[number % 2])
    lines = [f"copy-{n}.png,{'ab'[n % 2]},,p{n // 3}," for n in range(rows)]
    started = time.process_time()
    assert import_dataset(backend, csv_of(tmp_path, *lines)).added == rows
    assert time.process_time() - started < 20
    assert len(statements) < rows + 50  # an insertion each, and a few

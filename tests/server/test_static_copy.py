"""The dashboard as files: complete, by itself, and in the place of nothing but an earlier copy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from dashboard_scene import make_scene
from loop_fakes import OWN_NAME, FakeLabelStudio, make_backend
from pages_seen import HOSTILE, Seen, name_it
from test_dashboard import app_of

from imil_backend.errors import SettingsError, StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.machine import checks
from imil_backend.loop.dashboard.samples import in_rounds
from imil_backend.loop.queues.engine import prepare
from imil_backend.server.dashboard.copy_writer import MARK, write_copy
from imil_backend.store.tables import Dataset, Sample

pytestmark = pytest.mark.slow  # a database, plots and pictures


@pytest.fixture(scope="module", autouse=True)
def no_checks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "examine", lambda *_, **__: [])  # the doctor asks the network
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """With a round that was painted and judged; it is only read."""
    with made(tmp_path_factory.mktemp("data")) as backend:
        yield backend


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Backend]:
    """Likewise, to be changed."""
    with made(tmp_path / "data") as backend:
        yield backend


@contextmanager
def made(directory: Path) -> Iterator[Backend]:
    backend, label_studio = make_backend(directory), FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    make_scene(backend, label_studio)
    prepare(backend)
    yield backend
    backend.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def pages_of(folder: Path) -> dict[str, Seen]:
    """The pages by their paths."""
    found = folder.rglob("*.html")
    return {str(path.relative_to(folder)): Seen(path.read_text(encoding="utf-8")) for path in found}


def led_to(folder: Path) -> set[Path]:
    """All files that links and pictures lead to, from the start page on."""
    todo, seen = [folder / "index.html"], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        assert path.is_file(), path
        if path.suffix == ".html":
            addresses = Seen(path.read_text(encoding="utf-8")).addresses
            own = [each for each in map(urlsplit, addresses) if not each.scheme and each.path]
            todo += [Path(os.path.normpath(path.parent / unquote(each.path))) for each in own]
    return seen


def test_links_lead_to_all_that_is_written_and_to_nothing_else(site: Backend, folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    written = write_copy(site, folder, progress=lambda *each: told.append(each))
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert led_to(folder) == files - {folder / MARK}
    assert written.pages + written.pictures == len(files) - 1
    assert told[-1] == ("Pictures", written.pictures, written.pictures)
    assert ("Pages", written.pages, written.pages) in told


def test_addresses_are_relative_but_those_of_label_studio(site: Backend, folder: Path) -> None:
    write_copy(site, folder)
    for path, page in pages_of(folder).items():
        assert "script" not in page.tags
        outside = [each for each in page.addresses if ":" in each or each.startswith("/")]
        assert [each for each in outside if not each.startswith(f"{OWN_NAME}/")] == [], path


def test_its_pages_say_what_the_served_ones_say(site: Backend, folder: Path) -> None:
    write_copy(site, folder)
    visitor, pages = app_of(site).test_client(), pages_of(folder)
    for name in ("rounds", "rounds/1", "reasons", "versions", "versions/2", "queue", "annotators"):
        served = Seen(visitor.get(f"/dashboard/datasets/1/{name}").text).text.split()
        copied = " ".join(pages[f"datasets/1/{name}.html"].text.split())
        note = copied[copied.index("A static copy") : copied.index("images of patients.") + 19]
        assert copied.replace(f"{note} ", "") == " ".join(served), name


def test_samples_have_pages_if_rounds_were_about_them(
    site: Backend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_copy(site, folder)
    samples = pages_of(folder)["datasets/1/samples.html"].text
    assert "7 of 24 samples." in samples  # four were asked, two became right, one became wrong
    assert "as rounds were about" not in samples
    assert not (folder / "datasets/1/samples/key-train-7.html").exists()
    assert "2 of 24 samples." in pages_of(folder)["datasets/1/samples-model-became-right.html"].text
    monkeypatch.setattr(in_rounds, "MOST", 3)
    write_copy(site, folder)
    samples = pages_of(folder)["datasets/1/samples.html"].text
    assert "the latest 3 of 7" in samples
    assert "3 of 24 samples." in samples
    led_to(folder)


def test_a_copy_of_one_dataset_says_nothing_of_others(own: Backend, folder: Path) -> None:
    with own.store.begin() as session:
        session.add(Dataset(name="elsewhere", classes=["a", "b"]))
    write_copy(own, folder, dataset_id=1)
    led_to(folder)
    assert not (folder / "machine.html").exists()
    assert [path for path, page in pages_of(folder).items() if "elsewhere" in page.text] == []
    write_copy(own, folder)
    assert "elsewhere" in pages_of(folder)["index.html"].text
    assert (folder / "machine.html").exists()


def test_an_earlier_copy_is_replaced_and_what_else_is_there_stays(site: Backend, folder: Path) -> None:
    write_copy(site, folder)
    stale, own = folder / "datasets/9/samples/erased.jpg", folder / "README"
    stale.parent.mkdir(parents=True)
    for path in (stale, own):
        path.write_text("x")
    write_copy(site, folder)
    assert not stale.exists()
    assert own.exists()


def test_a_directory_that_holds_something_else_is_refused(site: Backend, folder: Path) -> None:
    (folder / "datasets").mkdir(parents=True)
    (folder / "datasets" / "thesis.txt").write_text("x")
    with pytest.raises(SettingsError, match=f"no earlier copy of the dashboard: it has no {MARK}"):
        write_copy(site, folder)
    assert [path.name for path in folder.rglob("*")] == ["datasets", "thesis.txt"]
    with pytest.raises(StoreError, match="cannot be written"):
        write_copy(site, folder / "datasets" / "thesis.txt")


def test_what_lies_behind_a_link_is_not_removed(site: Backend, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("x")
    folder.mkdir()
    (folder / MARK).write_text(json.dumps({}))
    (folder / "datasets").symlink_to(tmp_path / "elsewhere")
    write_copy(site, folder)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["kept.txt"]
    assert not (folder / "datasets").is_symlink()


def test_an_image_that_is_gone_is_left_out(own: Backend, folder: Path) -> None:
    with own.store.begin() as session:
        Path(session.get_one(Sample, 1).path).unlink()
    written = write_copy(own, folder)
    assert {"datasets/1/samples/key-train-0/image.jpg"} <= {picture for picture, _ in written.left_out}
    assert (folder / "datasets/1/samples/key-train-0.html").exists()


def test_a_plot_that_is_gone_is_left_out(own: Backend, folder: Path) -> None:
    plot = "before-and-after-validation.svg"
    next(own.directory.rglob(plot)).unlink()
    written = write_copy(own, folder)
    assert [(each.rpartition("/")[2], plot in reason) for each, reason in written.left_out] == [(plot, True)]
    assert (folder / "datasets/1/rounds/1.html").exists()


def test_a_file_that_cannot_be_read_is_not_said_to_be_a_full_disk(own: Backend, folder: Path) -> None:
    kept = next(own.directory.rglob("evaluation.json"))
    kept.unlink()
    kept.mkdir()
    with pytest.raises(StoreError, match=r"evaluation\.json cannot be read \(Is a directory\)"):
        write_copy(own, folder)


def test_names_stand_in_files_as_text(own: Backend, folder: Path) -> None:
    for name in HOSTILE:
        name_it(own, name)
        write_copy(own, folder)
        led_to(folder)
        for page in pages_of(folder).values():
            assert not {"script", "style", "iframe"} & set(page.tags)
            assert not [each for each in page.attributes if each.startswith("on") or each == "style"]


def test_an_empty_installation_has_a_copy(tmp_path: Path, folder: Path) -> None:
    backend = make_backend(tmp_path / "empty")
    prepare(backend)
    write_copy(backend, folder, dataset_id=0)
    backend.close()
    assert "imil import" in pages_of(folder)["index.html"].text

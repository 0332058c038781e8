"""The window by which clinicians see what has more than 8 bits: chosen at an import, used by every push."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import FakeLabelStudio, make_project, make_version, write_image
from PIL import Image
from sqlalchemy import select, update
from support.dicoms import dicom_bytes
from support.png import write_png

from imil_backend.errors import DatasetError, SettingsError
from imil_backend.images.reading import read_image
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.rounds.report import write_report
from imil_backend.store.tables import Dataset, Round, Sample, SetAside

LIMITS = {"max_bytes": 2**24, "max_pixels": 1_000_000}
WINDOW = "with the window center 1000, width 400"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Ten films of 12 bits in each of two classes, no two of them alike."""
    for number in range(20):
        path = tmp_path / "films" / ("sick", "fit")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.random.default_rng(number).integers(0, 4096, (12, 16), np.uint16))
    return tmp_path / "films"


def window(backend: Backend) -> dict[str, float] | None:
    with backend.store.begin() as session:
        return session.scalars(select(Dataset)).one().shown_window


def asked(backend: Backend) -> tuple[Dataset, list[Sample]]:
    """The dataset and its training split, all of which the model is to get wrong."""
    with backend.store.begin() as session:
        dataset = session.scalars(select(Dataset)).one()
        dataset.policy = {"budget": 1.0}
        train = select(Sample).where(Sample.split == "train").order_by(Sample.id)
        return dataset, list(session.scalars(train))


def push(
    backend: Backend, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """What a push of all of the training split uploads, by sample name."""
    uploaded: list[bytes] = []
    upload = label_studio.upload_images

    def keeping(project: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        uploaded.extend(content for _, content in images)
        return upload(project, images)

    monkeypatch.setattr(label_studio, "upload_images", keeping)
    dataset, samples = asked(backend)
    make_version(backend, dataset, wrong=[sample.key for sample in samples])
    make_project(backend, dataset)
    with backend.store.begin() as session:
        number = lifecycle.open_round(session, dataset).id
    push_round(backend, number)
    return dict(zip((sample.name for sample in samples), uploaded, strict=False))


def test_a_push_shows_the_window_and_training_keeps_the_whole_range(
    backend: Backend, label_studio: FakeLabelStudio, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = import_dataset(backend, films, window="1000,400")
    assert (report.added, report.shown_by, report.hidden) == (20, {WINDOW: 20}, 0)
    pushed = push(backend, label_studio, monkeypatch)
    assert pushed
    for name, content in pushed.items():
        stored = np.asarray(Image.open(films / name)).astype(float)
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert np.abs(pixels - np.clip((stored - 800) / 399 * 255, 0, 255)).max() <= 0.6
        whole = read_image(films / name, **LIMITS)
        assert np.abs(whole - (stored - stored.min()) / np.ptp(stored) * 255).max() <= 0.6


def test_without_a_window_what_is_shown_is_what_is_trained_on(
    backend: Backend, label_studio: FakeLabelStudio, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = import_dataset(backend, films)
    assert report.shown_by == {"from the darkest to the brightest value": 20}
    for name, content in push(backend, label_studio, monkeypatch).items():
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(pixels, read_image(films / name, **LIMITS))


def test_importing_again_keeps_the_window_changes_it_or_gives_it_up(backend: Backend, films: Path) -> None:
    import_dataset(backend, films, window="1000,400")
    assert import_dataset(backend, films).shown_by == {WINDOW: 20}
    assert window(backend) == {"center": 1000, "width": 400}
    assert import_dataset(backend, films, window="bone").shown_by == {
        "with the window center 400, width 1800 (bone)": 20
    }
    import_dataset(backend, films, window="own")
    assert window(backend) is None


def test_importing_again_mends_how_images_were_shown_before(backend: Backend, films: Path) -> None:
    import_dataset(backend, films)
    with backend.store.begin() as session:
        session.execute(update(Sample).values(shown_as_is=True, channels=3))
    import_dataset(backend, films)
    with backend.store.begin() as session:
        assert {(each.shown_as_is, each.channels) for each in session.scalars(select(Sample))} == {(False, 1)}


def test_a_window_that_means_nothing_is_refused_and_changes_nothing(backend: Backend, films: Path) -> None:
    for number in range(4):
        write_image(films.parent / "small" / ("sick", "fit")[number % 2] / f"{number}.png", number)
    with pytest.raises(DatasetError, match=r"--window does not apply .* none has more than 8 bits"):
        import_dataset(backend, films.parent / "small", window="40,400")
    with pytest.raises(SettingsError, match="'lungs' is not a window"):
        import_dataset(backend, films, window="lungs")
    with pytest.raises(DatasetError, match=r"center 9000, width 10 leaves nothing visible in any of the 20"):
        import_dataset(backend, films, window="9000,10")
    with backend.store.begin() as session:
        assert session.scalars(select(Dataset)).all() == []


def test_windows_that_dicom_files_bring_are_named_and_give_way(backend: Backend, tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / "ct" / ("sick", "fit")[number % 2] / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 2048, (12, 16), np.uint16)
        center = {"WindowCenter": 40, "WindowWidth": 400} if number < 15 else {}
        path.write_bytes(dicom_bytes(values, BitsStored=12, RescaleIntercept=-1024, RescaleSlope=1, **center))
    assert import_dataset(backend, tmp_path / "ct").shown_by == {
        "with the window center 40, width 400": 15,
        "from the darkest to the brightest value": 5,
    }
    assert import_dataset(backend, tmp_path / "ct", window="lung").shown_by == {
        "with the window center -600, width 1500 (lung)": 20
    }


def test_among_8_bits_the_window_counts_for_the_others_alone(backend: Backend, films: Path) -> None:
    write_image(films / "sick" / "small.png")
    assert import_dataset(backend, films, window="1000,400").shown_by == {WINDOW: 20}


def test_an_image_that_the_window_hides_is_told_and_not_pushed(
    backend: Backend, label_studio: FakeLabelStudio, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    air = [f"{label}/air-{number}.png" for label in ("sick", "fit") for number in range(5)]
    for seed, name in enumerate(air):
        write_png(films / name, np.random.default_rng(seed).integers(2000, 4000, (12, 16), np.uint16))
    report = import_dataset(backend, films, window="1000,400")
    assert (report.added, report.hidden) == (30, 10)
    push(backend, label_studio, monkeypatch)
    with backend.store.begin() as session:
        train = set(session.scalars(select(Sample.name).where(Sample.split == "train")))
        reasons = {row.reference: row.reason for row in session.scalars(select(SetAside))}
    assert reasons
    assert reasons.keys() == train & set(air)
    assert all("the window center 1000, width 400 hides the picture" in each for each in reasons.values())


def test_the_report_names_the_window(backend: Backend, films: Path) -> None:
    import_dataset(backend, films, window="1000,400")
    dataset, samples = asked(backend)
    version = make_version(backend, dataset, wrong=[sample.key for sample in samples])
    with backend.store.begin() as session:
        round_ = Round(dataset_id=dataset.id, number=0, state="closed", version_id=version.id)
        session.add(round_)
        session.flush()
        number = round_.id
    assert f"images of more than 8 bits are shown {WINDOW}" in write_report(backend, number).text.read_text()

"""`imil erase` beside the images of a zip: tables go by the row, whatever a patient is called there."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import FakeLabelStudio, OpenRound, write_image
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from support.dicoms import dicom_bytes
from typer.testing import Result

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import FAILED
from imil_backend.loop.erasure.erasing import Outcome, erase, preview
from imil_backend.loop.erasure.plan import Findings, Plan, plan_from_json
from imil_backend.loop.erasure.subject import Subject, subject_of_group, subject_of_sample
from imil_backend.loop.importing.importing import import_dataset
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.sources.rows import Columns
from imil_backend.store.tables import Dataset, Erasure, Round, Sample, SetAside

NAMES = ("a", "b", "c")


@pytest.fixture
def backend(backend: Backend) -> Backend:
    prepare(backend)
    return backend


class Unpacked:
    """A dataset that was imported from a zip of images and tables."""

    def __init__(self, backend: Backend, archive: Path, files: dict[str, bytes], columns: Columns) -> None:
        with zipfile.ZipFile(archive, "w") as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        self.backend = backend
        self.report = import_dataset(backend, archive, name="zipped", columns=columns)
        (self.folder,) = (backend.directory / "datasets").iterdir()

    def find_group(self, group: str) -> Callable[..., Subject]:
        return lambda session: subject_of_group(self.backend, session, self._dataset(session), group)

    def erase_group(self, group: str) -> tuple[Findings, Outcome]:
        return erase(self.backend, self.find_group(group), "ann", "asked for")

    def erase_sample(self, name: str) -> tuple[Findings, Outcome]:
        return erase(
            self.backend, lambda session: subject_of_sample(session, self._dataset(session), name), "ann", "r"
        )

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    @staticmethod
    def _dataset(session: Session) -> Dataset:
        return session.scalars(select(Dataset).where(Dataset.name == "zipped")).one()


Unpack = Callable[..., Unpacked]


@pytest.fixture
def unpack(backend: Backend, tmp_path: Path) -> Unpack:
    """Imports a zip of tables and of images `images/NAME.png`."""

    def make(columns: Columns, tables: dict[str, str], images: tuple[str, ...] = NAMES) -> Unpacked:
        files = {name: text.encode() for name, text in tables.items()}
        for seed, name in enumerate(images):
            image = write_image(tmp_path / "image.png", seed, (48, 48))
            files[f"images/{name}.png"] = image.read_bytes()
        return Unpacked(backend, tmp_path / "films.zip", files, columns)

    return make


GROUPED = Columns(group=("group",))


def test_a_group_that_is_a_number_goes_from_tables_and_what_is_like_it_stays(unpack: Unpack) -> None:
    zipped = unpack(
        GROUPED,
        {
            "index.csv": (
                "image,label,group\nimages/a.png,lesion,0815\nimages/b.png,normal,08150\n"
                "images/c.png,lesion,4711\nimages/absent.png,lesion,0815\n"
            ),
            "patients.txt": 'group;age;score\n"0815";54;1\n4711;61;0.0815\n 0815 ;55;2\n',
        },
    )
    _, outcome = zipped.erase_group("0815")
    assert zipped.lines("index.csv") == [
        "image,label,group",
        "images/b.png,normal,08150",
        "images/c.png,lesion,4711",
    ]
    assert zipped.lines("patients.txt") == ["group;age;score", "4711;61;0.0815"]
    assert outcome.still_found == ()


def test_a_name_goes_from_a_table_in_windows_1252(unpack: Unpack) -> None:
    table = "image,label,group\nimages/a.png,lesion,Müller\nimages/b.png,normal,Maier\n"
    zipped = unpack(GROUPED, {"index.csv": table})
    people = zipped.folder / "people.txt"
    people.write_bytes("Köln,MÜLLER\nKöln,Maier\n".encode("windows-1252"))
    zipped.erase_group("Müller")
    assert people.read_bytes() == "Köln,Maier\n".encode("windows-1252")


def test_what_may_still_tell_of_a_number_is_told(unpack: Unpack) -> None:
    zipped = unpack(
        GROUPED,
        {
            "index.csv": "image,label,group\nimages/a.png,lesion,0815\nimages/b.png,normal,2\n",
            "notes.txt": "2026: 0815 has moved.\n",
            "0815/letter.txt": "Dear colleague\n",
            "other.txt": "08150 and 10.0815\n",
        },
    )
    _, outcome = zipped.erase_group("0815")
    folder = zipped.folder.relative_to(zipped.backend.directory)
    assert outcome.still_found == (f"{folder}/0815/letter.txt", f"{folder}/notes.txt")


def test_a_patient_id_goes_as_it_was_given_though_the_samples_have_its_hash(
    backend: Backend, tmp_path: Path
) -> None:
    def film(patient: str, seed: int) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8)
        return dicom_bytes(pixels, PatientID=patient)

    table = "image,label\na.dcm,lesion\nb.dcm,normal\n"
    people = "id,age\n4711,54\nPAT-78,60\n"
    files = {
        "a.dcm": film("4711", 1),
        "b.dcm": film("PAT-78", 2),
        "index.csv": table.encode(),
        "people.txt": people.encode(),
    }
    zipped = Unpacked(backend, tmp_path / "films.zip", files, Columns())
    zipped.erase_group("4711")
    assert zipped.lines("people.txt") == ["id,age", "PAT-78,60"]
    zipped.erase_group("PAT-78")
    assert zipped.lines("people.txt") == ["id,age"]


def test_a_row_goes_that_a_template_made_a_file_name_of(unpack: Unpack) -> None:
    table = "id,label\n12,lesion\n13,normal\n112,lesion\n"
    zipped = unpack(Columns(image="images/{id}.png"), {"index.csv": table}, ("12", "13", "112"))
    zipped.erase_sample("images/12.png")
    assert zipped.lines("index.csv") == ["id,label", "13,normal", "112,lesion"]


def test_a_row_is_told_that_names_the_file_with_another_suffix(unpack: Unpack) -> None:
    table = "id,label\n12.tif,lesion\n13.tif,normal\n"
    zipped = unpack(Columns(image="images/{id:stem}.png"), {"index.csv": table}, ("12", "13"))
    _, outcome = zipped.erase_sample("images/12.png")
    assert [Path(each).name for each in outcome.still_found] == ["index.csv"]


def test_a_joined_group_goes_where_its_cells_are_in_one_row(unpack: Unpack) -> None:
    zipped = unpack(
        Columns(group=("site", "patient")),
        {
            "index.csv": (
                "image,label,site,patient\nimages/a.png,lesion,north,7\nimages/b.png,normal,south,7\n"
                "images/c.png,lesion,north,8\n"
            ),
            "people.txt": "age|patient|site\n54|7|north\n54|7|south\n8|60|north\n55|8|\n",
        },
    )
    zipped.erase_group("north/7")
    assert zipped.lines("people.txt") == ["age|patient|site", "54|7|south", "8|60|north", "55|8|"]
    zipped.erase_group("north/8")  # the number is nobody else's now, wherever it is
    assert zipped.lines("people.txt") == ["age|patient|site", "54|7|south"]
    assert zipped.lines("index.csv") == ["image,label,site,patient", "images/b.png,normal,south,7"]


def test_a_number_that_is_a_class_too_is_told_and_takes_no_rows_of_others(unpack: Unpack) -> None:
    zipped = unpack(
        GROUPED,
        {"index.csv": "image,label,group\nimages/a.png,0,1\nimages/b.png,1,2\nimages/c.png,0,3\n"},
    )
    findings, _ = zipped.erase_group("1")
    assert findings.ambiguous == ("1",)
    assert zipped.lines("index.csv") == ["image,label,group", "images/b.png,1,2", "images/c.png,0,3"]


def test_an_image_that_was_set_aside_goes_with_the_row_that_says_whose_it_is(unpack: Unpack) -> None:
    zipped = unpack(
        GROUPED,
        {
            "index.csv": (
                "image,label,group,view\nimages/a.png,lesion,0815,front\nimages/b.png,normal,2,side\n"
                "images/c.png,,0815,front\nimages/d.png,,3,side\n"
                "images/3/front.png,,3,front\nimages/4/front.png,,4,front\n"
            )
        },
        ("a", "b", "c", "d", "3/front", "4/front"),
    )
    assert len(zipped.report.set_aside) == 4
    zipped.erase_group("0815")
    left = {str(path.relative_to(zipped.folder)) for path in zipped.folder.rglob("*.png")}
    assert left == {"images/b.png", "images/d.png", "images/3/front.png", "images/4/front.png"}


def test_the_mask_of_an_image_that_was_set_aside_goes_with_it(unpack: Unpack) -> None:
    table = "image,label,group\nimages/a.png,lesion,0815\nimages/film-17-2.png,,0815\nimages/b.png,normal,2\n"
    masks = ("masks/film-17-2", "masks/film-18-1")
    zipped = unpack(GROUPED, {"index.csv": table}, ("a", "b", "film-17-2", *masks))
    zipped.erase_group("0815")
    left = {str(path.relative_to(zipped.folder)) for path in zipped.folder.rglob("*.png")}
    assert left == {"images/b.png", "images/masks/film-18-1.png"}


def test_an_image_of_somebody_else_stays_that_is_called_like_a_view(unpack: Unpack) -> None:
    table = "image,label,group,view\nimages/a.png,lesion,0815,front\nimages/4/front.png,,4,front\n"
    zipped = unpack(GROUPED, {"index.csv": f"{table}images/b.png,normal,2,side\n"}, ("a", "b", "4/front"))
    zipped.erase_group("0815")
    left = {str(path.relative_to(zipped.folder)) for path in zipped.folder.rglob("*.png")}
    assert left == {"images/b.png", "images/4/front.png"}


def test_a_number_goes_from_logs_errors_and_what_was_set_aside(
    backend: Backend, label_studio: FakeLabelStudio, open_round: OpenRound
) -> None:
    prepare(backend)
    log = Path(open_round.version.directory) / "training.log"
    log.write_text("0815: slow\nepoch 1: loss 0.0815\n")
    with backend.store.begin() as session:
        session.execute(update(Sample).where(Sample.name == "train-0").values(group="0815"))
        for reason in ("Patient 0815 has two sexes.", "Line 10815 is empty."):
            session.add(
                SetAside(dataset_id=open_round.dataset.id, kind="row", reference=reason, reason="It is so.")
            )
        failed = Round(
            dataset_id=open_round.dataset.id, number=2, state=FAILED, version_name="films-round2",
            mined_version_id=open_round.version.id, error="The images of 0815 cannot be read.",
        )  # fmt: skip
        session.add(failed)
    erase(
        backend,
        lambda session: subject_of_group(
            backend, session, session.get_one(Dataset, open_round.dataset.id), "0815"
        ),
        "ann",
        "asked for",
    )
    assert log.read_text() == "epoch 1: loss 0.0815\n"
    with backend.store.begin() as session:
        assert session.scalars(select(SetAside.reference)).all() == ["Line 10815 is empty."]
        assert session.get_one(Round, failed.id).error == "What went wrong named something that was erased."


def test_a_plan_is_the_same_when_it_has_been_kept_and_may_be_of_an_earlier_release(unpack: Unpack) -> None:
    table = "image,label,group\nimages/a.png,lesion,n/1\nimages/b.png,normal,2\n"
    zipped = unpack(GROUPED, {"index.csv": table})
    plan, _ = preview(zipped.backend, zipped.find_group("n/1"))
    with zipped.backend.store.begin() as session:
        session.add(Erasure(plan=plan.to_json()))
    with zipped.backend.store.begin() as session:
        kept = session.scalars(select(Erasure.plan)).one()
    assert plan_from_json(kept) == plan
    assert ("n", "1") in plan.cells
    del kept["cells"]
    assert isinstance(plan_from_json(kept), Plan)


def test_the_command_tells_what_to_look_at(unpack: Unpack, imil: Callable[..., Result]) -> None:
    tables = {
        "index.csv": "image,label,group\nimages/a.png,0,1\nimages/b.png,1,2\nimages/c.png,0,0815\n",
        "notes.txt": "0815 has moved.\n",
    }
    unpack(GROUPED, tables)
    ambiguous = imil("erase", "--group", "1", "--reason", "r").output
    assert "Not searched for by itself, as a class has the same name" in ambiguous
    assert "notes.txt" in imil("erase", "--group", "0815", "--reason", "r").output

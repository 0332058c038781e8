"""Tables as people have them: read, or refused with what to do."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loop_fakes import write_image

from imil_backend.errors import DatasetError
from imil_backend.loop.sources.read_source import read_source
from imil_backend.loop.sources.rows import Columns, Source


def table(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(source: Path, **columns: object) -> Source:
    return read_source(source, Columns(**columns), source.parent / "unpacked")  # type: ignore[arg-type]


def labels(source: Source) -> dict[str, str]:
    return {row.name: row.label for row in source.rows}


def reasons(source: Source) -> dict[str, str]:
    return {reference: reason for _, reference, reason in source.set_aside}


WANTED = {"a.png": "sick", "b.png": "well"}


@pytest.mark.parametrize(
    "content",
    [
        "image,label\na.png,sick\nb.png,well\n",
        "image;label\na.png;sick\nb.png;well",
        "image|label\na.png|sick\nb.png|well",
        "image\tlabel\r\na.png\tsick\r\nb.png\twell\r\n",
        "image,label\ra.png,sick\rb.png,well\r",
        '"sep=;"\nimage;label\na.png;sick\nb.png;well\n',
        "SEP=\t\nimage\tlabel\na.png\tsick\nb.png\twell\n",
        "\ufeffsep=|\r\nimage|label\r\na.png|sick\r\nb.png|well\r\n",
        "\n\nimage,label\n\na.png,sick\n\nb.png,well\n\n",
        "Image, LABEL ,note\na.png,sick,x\nb.png,well,y\n",
        ' "image" , "label"\n "a.png", "sick"\n"b.png" ,"well"\n',
        "image,label,,\na.png,sick,,\nb.png,well,,,,\n",
        "note,label,image\n,sick,a.png\n,well,b.png\n",
        "image;label;dose\na.png;sick;1,5\nb.png;well;2,5\n",
    ],
)
def test_separators_and_blanks_are_found_out(tmp_path: Path, content: str) -> None:
    found = read(table(tmp_path, content))
    assert labels(found) == WANTED
    assert found.set_aside == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_in_every_form(tmp_path: Path, encoding: str) -> None:
    content = "image,label\na.png,Müdigkeit\nb.png,健康\n".encode(encoding)
    assert labels(read(table(tmp_path, content))) == {"a.png": "Müdigkeit", "b.png": "健康"}


def test_windows_1252_is_read_with_a_warning_that_names_it(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image;label\na.png;Ergüsse\nb.png;größer\n".encode("cp1252")))
    assert labels(found) == {"a.png": "Ergüsse", "b.png": "größer"}
    assert "Windows-1252 (such as 'Ergüsse')" in found.warnings[0]


@pytest.mark.parametrize("encoding", ["cp1251", "gbk", "shift-jis", "iso8859-7", "mac-roman", "cp850"])
def test_other_encodings_are_refused_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    german = {"mac-roman": "Größe", "cp850": "Übersicht, später"}
    text = (
        german.get(encoding)
        or {"cp1251": "норма", "gbk": "健康正常", "shift-jis": "健康正常", "iso8859-7": "φυσιολογικό"}[
            encoding
        ]
    )
    with pytest.raises(DatasetError, match=r"neither UTF-8 nor Windows-1252 \(line 2\)\. Save it as UTF-8"):
        read(table(tmp_path, f"image,label\na.png,{text}\n".encode(encoding)))


def test_damage_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"NUL characters \(the first in line 3\)"):
        read(table(tmp_path, "image,label\na.png,sick\n\0\0\0\0"))
    with pytest.raises(DatasetError, match="a quote in the row that begins in line 3 is never closed"):
        read(table(tmp_path, 'image,label\na.png,sick\nb.png,"well\nc.png,sick\n'))
    with pytest.raises(DatasetError, match="not valid UTF-16"):
        read(table(tmp_path, b"\xff\xfei"))


def test_a_header_of_any_length_is_shown_in_short(tmp_path: Path) -> None:
    for content in ("x" * 5000, ",".join(f"pixel {number}" for number in range(5000))):
        with pytest.raises(DatasetError) as refused:
            read(table(tmp_path, content))
        assert len(str(refused.value)) < 1000


def test_a_stray_quote_that_swallows_rows_is_told(tmp_path: Path) -> None:
    content = 'image,label,note\na.png,sick,"5 inch\nb.png,well,6\nc.png,well,7" film\nd.png,well,\n'
    found = read(table(tmp_path, content))
    assert labels(found) == {"d.png": "well"}
    assert "quote missing or superfluous" in reasons(found)["a.png"]


def test_long_fields_are_read(tmp_path: Path) -> None:
    found = read(table(tmp_path, f"image,label,note\na.png,sick,{'x' * 300_000}\nb.png,well,\n"))
    assert labels(found) == WANTED


def test_rows_with_more_cells_than_the_header_are_set_aside_by_their_line(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label\na.png,sick, very\nb.png,well\n"))
    assert labels(found) == {"b.png": "well"}
    assert "It has 3 cells, but the header has 2" in reasons(found)["t.csv, line 2"]


def test_rows_that_end_early_have_nothing_in_the_other_columns(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label,note\na.png,sick\nb.png\nc.png,well,x\n"))
    assert labels(found) == {"a.png": "sick", "c.png": "well"}
    assert "empty" in reasons(found)["b.png"]


def test_each_row_without_an_image_is_set_aside(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label\n,sick\na.png,sick\n,well\n"))
    assert set(reasons(found)) == {"t.csv, line 2", "t.csv, line 4"}


def test_two_columns_of_one_name_are_refused_where_it_counts(tmp_path: Path) -> None:
    content = "image,label,Label,note,note\na.png,sick,well,,\n"
    assert labels(read(table(tmp_path, content))) == {"a.png": "sick"}
    with pytest.raises(DatasetError, match="2 columns named 'note'"):
        read(table(tmp_path, content), label="note")
    with pytest.raises(DatasetError, match="2 columns named 'LABEL'"):
        read(table(tmp_path, content), label="LABEL")


def test_labels_that_stand_for_none_may_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label\na.png,sick\nb.png,well\nc.png,Unknown\nd.png,NaN\ne.png,#N/A\n")
    assert labels(read(path)) == {**WANTED, "c.png": "Unknown"}
    found = read(path, missing_labels=("unknown",))
    assert labels(found) == WANTED
    assert "'Unknown', a word for a missing label" in reasons(found)["c.png"]
    assert found.warnings == [
        "t.csv: rows set aside because they have no label: 3 ('Unknown' 1, 'NaN' 1, '#N/A' 1)."
    ]


def test_blanks_after_labels_are_left_out_with_a_warning(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label\na.png,sick \nb.png,well\n"))
    assert labels(found) == WANTED
    assert "spaces around labels were removed: 1" in found.warnings[0] and "'sick '" in found.warnings[0]


@pytest.mark.parametrize(
    ("given", "there"),
    [
        (r"images\a.png", "images/a.png"),
        (r".\images\a.png", "images/a.png"),
        (r"C:\data\set 1\images\a.png", "images/a.png"),
        (r"\\server\share\images\a.png", "images/a.png"),
        ("D:/images/a.png", "images/a.png"),
        ("/home/somebody/images/a.png", "images/a.png"),
        ("images/A.PNG", "images/a.png"),
        ("Images/a.png", "images/a.PNG"),
        (
            unicodedata.normalize("NFC", "images/Übersicht.png"),
            unicodedata.normalize("NFD", "images/Übersicht.png"),
        ),
        (unicodedata.normalize("NFD", "images/é.png"), unicodedata.normalize("NFC", "images/É.png")),
    ],
)
def test_paths_of_other_systems_are_found(tmp_path: Path, given: str, there: str) -> None:
    write_image(tmp_path / there)
    (row,) = read(table(tmp_path, f"image,label,mask\n{given},sick,{given}\n")).rows
    assert (row.name, row.image, row.mask) == (there, tmp_path / there, tmp_path / there)


def test_a_path_that_is_there_as_it_stands_is_taken_so(tmp_path: Path) -> None:
    for name in (r"images\a.png", "images/a.png", "A.png", "a.png"):
        write_image(tmp_path / name)
    found = read(table(tmp_path, "image,label\nimages\\a.png,sick\na.png,well\nA.png,sick\n"))
    assert [row.image.name for row in found.rows] == [r"images\a.png", "a.png", "A.png"]


def test_a_path_that_fits_several_files_or_a_file_that_fits_several_paths_is_set_aside(
    tmp_path: Path,
) -> None:
    for name in ("a.png", "A.png", "b.png", "c.png"):
        write_image(tmp_path / name)
    content = "image,label\na.PNG,sick\nC:\\one\\b.png,well\nC:\\two\\b.png,well\nc.png,sick\n"
    found = read(table(tmp_path, content))
    assert labels(found) == {"c.png": "sick"}
    assert "A.png and a.png" in reasons(found)["a.PNG"].replace("a.png and A.png", "A.png and a.png")
    assert r"C:\one\b.png and C:\two\b.png would both be this file" in reasons(found)["b.png"]


def test_a_path_that_leads_out_of_the_folder_is_not_searched_for(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png")
    (tmp_path / "inner").mkdir()
    (row,) = read(table(tmp_path / "inner", "image,label\nx\\..\\..\\B.png,sick\n")).rows
    assert not row.image.exists()


def test_files_that_the_table_does_not_list_are_counted(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.png", "images/c.png"):
        write_image(tmp_path / name)
    (tmp_path / "images" / "notes.txt").touch()
    found = read(table(tmp_path, "image,label\nimages/a.png,sick\n"))
    assert found.passed_over == {"files that the table does not list": {"images": 2}}


@pytest.mark.parametrize(
    ("option", "columns"), [("split", {"split": "fold"}), ("group", {"group": ("fold",)})]
)
def test_a_column_that_was_named_and_is_empty_is_not_taken_in_silence(
    tmp_path: Path, option: str, columns: dict[str, object]
) -> None:
    found = read(
        table(tmp_path, "image,label,fold\na.png,sick,train\nb.png,well,\nc.png,well,NaN\n"), **columns
    )
    assert labels(found) == {"a.png": "sick"}
    assert "It has no 'fold'" in reasons(found)["b.png"]
    assert "It has no 'fold'" in reasons(found)["c.png"]
    with pytest.raises(DatasetError, match=rf"'fold' is empty in every row.*omit --{option}"):
        read(table(tmp_path, "image,label,fold\na.png,sick,\nb.png,well,\n"), **columns)


def test_a_usual_column_that_is_empty_in_some_rows_is_warned_of(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label,split,group\na.png,sick,train,\nb.png,well,,\n"))
    assert labels(found) == WANTED
    assert found.warnings[0].startswith("t.csv: rows without 'split': 1 of 2.")
    assert len(found.warnings) == 1


def test_a_label_that_contradicts_the_folder_is_followed_with_a_warning(tmp_path: Path) -> None:
    found = read(table(tmp_path, "image,label\nsick/a.png,well\nwell/b.png,well\np1/c.png,sick\n"))
    assert labels(found)["sick/a.png"] == "well"
    assert "named after another class: 1 (the first: sick/a.png is 'well'" in found.warnings[0]


def test_texts_that_the_store_cannot_keep_are_set_aside(tmp_path: Path) -> None:
    content = (
        f"image,label,group\na.png,sick,\nb.png,{'x' * 201},\nc.png,well,{'x' * 201}\n{'d' * 5000},well,\n"
    )
    found = read(table(tmp_path, content))
    found.check_texts()
    assert labels(found) == {"a.png": "sick"}
    assert "label has 201 characters; the limit is 200" in reasons(found)["b.png"]
    assert "group has 201" in reasons(found)["c.png"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.xlsx", b"PK\x03\x04", "workbook. Save the sheet"),
        ("t.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "workbook"),
        ("t.csv.gz", b"\x1f\x8b\x08", "gzip. Unpack it first"),
        ("t.7z", b"7z\xbc\xaf\x27\x1c", "Unpack it first"),
        ("t.tar", b"a" * 257 + b"ustar\0" + b"0" * 300, "tar archive"),
        ("t.parquet", b"PAR1xx", "as CSV"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(300), "a single image"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(300), "a single image (DICOM)"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    with pytest.raises(DatasetError) as refused:
        read(table(tmp_path, content, name))
    assert name in str(refused.value) and words in str(refused.value)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=200), st.text(alphabet='image,label\n\r";\t|=.\\/\ufeff{}aé', max_size=120))
)
def test_whatever_is_in_a_table_it_is_read_or_refused(tmp_path: Path, content: str | bytes) -> None:
    start = b"image,label\n" if isinstance(content, str) else b""
    data = content.encode() if isinstance(content, str) else content
    try:
        read(table(tmp_path, start + data)).check_texts()
    except DatasetError as refused:
        str(refused).encode()

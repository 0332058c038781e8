from __future__ import annotations

import pytest

from imil_backend.loop.sources.file_names import is_utf8, printable
from imil_backend.loop.sources.tables.labels import is_missing, look_alikes


@pytest.mark.parametrize(
    "label",
    [
        *(
            "",
            " ",
            "#N/A",
            "#N/A N/A",
            "#NA",
            "-1.#IND",
            "-1.#QNAN",
            "-NaN",
            "-nan",
            "1.#IND",
            "1.#QNAN",
            "<NA>",
        ),
        *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NONE", " nan ", "NaT"),
    ],
)
def test_what_pandas_reads_as_missing_stands_for_none(label: str) -> None:
    assert is_missing(label)


@pytest.mark.parametrize("label", ["normal", "no", "0", "none seen", "nano", "-", "No finding"])
def test_other_labels_do_not(label: str) -> None:
    assert not is_missing(label)


@pytest.mark.parametrize(
    "alike",
    [
        ("0", "0.0"),
        ("1", "01"),
        ("Well", "well"),
        ("no finding", "no_finding"),
        ("no finding", "no  finding"),
        ("no finding", "no\u00a0finding"),
        ("M\u00fcde", "Mu\u0308de"),
        ("stra\u00dfe", "STRASSE"),
        ("well", "well\u200b"),
        ("A", "\uff21"),
    ],
)
def test_labels_that_look_alike_are_named_together(alike: tuple[str, str]) -> None:
    assert look_alikes([*alike, "other"]) == [tuple(sorted(alike))]


def test_labels_that_differ_are_not() -> None:
    assert look_alikes(["-1", "1", "HER2-", "HER2+", "HER2", "inf", "nan", "_", "-", "I", "l"]) == []


def test_names_of_any_bytes_can_be_printed() -> None:
    for name, shown in (("a.png", "a.png"), ("é", "é"), ("caf\udce9", r"caf\xe9"), ("\ud800", r"\ud800")):
        assert printable(name) == shown
        assert is_utf8(name) == (name == shown)

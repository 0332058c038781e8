"""`imil import`: which options mean something, and what is said at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from imil_backend.cli import app

pytestmark = pytest.mark.slow  # whole commands, on data directories


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, no settings of this machine, a data directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


def film(number: int) -> Image.Image:
    """A picture of its own: a ramp that is another one for each number."""
    return Image.linear_gradient("L").rotate(25 * number).resize((8, 6))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for number in range(12):
        folder = tmp_path / "films" / ("sick", "fit")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        film(number).save(folder / f"{number}.png")
    return tmp_path / "films"


def imil(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def refused(*arguments: object) -> str:
    result = imil(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    "options",
    [
        *(("--image", "x"), ("--label", "x"), ("--split", "x"), ("--group", "x"), ("--mask", "x")),
        *(("--mask-means", "relevant"), ("--missing-label", "x")),
        *(("--class-choices", "x"), ("--several", "majority")),
    ],
)
def test_an_option_that_means_nothing_for_class_folders_is_refused(
    films: Path, options: tuple[str, str]
) -> None:
    assert f"{options[0]} does not apply" in refused(films, *options)


@pytest.mark.parametrize(
    "options",
    [("--label", "label"), ("--mask", "x"), ("--mask-means", "relevant"), ("--missing-label", "x")],
)
def test_an_option_that_means_nothing_for_label_studio_is_refused_before_it_is_asked(
    options: tuple[str, str],
) -> None:
    message = refused("--label-studio", 4, *options)
    assert f"{options[0]} does not apply to a project of Label Studio. Omit it." in message


@pytest.mark.parametrize("options", [("--class-choices", "x"), ("--several", "latest")])
def test_an_option_of_label_studio_is_refused_for_a_table(films: Path, options: tuple[str, str]) -> None:
    (films / "index.csv").write_text("image,label\nsick/0.png,sick\nfit/1.png,fit\n")
    assert f"{options[0]} does not apply to files" in refused(films / "index.csv", *options)


def test_options_that_mean_nothing_are_named_together() -> None:
    message = refused("--label-studio", 4, "--label", "x", "--mask", "y")
    assert "--label and --mask do not apply to a project of Label Studio. Omit them." in message


def test_what_was_passed_over_and_what_is_warned_of_is_said(films: Path) -> None:
    (films / "@eaDir").mkdir()
    (films / "@eaDir" / "a[1].png").touch()
    (films / "sick" / "notes.txt").touch()
    (films / "Sick").mkdir()
    film(12).save(films / "Sick" / "x.png")
    result = imil(films)
    assert result.exit_code == 0, result.output
    assert "Passed over, thumbnails: 1 (@eaDir 1)" in result.stdout
    assert "Passed over, files that are not images: 1 (*.txt 1)" in result.stdout
    assert "Warning The classes 'Sick' and 'sick' look alike" in result.stdout
    report = json.loads(imil(films, "--json").stdout)
    assert report["passed_over"]["thumbnails"] == {"@eaDir": 1}
    assert len(report["warnings"]) == 1


def test_names_that_are_not_utf8_end_no_import_and_are_printed_escaped(films: Path) -> None:
    for name in (b"caf\xe9.png", b"caf\xe9.txt"):
        (films / "sick" / os.fsdecode(name)).write_bytes(b"x")
    for arguments in ((films,), (films, "--json"), (films, "--limit", 4)):
        result = imil(*arguments)
        assert result.exit_code == 0, result.output
        assert "sick/caf\\xe9.png" in result.stdout.replace("\\\\", "\\")
    status = CliRunner().invoke(app, ["status"])
    assert "Set aside sick/caf\\xe9.txt: Its name is not UTF-8." in status.stdout


def test_a_source_or_a_name_that_is_not_utf8_is_refused_in_letters_that_can_be_printed(films: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert "The name caf\\xe9 is not UTF-8" in refused(films, "--name", name)
    assert "caf\\xe9 is not UTF-8" in refused(films.rename(films.with_name(name)))

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.png import write_png
from support.push import png
from typer.testing import CliRunner, Result

import imil_backend
from imil_backend.cli import app
from imil_backend.images.intensity.windows import PRESETS

pytestmark = pytest.mark.slow  # whole commands, on data directories

COMMANDS = [command.name for command in app.registered_commands]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, no settings of this machine, a data directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "IMIL_WEIGHTS", "IMIL_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "films" / ("sick", "fit")[number % 2] / f"{number}[x].png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(8, 6, seed=number))
    (tmp_path / "films" / "sick" / "[/broken].png").parent.mkdir(exist_ok=True)
    (tmp_path / "films" / "sick" / "bad[red].png").touch()
    return tmp_path / "films"


def imil(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = imil(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """The one line that a command ends with when it is refused."""
    result = imil(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    assert "Usage: " in ok(name, "--help")


def test_the_dashboard_of_an_empty_installation_is_written_and_written_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert "2 pages and 2 pictures written" in ok("dashboard", "--static", tmp_path / "copy")
    (tmp_path / "copy" / "imil-dashboard.json").unlink()
    assert "is not empty, and no earlier copy" in refused("dashboard", "--static", tmp_path / "copy")
    assert "There is no dataset" in refused("dashboard", "--static", tmp_path / "other", "--dataset", "x")


def test_all_the_commands_are_there() -> None:
    wanted = (
        "import train mispredictions push serve worker status models promote rollback export phantoms weights"
    )
    assert set(wanted.split()) <= set(COMMANDS)
    assert ok("--version").strip() == imil_backend.__version__


def test_an_import_shows_what_came_in_and_what_was_set_aside(films: Path) -> None:
    shown = ok("import", films)
    assert "12 samples added, 0 were known already." in shown
    assert "Set aside sick/bad[red].png: bad[red].png is empty" in shown
    report = json.loads(ok("import", films, "--json"))
    assert (report["added"], report["known"]) == (0, 12)


def test_an_import_shows_counts_that_can_be_checked_at_a_glance(films: Path) -> None:
    for number in range(3):
        (films / "fit" / f"cut-{number}.png").write_text("no image")
    shown = ok("import", films)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    for row in (
        ["fit", "4", "1", "1", "6"], ["sick", "4", "1", "1", "6"], ["samples", "8", "2", "2", "12"],
        ["groups", "8", "2", "2", "12"], ["read now", "16"], ["added", "12"], ["known already", "0"],
        ["set aside", "4"], ["duplicates", "0"], ["near-duplicates", "0"],
    ):  # fmt: skip
        assert row in rows
    assert (
        "Set aside 3, such as fit/cut-0.png, fit/cut-1.png, fit/cut-2.png: cut-0.png is not a JPEG" in shown
    )
    assert "No image has a group (patient): images of one patient may be in train and in validation" in shown
    report = json.loads(ok("import", films, "--json"))
    assert [each["count"] for each in report["set_aside_reasons"]] == [3, 1]


def test_copies_are_shown_with_what_becomes_of_them(films: Path) -> None:
    shutil.copy(films / "sick" / "0[x].png", films / "fit" / "copy.png")
    left = "the same image has another label too"
    assert f"metrics: 2, such as fit/copy.png = sick/0[x].png: {left}." in ok("import", films)
    assert f"2 samples are excluded: {left}." in ok("status")


def test_what_would_be_removed_is_shown_with_its_size_and_removed_without_dry_run(tmp_path: Path) -> None:
    assert ok("gc", "--dry-run") == "0.0 MiB would be removed.\n"
    cache = tmp_path / "data" / "cache" / "64px_1ch"
    cache.mkdir(parents=True)
    (cache / "lock").touch()
    (cache / "pixels.u8").write_bytes(bytes(3 * 2**20))
    shown = ok("gc", "--dry-run")
    row = ["cache", "64px_1ch", "no training of a dataset uses it", "3.0"]
    assert row in [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    assert shown.endswith("3.0 MiB would be removed.\n")
    assert cache.exists()
    assert json.loads(ok("gc", "--json"))[0]["bytes"] == 3 * 2**20
    assert not cache.exists()


def test_status_as_json_is_json_alone(films: Path) -> None:
    assert json.loads(ok("status", "--json")) == {
        "worker_running": False,
        "unfinished_erasures": [],
        "datasets": [],
    }
    ok("import", films)
    (dataset,) = json.loads(ok("status", "--json"))["datasets"]
    assert (dataset["name"], dataset["champion"], dataset["round"]) == ("films", None, None)
    assert "bad[red].png" in ok("status")


def test_before_the_first_import_every_command_says_what_to_do() -> None:
    for command in ("train", "mispredictions", "push", "simulate", "reconcile", "models", "rollback"):
        assert "imil import SOURCE" in refused(command)


def test_before_the_baseline_every_command_says_what_to_do(films: Path) -> None:
    ok("import", films)
    for command in ("mispredictions", "push"):
        assert "Train one: `imil train`" in refused(command)
    assert "imil push" in refused("reconcile")
    assert "no previous champion" in refused("rollback")
    assert "no such closed round" in refused("report")
    assert "--all" in refused("export", "out")


def test_one_of_several_datasets_must_be_named(films: Path) -> None:
    ok("import", films)
    ok("import", films, "--name", "other [dim]")
    assert "--dataset" in refused("models")
    assert "'absent'" in refused("status", "-d", "absent")
    assert "other [dim]" in ok("status", "-d", "other [dim]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "absent"), "absent does not exist"),
        (("promote", "absent"), "no version 'absent'"),
        (("weights", "--from", "absent.safetensors"), "absent.safetensors"),
        (("--data-dir", "/dev/null/data", "status"), "cannot be created"),
    ],
)
def test_what_cannot_be_done_ends_with_one_clear_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    "arguments", [("--data-dir", "here", "import"), ("import", "--data-dir", "here"), ("import",)]
)
def test_the_data_directory_is_named_on_either_side_of_the_command(
    films: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ok(*arguments, films)
    assert (tmp_path / "here").exists() == ("--data-dir" in arguments)
    assert (tmp_path / "data").exists() == ("--data-dir" not in arguments)


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMIL_PORT", "none")
    assert "IMIL_PORT" in refused("status")


def test_a_recipe_or_policy_that_cannot_be_followed_is_refused_at_once(films: Path) -> None:
    ok("import", films)
    assert "mining_epoch" in refused("train", "--epochs", 2, "--mining-epoch", 2)
    assert "promotion_margin" in refused("push", "--promotion-margin", 0)
    assert json.loads(ok("status", "--json"))["datasets"][0]["round"] is None


def test_a_window_is_chosen_at_the_import_and_named_by_it(tmp_path: Path, films: Path) -> None:
    result = imil("import", films, "--window", "40,400")
    assert (result.exit_code, "none has more than 8 bits" in result.stderr) == (1, True)
    assert "'lungs' is not a window" in refused("import", films, "--window", "lungs")
    for number in range(12):
        path = tmp_path / "scans" / ("sick", "fit")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.random.default_rng(number).integers(0, 2000, (6, 8), np.uint16))
    shown = ok("import", tmp_path / "scans", "--window", "-600,1500")
    assert (
        "12 images have more than 8 bits; clinicians see them with the window center -600, width 1500"
        in shown
    )
    assert "(lung)" in shown
    report = json.loads(ok("import", tmp_path / "scans", "--window", "own", "--json"))
    assert report["shown_by"] == {"from the darkest to the brightest value": 12}
    assert all(preset in ok("import", "--help") for preset in PRESETS)


def test_planting_says_so_and_a_dry_run_writes_nothing(films: Path, tmp_path: Path) -> None:
    command = ("plant", films, tmp_path / "copy", "--marker", "tube", "--marker", "tag")
    shown = ok(*command, "--dry-run")
    assert "PLANTED: tube + tag" in shown and "nothing was written" in shown
    assert not (tmp_path / "copy").exists()
    assert f"12 PLANTED images in {tmp_path / 'copy'}. Import them: imil import" in ok(*command)
    assert "12 samples added" in ok("import", tmp_path / "copy", "--mask-means", "irrelevant")


def test_phantoms_can_be_imported_as_they_are_drawn(tmp_path: Path) -> None:
    ok("phantoms", tmp_path / "phantoms", "--count", 40, "--size", 64)
    assert "40 samples added" in ok("import", tmp_path / "phantoms")
    assert json.loads(ok("status", "--json"))["datasets"][0]["name"] == "phantoms"

"""The lines of docs/python.md, run as they stand, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from safetensors.torch import load_file
from support.label_studio import RunningLabelStudio
from typer.testing import CliRunner

from imil_backend.api import Imil
from imil_backend.cli import app
from imil_backend.errors import RoundError, SettingsError
from imil_backend.images.masks.rle import encode_rle

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
WALK, RECIPES = (
    re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    for part in PAGE.split("## With a label-studio-sdk client")
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """In a folder of its own, with no settings of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "IMIL_WEIGHTS", "IMIL_DATABASE_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("IMIL_DEVICE", "cpu")
        yield patch


@pytest.fixture(scope="module")
def notebook(alone: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What stands in the notebook's names after the walk through the API."""
    names: dict[str, Any] = {}
    try:
        for block in WALK:
            exec(block, names)
        yield names
    finally:
        if "imil" in names:
            names["imil"].close()


@pytest.mark.training
def test_the_walk_imports_and_trains(notebook: dict[str, Any]) -> None:
    assert sum(sum(counts.values()) for counts in notebook["report"].counts.values()) == 60
    assert notebook["trained"].verdict == "promote"
    assert notebook["trained"].version.name == notebook["version"].name
    [listed] = notebook["imil"].versions()
    assert (listed["name"], listed["champion"]) == (notebook["version"].name, True)


@pytest.mark.training
def test_the_walk_ranks_what_was_mispredicted(notebook: dict[str, Any]) -> None:
    asked = notebook["asked"]
    assert asked
    assert all(item.wrong and item.label != item.predicted and item.path.is_file() for item in asked)
    assert [item.rank for item in asked] == list(range(1, len(asked) + 1))


@pytest.mark.training
def test_the_walk_blacks_out_what_was_painted(notebook: dict[str, Any]) -> None:
    film, without = notebook["film"], notebook["without"]
    lower_left = np.zeros(film.shape, bool)
    lower_left[film.shape[0] // 2 :, : film.shape[1] // 2] = True
    assert np.array_equal(notebook["mask"], lower_left)
    assert np.array_equal(without, np.where(lower_left, 0, film))


@pytest.mark.training
def test_the_walk_predicts_on_files_and_pixels_alike(notebook: dict[str, Any]) -> None:
    assert notebook["probabilities"].shape == (2, 2)
    files = sorted(Path("phantoms/images").iterdir())[:10]
    by_file = notebook["version"].predict(files)
    assert np.allclose(by_file.sum(axis=1), 1)
    assert len(np.unique(by_file)) > 2
    assert np.array_equal(by_file, notebook["version"].predict(map(notebook["imil"].read_image, files)))


@pytest.mark.training
def test_the_walk_opens_the_version_in_torchvision(notebook: dict[str, Any]) -> None:
    assert type(notebook["network"]) is torchvision.models.ResNet
    exported = load_file(f"exported/{notebook['version'].name}.safetensors")
    fresh = torchvision.models.resnet50(num_classes=2)
    fresh.load_state_dict(exported)
    assert fresh.fc.weight.equal(notebook["network"].fc.weight)


@pytest.mark.training
def test_the_commands_see_the_same_data(notebook: dict[str, Any]) -> None:
    def imil(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["--data-dir", "imil_data", *arguments])
        return done.exit_code, done.output

    name = notebook["version"].name
    assert name in imil("models")[1]
    assert imil("export", "by-command", "--format", "torchvision")[0] == 0
    assert (
        Path(f"by-command/{name}.safetensors").read_bytes()
        == Path(f"exported/{name}.safetensors").read_bytes()
    )
    assert imil("export", "by-command", "--format", "torchvision", "--version", "absent")[0] == 1


@pytest.mark.training
def test_a_round_that_is_not_open_is_not_trained(notebook: dict[str, Any]) -> None:
    with pytest.raises(RoundError, match="No round is open"):
        notebook["imil"].train()
    with pytest.raises(SettingsError, match="uses its baseline's recipe"):
        notebook["imil"].train(epochs=5)


@pytest.mark.slow
def test_without_a_champion_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    for number in range(12):
        folder = tmp_path / "films" / ("sick", "fit")[number % 2]
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    with Imil(tmp_path / "data") as imil:
        assert imil.import_dataset(tmp_path / "films").added == 12
        with pytest.raises(RoundError, match="imil train"):
            imil.version()


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no setting devcie\. Settings: data_dir, "):
        Imil(tmp_path / "data", devcie="cpu")


@pytest.mark.training
@pytest.mark.label_studio
@pytest.mark.timeout(900)
def test_the_recipes_pass_results_to_and_from_an_sdk_client(
    notebook: dict[str, Any],
    label_studio: RunningLabelStudio,
    alone: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    alone.setenv("LABEL_STUDIO_URL", label_studio.url)
    alone.setenv("LABEL_STUDIO_API_KEY", label_studio.api_key)
    exec(RECIPES[0], notebook)
    connection = notebook["client"]._client_wrapper.httpx_client.httpx_client  # the SDK closes it nowhere
    request.addfinalizer(connection.close)
    there = list(label_studio.client.tasks(notebook["project"].id))
    assert len(there) == len(notebook["asked"])
    first = there[0]
    [prediction] = label_studio.predictions(first["id"])
    asked = {item.sample: item for item in notebook["asked"]}
    assert prediction["model_version"] == notebook["version"].name
    assert prediction["result"][0]["value"]["choices"] == [asked[first["data"]["sample"]].predicted]

    painted = np.zeros((256, 256), np.uint8)
    painted[:40, 200:] = 255
    brush = {"format": "rle", "rle": encode_rle(painted), "brushlabels": ["Irrelevant"]}
    region = {
        "id": "r", "type": "brushlabels", "from_name": "brush", "to_name": "image", "value": brush,
        "original_width": 256, "original_height": 256, "image_rotation": 0,
    }  # fmt: skip
    notebook["client"].annotations.create(id=first["id"], result=[region])
    exec(RECIPES[1], notebook)
    film = notebook["imil"].read_image(asked[first["data"]["sample"]].path)
    assert notebook["blackouts"].keys() == {first["data"]["sample"]}
    assert np.array_equal(notebook["blackouts"][first["data"]["sample"]], np.where(painted > 0, 0, film))

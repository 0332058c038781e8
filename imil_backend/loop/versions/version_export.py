"""A version as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError, StoreError
from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.base.backend import find_dataset
from imil_backend.loop.versions.champions import find_version, required_champion
from imil_backend.loop.versions.verification import check_weights
from imil_backend.store.tables import Dataset, Version

VersionFormat = Literal["onnx", "torchvision"]


def version_or_champion(session: Session, dataset: str | None = None, name: str | None = None) -> Version:
    """The version of this name, or the champion of this dataset (of the only one, if none is named).

    Raises:
        NotFoundError: there is no such version or dataset, or the version is another dataset's.
        RoundError: the dataset has no champion yet.
    """
    if name is None:
        return required_champion(session, find_dataset(session, dataset))
    version = find_version(session, name)
    own = session.get_one(Dataset, version.dataset_id).name
    if dataset not in {None, own}:
        raise NotFoundError(f"The version {name!r} belongs to dataset {own!r}, not {dataset!r}.")
    return version


def export_version(version: Version, directory: Path, form: VersionFormat) -> Path:
    """Write a version under its name into a directory, which is created if missing.

    Args:
        version: which.
        directory: where to.
        form: `onnx`, checked against torch; or `torchvision`, a state dict as safetensors with its
            configuration beside it.

    Returns:
        The file.

    Raises:
        SettingsError: the packages for ONNX are not installed.
        StoreError: the weights have changed since they were trained, or the directory cannot be written.
        WeightsError: torchvision's network is not that of this version, or ONNX Runtime and torch disagree.
    """
    from imil_backend.learning.networks.network import load_model
    from imil_backend.learning.networks.network_export import write_onnx, write_state_dict

    check_weights([version])
    network, config = load_model(Path(version.directory) / MODEL_FILE)
    suffix, write = {"onnx": (".onnx", write_onnx), "torchvision": (".safetensors", write_state_dict)}[form]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory} cannot be created: {error.strerror}.") from error
    path = directory / f"{version.name}{suffix}"
    write(path, network, config)
    return path

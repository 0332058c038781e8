"""Blacked-out images and masks as files, for other tools."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sqlalchemy import select

from imil_backend.errors import DatasetError, ImageError, MaskError, StoreError
from imil_backend.files import write_atomically
from imil_backend.images.masks.blackout import black_out
from imil_backend.loop.answers.sample_states import SampleState, load_mask, mask_path, sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import PAINTED
from imil_backend.store.tables import Dataset, Sample

MANIFEST = "manifest.csv"
COLUMNS = (
    "sample",
    "source",
    "label",
    "split",
    "group",
    "state",
    "image",
    "mask",
    "blacked_out_share",
    "excluded",
)
# What begins a formula, in ASCII or full width: at the start of a cell, or behind what may separate cells.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    manifest: Path
    written: int
    set_aside: tuple[tuple[str, str], ...]  # sample key, reason


def export(
    backend: Backend,
    dataset: Dataset,
    directory: Path,
    *,
    everything: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write each blacked-out sample as a PNG of natural size beside its mask, and a manifest of all.

    PNG, because JPEG leaves grey under a blackout.

    Args:
        backend: where the originals and masks are.
        dataset: which.
        directory: output directory; created if missing.
        everything: include the samples that are not blacked out.
        progress: called with the number of samples done, and of all.

    Raises:
        DatasetError: there is nothing to export.
        StoreError: the directory cannot be written.
    """
    with backend.store.begin() as session:
        states = sample_states(backend, session, dataset)
        samples = session.scalars(select(Sample).where(Sample.dataset_id == dataset.id).order_by(Sample.id))
        chosen = [sample for sample in samples if everything or sample.id in states]
    if not chosen:
        raise DatasetError(
            f"Nothing in dataset {dataset.name!r} has been answered yet. --all exports every sample "
            "unchanged."
        )
    try:
        set_aside = _write_all(backend, chosen, states, policy_of(dataset).fill, directory, progress)
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error.strerror}. Is the disk full?") from error
    return ExportReport(directory / MANIFEST, len(chosen) - len(set_aside), tuple(set_aside))


def as_text(value: object) -> object:
    """A cell that no spreadsheet takes for a formula, whatever its separator: behind an apostrophe."""
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def _write_all(
    backend: Backend,
    chosen: list[Sample],
    states: Mapping[int, SampleState],
    fill: str,
    directory: Path,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[str, str]]:
    for folder in ("images", "masks"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    set_aside = []
    with (directory / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for done, sample in enumerate(chosen, start=1):
            state = states.get(sample.id, SampleState(None, None))
            try:
                row = _write(backend, sample, state, fill, directory)
                table.writerow({column: as_text(value) for column, value in row.items()})
            except (ImageError, MaskError) as error:
                set_aside.append((sample.key, str(error)))
            if progress:
                progress(done, len(chosen))
    return set_aside


def _write(
    backend: Backend, sample: Sample, state: SampleState, fill: str, directory: Path
) -> dict[str, object]:
    image = backend.read_image(Path(sample.path))
    row: dict[str, object] = {
        "sample": sample.key,
        "source": sample.name,
        "label": sample.label,
        "split": sample.split,
        "group": sample.group,
        "state": state.excluded_as or (PAINTED if state.mask_sha256 else "original"),
        "image": f"images/{sample.key}.png",
        "mask": "",
        "blacked_out_share": 0.0,
        "excluded": sample.excluded or "",
    }
    if state.mask_sha256:
        mask = load_mask(backend, state.mask_sha256, sample)
        image = black_out(image, mask, fill)
        row["mask"] = f"masks/{sample.key}.png"
        row["blacked_out_share"] = round(float(mask.mean()), 4)
        png = mask_path(backend, state.mask_sha256).read_bytes()
        write_atomically(directory / "masks" / f"{sample.key}.png", png)
    Image.fromarray(image).save(directory / "images" / f"{sample.key}.png")
    return row
